"""Detect a silent ingestion or monitor from outside, by the last stored bar and the last heartbeat.

Only session time counts: on a weekend nothing is late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lstm_ts.errors import ConfigError, DataError
from lstm_ts.ledger.alert_rows import MONITOR
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import HOUR, MINUTE, Session
from lstm_ts.market.symbol import name_model
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.machine import MachineLimits
from lstm_ts.monitoring.messages import format_time
from lstm_ts.monitoring.service import ServiceLimits
from lstm_ts.store.bar_store import BarStore

AHEAD = 5 * MINUTE  # of this clock: by how much others may differ


@dataclass(frozen=True, kw_only=True)
class SilenceLimits:
    """Limits in session hours."""

    ingest_hours: float  # since the last bar
    monitor_hours: float  # since the monitor last finished a run

    def __post_init__(self) -> None:
        for name, hours in vars(self).items():
            if not isinstance(hours, int | float) or not hours > 0:
                raise ConfigError(f"Expected checks.silence.{name} > 0, got {hours}; correct it")


@dataclass(frozen=True, kw_only=True)
class WatchLimits:
    """Limits of every check of `action=watch`."""

    machine: MachineLimits
    service: ServiceLimits
    silence: SilenceLimits


@dataclass(frozen=True)
class Market:
    symbol: str
    name: str  # of the registered model
    session: Session
    minutes: BarStore
    hours: BarStore  # made of those minutes, or ingested where a source has no minutes


def watch(ledger: Ledger, markets: Sequence[Market], limits: SilenceLimits, *, now: datetime) -> list[Finding]:
    """Find out for each market whether bars still come, and whether the monitor still checks its model."""
    beats = {beat.subject: beat.at for beat in ledger.heartbeats() if beat.component == MONITOR}
    ingests = [_check_ingest(market, limits, now) for market in markets]
    return ingests + [_check_monitor(market, beats.get(market.name), limits, now) for market in markets]


def _check_ingest(market: Market, limits: SilenceLimits, now: datetime) -> Finding:
    symbol = market.symbol
    command = f"python -m lstm_ts.ingest action=status symbol={symbol}"
    spans = {MINUTE: market.minutes, HOUR: market.hours}
    try:
        ends = [(ts + span, ts) for span, store in spans.items() if (ts := store.last_ts())]
    except DataError as error:
        return Finding("pipeline_late", symbol, Health.UNKNOWN, str(error), command)
    health = Health.UNKNOWN
    end, last_ts = max(ends, default=(now, None))
    if last_ts is None:
        sentence = f"No bar of {symbol} has ever been ingested."
    elif last_ts > now + AHEAD:
        sentence = (
            f"The last bar of {symbol} is of {format_time(last_ts)}, which is in the future: a clock or zone is wrong."
        )
    else:
        hours = market.session.time_open(end, now) / HOUR
        health = Health.BAD if hours >= limits.ingest_hours else Health.GOOD
        latest = format_time(last_ts)
        sentence = f"No bar of {symbol} has come for {hours:.1f} session hours: the last one is of {latest}."
    return Finding("pipeline_late", symbol, health, sentence, command)


def _check_monitor(market: Market, at: datetime | None, limits: SilenceLimits, now: datetime) -> Finding:
    name = market.name
    command = f"python -m lstm_ts.monitor {name_model(market.symbol, name)}"
    health = Health.UNKNOWN
    if at is None:
        sentence = f"The monitor has never checked {name}."
    elif at > now + AHEAD:
        sentence = f"The monitor has checked {name} at {format_time(at)}, which is in the future: a clock is wrong."
    else:
        hours = market.session.time_open(at, now) / HOUR
        health = Health.BAD if hours >= limits.monitor_hours else Health.GOOD
        sentence = f"The monitor has not checked {name} for {hours:.1f} session hours, since {format_time(at)}."
    return Finding("monitor_silent", name, health, sentence, command)
