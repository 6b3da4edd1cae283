"""Checks of the monitor beside the versions' forecasts (challenger, skill, regime, feed), and their records."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from lstm_ts.errors import NoRows, RegistryError
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import DailyScore, FindingRow, MonitorState
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.market.session import DAY
from lstm_ts.model.windows import in_span
from lstm_ts.monitoring import challenge as challenges
from lstm_ts.monitoring import live_skill
from lstm_ts.monitoring.challenge import CHALLENGE, Challenge
from lstm_ts.monitoring.confidence import SkillSettings
from lstm_ts.monitoring.feed import FeedLimits, check_quality, check_staleness
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.regime import RegimeSettings, check_regime, describe_regime, read_hours
from lstm_ts.monitoring.run import (
    LoadedModel,
    MonitorRun,
    MonitorSettings,
    find_traffic,
)
from lstm_ts.monitoring.standing_drift import find_drift
from lstm_ts.monitoring.verdict import ChallengeVerdict
from lstm_ts.monitoring.versions import RETRAINING, WatchedVersion
from lstm_ts.registry.version import CHALLENGER, CHAMPION
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.store.bar_store import BarStore

MONTH = timedelta(days=31)
ACTOR = "monitor"  # of moved aliases
LAST_DAY = date.max.isoformat()
LOGGED = "logged_until"  # within the state of live skill: the last day that MLflow has
NO_ORIGINS = np.empty(0, dtype=np.int64)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChallengerMove:
    """The decided move of a challenger."""

    version: int
    over: int | None  # the champion that it replaces; None: the challenger is released
    reason: str


def check_challenger(
    run: MonitorRun, loaded: Sequence[LoadedModel], settings: MonitorSettings
) -> tuple[Finding, ChallengerMove | None]:
    """Return the finding about the challenger, and the move to make, if any."""
    holders = {each.watched.alias: each.watched for each in loaded}
    if (challenger := holders.get(CHALLENGER)) is None:
        return challenges.describe(None, run.name, None), None
    challenge = _read_challenge(run, challenger, holders.get(CHAMPION))
    end = challenges.find_end(challenge, find_traffic(run, challenger), run.symbol.session, settings.verdict, run.now)
    finding = challenges.describe(challenger, run.name, challenge, end)
    if end:
        return finding, ChallengerMove(challenger.number, None, end)
    if challenge and challenge.verdict in settings.promoting and not _is_too_little(run, challenge):
        return finding, ChallengerMove(challenger.number, challenge.champion, challenge.sentence)
    return finding, None


def _is_too_little(run: MonitorRun, challenge: Challenge) -> bool:
    """Return whether the challenger is merely no worse than a champion that has drifted: too little to promote it."""
    is_no_worse = challenge.verdict is ChallengeVerdict.NO_WORSE
    return is_no_worse and find_drift(run.ledger, run.name, challenge.champion) is not None


def apply_move(run: MonitorRun, move: ChallengerMove) -> None:
    """Move the alias, with the verdict's numbers as the reason in its history."""
    if move.over is None:
        run.registry.release(run.name, move.version, actor=ACTOR, reason=move.reason)
    else:
        why = {"actor": ACTOR, "reason": move.reason}
        run.registry.promote(run.name, move.version, alias=CHAMPION, over=move.over, **why)


def _read_challenge(run: MonitorRun, challenger: WatchedVersion, champion: WatchedVersion | None) -> Challenge | None:
    """Return the challenge between these two versions; None: there is none."""
    with run.ledger.transaction() as connection:
        state = tables.read_states(connection, run.name, challenger.number).get(CHALLENGE)
    challenge = Challenge.from_json(state) if state else None
    return challenge if challenge and champion and challenge.champion == champion.number else None


def measure_skill(
    run: MonitorRun, watched: WatchedVersion, settings: SkillSettings, record: ForecastRecord | None
) -> Finding:
    """Measure live skill, and store it in the ledger for the service's replies, and by day in MLflow.

    record   of the forecasts that may still get a score
    """
    with run.ledger.transaction() as connection:
        days = tables.read_daily_losses(connection, watched.name, watched.number)
        before = tables.read_states(connection, watched.name, watched.number).get(live_skill.LIVE_SKILL, {})
    skills = live_skill.compute_live_skill(days, settings)
    until = min(run.now.date().isoformat(), live_skill.find_open_day(record) or LAST_DAY)
    logged = log_days(run, watched, days, since=before.get(LOGGED, ""), until=until)
    state = {**live_skill.to_json(skills), LOGGED: logged}
    with run.ledger.transaction() as connection:
        row = MonitorState(watched.name, watched.number, live_skill.LIVE_SKILL, run.now, state)
        tables.put_states(connection, [row])
    return live_skill.check_performance(watched, skills)


