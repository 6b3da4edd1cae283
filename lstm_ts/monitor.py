"""`python -m lstm_ts.monitor`: forecast every session hour, compare with what came, say what changed.

Each run goes on where the last one ended; one that finds nothing new changes nothing. What it knows lies in the ledger,
and each step is one transaction there: a killed run loses no outcome, and the next one doubles none.
"""

import logging
from collections.abc import Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("monitor")  # before what is slow to import

import polars as pl
from omegaconf import DictConfig

from lstm_ts import clock
from lstm_ts.cli import check_registry, construct, entry_point, processed_store, raw_store
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.evaluate import Span, evaluate
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import DailyScore, FindingRow, HourlyForecast, MonitorState, Outcome, Score
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.features import Bars
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.monitoring.daily import day_of, sum_days
from lstm_ts.monitoring.feed import FeedLimits, check_quality, check_staleness
from lstm_ts.monitoring.findings import Finding
from lstm_ts.monitoring.hourly import find_edges, list_forecasts, list_scores, make_record
from lstm_ts.monitoring.outcomes import find_outcomes
from lstm_ts.monitoring.skew import check_served
from lstm_ts.registry.registry import ALIASES, Registry
from lstm_ts.registry.version import Version
from lstm_ts.scoring.records import ForecastRecord

log = logging.getLogger(__name__)
MICROSECOND, DAY, MONTH = timedelta(microseconds=1), timedelta(days=1), timedelta(days=31)
LATE = 8 * DAY  # how late a bar may come for its hour still to be forecast and scored
MIN_DAYS = 14  # of retention: more than LATE
REFERENCE, SERVED = "reference", "served"  # kinds of states: what a version was before; up to when requests are checked


@dataclass(frozen=True)
class Watched:
    """A version that holds an alias; its forecasts count from its decision on: it was made before their outcomes."""

    alias: str
    version: Version
    decision: DecisionRow

    def __str__(self) -> str:
        return f"{self.alias} of {self.version.name}, version {self.version.number}"


@dataclass(frozen=True)
class Run:
    """One run of the monitor for one symbol: what it sees, and when."""

    ledger: Ledger
    symbol: Symbol
    hourly_bars: pl.DataFrame
    now: datetime
    kept_from: datetime  # midnight; forecasts, scores and outcomes of hours before are folded


@dataclass(frozen=True)
class Update:
    """What a run has to write about one version, and the record it was made of."""

    forecasts: list[HourlyForecast]
    scores: list[Score]
    days: list[DailyScore]
    states: list[MonitorState]
    record: ForecastRecord | None  # of the last days; None: there was no hour to forecast


def find_watched(registry: Registry, ledger: Ledger, name: str) -> list[Watched]:
    """The versions that hold an alias; one whose decision is not written down yet waits for it."""
    decisions = {decision.version: decision for decision in ledger.decisions(name)}
    holders = [(alias, registry.holder(name, alias)) for alias in ALIASES]
    return [
        Watched(alias, version, decisions[version.number])
        for alias, version in holders
        if version and version.number in decisions
    ]


def find_new_outcomes(run: Run, known: Sequence[Outcome], *, since: datetime) -> list[Outcome]:
    found = find_outcomes(run.symbol.name, run.hourly_bars, known, since=since, now=run.now)
    if revised := sum(outcome.revision > 0 for outcome in found):
        log.warning("%d outcomes of %s were revised; scores stay as they were", revised, run.symbol.name)
    return found


def update_version(
    run: Run, watched: Watched, forecaster: Forecaster, close_by_target: Mapping[datetime, float], since: datetime
) -> Update:
    """since   the first hour that may be new"""
    name, number = watched.version.name, watched.version.number
    with run.ledger.transaction() as connection:
        there = tables.read_forecasts(connection, name, number, since=since)
        scores = tables.read_scores(connection, name, number, since=midnight(since))
        reference = tables.read_state(connection, name, number, REFERENCE)
    new = forecast_hours(run, watched, forecaster, since=since, there={row.origin_ts for row in there})
    if not there and not new:
        return Update([], [], [], [], None)
    states = []
    if reference is None:
        reference = measure_reference(run, watched, forecaster)
        states.append(MonitorState(name, number, REFERENCE, run.now, reference))
    record = make_record(sorted(there + new, key=lambda row: row.origin_ts), close_by_target)
    scored = {(score.origin_ts, score.step) for score in scores}
    fresh = list_scores(record, scored, name=name, version=number, edges=reference["edges"], at=run.now)
    days = {day_of(score) for score in fresh}
    sums = sum_days([score for score in scores + fresh if day_of(score) in days], levels=len(record.levels))
    return Update(new, fresh, sums, states, record)


def forecast_hours(
    run: Run, watched: Watched, forecaster: Forecaster, *, since: datetime, there: Container[datetime]
) -> list[HourlyForecast]:
    """The forecasts that origins from `since` on lack."""
    try:
        record = evaluate(forecaster, run.hourly_bars, Span(since, run.now + MICROSECOND))
    except NoRows:
        return []
    rows = list_forecasts(
        record,
        Bars.of(run.hourly_bars),
        name=watched.version.name,
        version=watched.version.number,
        tsteps=forecaster.spec.tsteps,
        at=run.now,
    )
    return [row for row in rows if row.origin_ts not in there]


def measure_reference(run: Run, watched: Watched, forecaster: Forecaster) -> dict[str, Any]:
    """What the version was on the hours that its gate judged it on.

    Raises    NoRows: they are not stored
    """
    decision = watched.decision
    record = evaluate(forecaster, run.hourly_bars, Span(decision.span_start, decision.span_end))
    return {"edges": find_edges(record)}


