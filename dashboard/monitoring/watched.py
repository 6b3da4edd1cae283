"""The monitoring page's access to the ledger: reads findings, forecasts and incidents, and writes silences."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_rows import DeliveryRow, Heartbeat, IncidentRow, SilenceRow
from lstm_ts.ledger.alert_tables import read_deliveries, read_latest, read_silences
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import DailyScore, FindingRow, HourlyForecast
from lstm_ts.ledger.monitor_tables import (
    last_origin,
    last_run,
    list_watched,
    read_daily_scores,
    read_findings,
    read_forecasts,
    read_outcomes,
    read_states,
)
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.monitoring.challenge import CHALLENGE
from lstm_ts.monitoring.silences import silence, unsilence
from lstm_ts.registry.version import ALIASES, CHALLENGER, DONE

LISTED = 30  # incidents
SHOWN = timedelta(days=31)  # of past forecasts, at most


@dataclass(frozen=True)
class Alarms:
    """Incidents, silences and heartbeats of all models."""

    incidents: tuple[IncidentRow, ...]  # the open ones first, the newest of each first
    deliveries: tuple[DeliveryRow, ...]
    silences: tuple[SilenceRow, ...]  # in force
    heartbeats: tuple[Heartbeat, ...]

    @property
    def open(self) -> list[IncidentRow]:
        return [row for row in self.incidents if row.ended_at is None]


@dataclass(frozen=True)
class Watched:
    """State of one registered name."""

    name: str
    last_run: datetime | None
    findings: tuple[FindingRow, ...]  # of all names
    versions: tuple[int, ...]  # that have been watched, ascending
    holders: Mapping[str, AliasChange]  # the last move of each alias
    challenge: Mapping[str, Any] | None  # `Challenge.to_json` of the challenger

    def version_of(self, alias: str) -> int | None:
        """Return the version that holds the alias."""
        return self.holders[alias].to_version if alias in self.holders else None


@dataclass(frozen=True)
class Past:
    """The last forecasts of one version, and the known outcomes."""

    forecasts: list[HourlyForecast]
    close_by_target: dict[datetime, float]

    @property
    def symbol(self) -> str:
        """Symbol of the forecasts; empty without any."""
        return self.forecasts[-1].symbol if self.forecasts else ""


class WatchedLedger:
    """Access to the ledger, shared by all visitors; its methods are thread-safe and raise LedgerError."""

    def __init__(self, url: str) -> None:
        self._ledger = Ledger(url, make=False)

    def names(self) -> list[str]:
        with self._ledger.transaction() as connection:
            return list(dict.fromkeys(name for name, _ in list_watched(connection)))

    def alarms(self, now: datetime) -> Alarms:
        heartbeats = self._ledger.heartbeats()
        with self._ledger.transaction() as connection:
            incidents = read_latest(connection, limit=LISTED)
            deliveries = read_deliveries(connection, incidents)
            silences = read_silences(connection, at=now)
        return Alarms(tuple(incidents), tuple(deliveries), tuple(silences), tuple(heartbeats))

    def watched(self, name: str) -> Watched:
        changes = {alias: self._ledger.alias_changes(name, alias) for alias in ALIASES}
        done = {alias: [row for row in rows if row.state == DONE] for alias, rows in changes.items()}
        holders = {alias: rows[-1] for alias, rows in done.items() if rows}
        challenger = holders[CHALLENGER].to_version if CHALLENGER in holders else None
        with self._ledger.transaction() as connection:
            versions = tuple(version for its, version in list_watched(connection) if its == name)
            findings = tuple(read_findings(connection))
            challenge = read_states(connection, name, challenger).get(CHALLENGE) if challenger else None
            return Watched(name, last_run(connection, name), findings, versions, holders, challenge)

    def past(self, name: str, version: int) -> Past:
        with self._ledger.transaction() as connection:
            last = last_origin(connection, name, version)
            if last is None:
                return Past([], {})
            forecasts = read_forecasts(connection, name, version, since=last - SHOWN)
            outcomes = read_outcomes(connection, forecasts[0].symbol, since=forecasts[0].origin_ts)
        return Past(forecasts, {row.target_ts: row.close for row in outcomes if row.revision == 0})

    def days(self, name: str, version: int, step: int) -> list[DailyScore]:
        """Return the daily scores, ascending."""
        with self._ledger.transaction() as connection:
            return read_daily_scores(connection, name, version, step=step)

    def silence(self, row: SilenceRow) -> None:
        silence(self._ledger, row)

    def unsilence(self, number: int, *, at: datetime, by: str, reason: str) -> SilenceRow:
        """Raises    ConfigError: it has ended meanwhile"""
        found = unsilence(self._ledger, lambda row: row.number == number, at=at, by=by, reason=reason)
        if not found:
            raise ConfigError("Expected a silence in force, got one that has ended meanwhile; nothing was changed.")
        return found[0]


watched_at = cache(WatchedLedger)  # one for all visitors