def log_days(run: MonitorRun, watched: WatchedVersion, days: Sequence[DailyScore], *, since: str, until: str) -> str:
    """Log the days after `since` and before `until` to the version's MLflow run; if that fails, the next run does so.

    since, until   ISO, UTC; a day that MLflow has stays as it is, so `until` is the first that may get more scores
    Returns        the last day that is there
    """
    new = sorted({day.day for day in days if since < day.day < until})
    if not new:
        return since
    points = live_skill.list_daily_metrics(days)
    try:
        version = run.registry.version(watched.name, watched.number)
        run.registry.log_daily(version, {day: points[day] for day in map(date.fromisoformat, new)})
    except RegistryError as error:
        log.warning("The live skill of the %s is not in MLflow yet: %s", watched, error)
        return since
    return new[-1]


def check_market(run: MonitorRun, champion: LoadedModel, settings: RegimeSettings) -> Finding:
    forecaster = champion.forecaster
    grid, provenance = forecaster.grid(run.hourly_bars), forecaster.provenance
    windows = forecaster.windows(grid, NO_ORIGINS)
    start, end = (datetime.fromisoformat(ts) for ts in (provenance.data_start, provenance.trained_until))
    training, recent = (
        read_hours(grid, windows, in_span(grid.origin_ts_G, *span)) for span in ((start, end), (end, None))
    )
    try:
        return describe_regime(run.name, check_regime(training, recent, settings))
    except NoRows as error:
        return Finding("regime", run.name, Health.UNKNOWN, f"{error}.")


def check_feed(run: MonitorRun, minutes: BarStore, limits: FeedLimits) -> list[Finding]:
    session, stamps = run.symbol.session, run.hourly_bars["ts"]
    try:
        minute_bars = minutes.read(start=stamps[-1] - DAY)
    except NoRows:
        minute_bars = pl.DataFrame(schema=BAR_SCHEMA)
    recent = run.hourly_bars.filter(stamps > stamps[-1] - MONTH)
    return [
        check_staleness(run.symbol.name, stamps[-1], session, run.now, limits),
        check_quality(run.symbol.name, recent, minute_bars, session, run.now, limits),
    ]


def record_findings(
    ledger: Ledger, findings: Sequence[Finding], now: datetime, *, gone: Sequence[Finding] = (), kept_from: datetime
) -> None:
    """Store the findings of this run, each with the time since which its health is the same.

    gone        findings to remove
    kept_from   findings that no run has updated since are removed, too
    """
    with ledger.transaction() as connection:
        before = {(row.rule, row.subject): row for row in tables.read_findings(connection)}
        rows = []
        for finding in findings:
            old = before.get((finding.rule, finding.subject))
            since = old.since if old and old.health == finding.health else now
            rows.append(FindingRow(at=now, since=since, **vars(finding)))
        tables.put_findings(connection, rows)
        left = [key for key, row in before.items() if row.at < kept_from]
        seen = {(row.rule, row.subject) for row in rows}
        forgotten = {*left, *((finding.rule, finding.subject) for finding in gone)} - seen
        tables.remove_findings(connection, sorted(forgotten))


def judge_job(job: str, code: int) -> Finding:
    """Judge a job of cron or Kubernetes by the exit code that it has ended with."""
    failed = f"The run of {job} has failed with exit code {code}: its log says why."
    health, sentence = (Health.BAD, failed) if code else (Health.GOOD, f"A run of {job} has succeeded.")
    return Finding("pipeline_failed", job, health, sentence, "the log of cron, or kubectl logs")


def request_retraining(ledger: Ledger, name: str, findings: Sequence[Finding], now: datetime) -> bool:
    """Return whether to request a retraining, and record it: the champion has drifted, without a request for a day."""
    drifted = {each.subject for each in findings if each.rule == "concept_drift" and each.health is Health.BAD}
    if f"{name} {CHAMPION}" not in drifted:
        return False
    with ledger.transaction() as connection:
        state = tables.read_states(connection, name, 0).get(RETRAINING)
        if state and timedelta() <= now - datetime.fromisoformat(state["asked_at"]) < DAY:  # else a clock was ahead
            return False
        request = MonitorState(name, 0, RETRAINING, now, {"asked_at": now.isoformat()})
        tables.put_states(connection, [request])
    return True