def write(run: Run, name: str, outcomes: Sequence[Outcome], updates: Sequence[Update]) -> None:
    """One transaction: a run that is killed has written all of this or nothing."""
    with run.ledger.transaction() as connection:
        tables.add_outcomes(connection, outcomes)
        for update in updates:
            tables.add_forecasts(connection, update.forecasts)
            tables.add_scores(connection, update.scores)
            tables.put_daily_scores(connection, update.days)
            tables.put_states(connection, update.states)
        tables.remove_old(connection, name, run.symbol.name, before=run.kept_from)


def midnight(ts: datetime) -> datetime:
    return ts.replace(hour=0, minute=0, second=0, microsecond=0)


def find_start(run: Run, watched: Watched) -> datetime:
    """The first hour that may be new: where the last run ended, less the days whose bars may have come late."""
    with run.ledger.transaction() as connection:
        last = tables.last_origin(connection, watched.version.name, watched.version.number)
    return max(last - LATE, watched.decision.at) if last else watched.decision.at


def watch_versions(run: Run, name: str, watched: Sequence[tuple[Watched, Forecaster]]) -> list[Update]:
    """One step for every version, written together."""
    starts = [find_start(run, each) for each, _ in watched]
    since = min(starts, default=run.now)
    with run.ledger.transaction() as connection:
        known = tables.read_outcomes(connection, run.symbol.name, since=since)
    outcomes = find_new_outcomes(run, known, since=since)
    close_by_target = {outcome.target_ts: outcome.close for outcome in known + outcomes if outcome.revision == 0}
    updates = [
        update_version(run, each, forecaster, close_by_target, start)
        for (each, forecaster), start in zip(watched, starts, strict=True)
    ]
    write(run, name, outcomes, updates)
    return updates


def check_feed(cfg: DictConfig, run: Run) -> list[Finding]:
    limits: FeedLimits = construct(cfg.feed)
    session, stamps = run.symbol.session, run.hourly_bars["ts"]
    try:
        minute_bars = raw_store(cfg).read(start=stamps[-1] - DAY)
    except NoRows:
        minute_bars = pl.DataFrame(schema=BAR_SCHEMA)
    recent = stamps.filter(stamps > stamps[-1] - MONTH)
    return [
        check_staleness(run.symbol.name, stamps[-1], session, run.now, limits),
        check_quality(run.symbol.name, recent, minute_bars, session, run.now, limits),
    ]


def check_skew(run: Run, name: str) -> Finding:
    """Of the requests since the last check; those of hours that are not stored yet are left to the next one."""
    with run.ledger.transaction() as connection:
        state = tables.read_state(connection, name, 0, SERVED)
    since = datetime.fromisoformat(state["until"]) if state else run.now - LATE
    served = run.ledger.forecasts(name, since=since, until=run.now)
    stored_until = run.hourly_bars["ts"][-1] + HOUR
    until = min((row.at for row in served if row.origin_ts > stored_until), default=run.now)
    keys = {(row.version, row.origin_ts) for row in served}
    with run.ledger.transaction() as connection:
        found = {key: tables.find_forecast(connection, name, *key) for key in keys}
        tables.put_states(connection, [MonitorState(name, 0, SERVED, run.now, {"until": until.isoformat()})])
    return check_served(name, served, {key: row for key, row in found.items() if row}, since=since)


def record_findings(run: Run, findings: Sequence[Finding]) -> None:
    """Each as the last run saw it, and since when its health is what it is."""
    with run.ledger.transaction() as connection:
        before = {(row.rule, row.subject): row for row in tables.read_findings(connection)}
        rows = []
        for finding in findings:
            old = before.get((finding.rule, finding.subject))
            since = old.since if old and old.health == finding.health else run.now
            rows.append(FindingRow(at=run.now, since=since, **vars(finding)))
        tables.put_findings(connection, rows)


def monitor(cfg: DictConfig, ledger: Ledger, now: datetime) -> list[Finding]:
    registry, symbol = Registry(cfg.registry.uri, ledger), construct(cfg.symbol)
    kept_from = midnight(now - cfg.retention_days * DAY)
    hourly_bars = processed_store(cfg).read(end=now)
    run = Run(ledger, symbol, hourly_bars.filter(pl.col("ts") <= now - HOUR), now, kept_from)
    watched = [(each, registry.load(each.version)) for each in find_watched(registry, ledger, cfg.name)]
    updates = watch_versions(run, cfg.name, watched)
    for (each, _), update in zip(watched, updates, strict=True):
        print(f"{each}: {len(update.forecasts):,} hours forecast, {len(update.scores):,} forecasts scored")
    if not watched:
        print(f"No version of {cfg.name} to watch: python -m lstm_ts.retrain makes one")
    findings = [*check_feed(cfg, run), check_skew(run, cfg.name)]
    record_findings(run, findings)
    return findings


@entry_point("monitor")
def main(cfg: DictConfig) -> None:
    check_registry(cfg)
    if not isinstance(cfg.retention_days, int) or cfg.retention_days < MIN_DAYS:
        raise ConfigError(f"Expected retention_days of at least {MIN_DAYS}, got {cfg.retention_days}")
    with closing(Ledger(cfg.registry.ledger)) as ledger, ledger.exclusive(f"monitoring of {cfg.name}"):
        for finding in monitor(cfg, ledger, clock.now()):
            print(f"{finding.health.value:<8} {finding.rule}: {finding.sentence}")


if __name__ == "__main__":
    main()
