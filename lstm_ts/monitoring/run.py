"""One run of the monitor over the versions that hold an alias: read, evaluate, write in one transaction."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lstm_ts.errors import ConfigError, LedgerError, NoRows
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import HourlyForecast, MonitorState, Outcome
from lstm_ts.ledger.traffic import read_traffic
from lstm_ts.market.session import DAY, MICROSECOND, midnight
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.features import Bars
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.monitoring import challenge as challenges
from lstm_ts.monitoring.challenge import CHALLENGE, Challenge
from lstm_ts.monitoring.concept_drift import DriftSettings
from lstm_ts.monitoring.confidence import SkillSettings
from lstm_ts.monitoring.hourly import Closes, list_forecasts
from lstm_ts.monitoring.outcomes import find_outcomes
from lstm_ts.monitoring.regime import RegimeSettings
from lstm_ts.monitoring.verdict import ChallengeVerdict, VerdictSettings
from lstm_ts.monitoring.versions import (
    StoredRows,
    Update,
    WatchedVersion,
    find_best,
    find_whole,
    measure,
    update_version,
)
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import ALIASES, CHALLENGER
from lstm_ts.scoring.comparison import Pairs, compute_pairs
from lstm_ts.scoring.records import ForecastRecord

LATE = timedelta(days=8)  # how late a bar may come for its hour still to be forecast, and to score what aimed at it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MonitorRun:
    """One run of the monitor for one symbol: what it sees, and when."""

    ledger: Ledger
    registry: Registry
    symbol: Symbol
    name: str  # of the registered model
    hourly_bars: pl.DataFrame  # closed hours only
    now: datetime
    kept_from: datetime  # midnight; forecasts, scores and outcomes of earlier hours are folded into sums by day
    typed: str  # overrides of its symbol, model and folders, for commands in messages


@dataclass(frozen=True)
class LoadedModel:
    watched: WatchedVersion
    forecaster: Forecaster


@dataclass(frozen=True)
class MonitorSettings:
    drift: DriftSettings
    verdict: VerdictSettings
    skill: SkillSettings
    regime: RegimeSettings
    promoting: Collection[ChallengeVerdict]  # verdicts of a challenger that make it champion


def load_watched(run: MonitorRun) -> list[LoadedModel]:
    """Load the versions that hold an alias.

    Raises    LedgerError: it lacks the gate's decision on one; ConfigError: a model of another symbol
    """
    holders = {alias: version for alias in ALIASES if (version := run.registry.holder(run.name, alias))}
    decisions = {decision.version: decision for decision in run.ledger.decisions(run.name)}  # later than their moves
    for alias, version in holders.items():
        if version.number not in decisions:
            raise LedgerError(
                f"Expected the gate's decision on {version}, the {alias}, in the ledger, got none; restore the ledger "
                f"if it is lost, else python -m lstm_ts.retrain {run.typed} records what a killed run has not"
            )
    loaded = []
    for alias, version in holders.items():
        forecaster = run.registry.load(version)
        if (symbol := forecaster.provenance.symbol) != run.symbol.name:
            raise ConfigError(
                f"Expected a model of {run.symbol.name} in {version}, got one of {symbol}; set symbol or name"
            )
        loaded.append(LoadedModel(WatchedVersion(alias, decisions[version.number]), forecaster))
    return loaded


def find_start(run: MonitorRun, loaded: LoadedModel) -> datetime:
    """Return the first hour that may be new or may still get a score.

    Its last target is `horizon` session hours later, and a bar may come LATE after that. Days before the first kept
    forecast are folded into sums and never computed again; if all are folded, nor is the rest of the last day, whose
    sums would replace the stored ones. Hours that the model has seen are not live: its clock was wrong. Outcomes before
    `kept_from` are not kept, and the bars of now may be revised ones.
    """
    watched, forecaster = loaded.watched, loaded.forecaster
    with run.ledger.transaction() as connection:
        first = tables.first_origin(connection, watched.name, watched.number)
        last = tables.last_origin(connection, watched.name, watched.number)
        day = tables.last_scored_day(connection, watched.name, watched.number)
    start = datetime.min.replace(tzinfo=UTC)
    if first and last:
        start = max(midnight(first), run.symbol.session.last_hours(last - LATE, forecaster.spec.horizon + 1)[0])
    elif day:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC) + DAY
    return max(start, watched.decision.at, forecaster.seen_until or start, run.kept_from)


def find_new_outcomes(run: MonitorRun, known: Sequence[Outcome], *, since: datetime) -> list[Outcome]:
    found = find_outcomes(run.symbol.name, run.hourly_bars, known, since=since, now=run.now)
    if revised := sum(outcome.revision > 0 for outcome in found):
        log.warning(
            "%d outcomes of %s were revised; scores stay as they were, and a forecast whose return a revision changes "
            "by more than a tenth of its interval gets none",
            revised,
            run.symbol.name,
        )
    return found


def watch_versions(run: MonitorRun, loaded: Sequence[LoadedModel], settings: MonitorSettings) -> list[Update]:
    """One step for every version and for the challenge between them, written together."""
    starts = [find_start(run, each) for each in loaded]
    since = min(starts, default=run.now)
    with run.ledger.transaction() as connection:
        known = tables.read_outcomes(connection, run.symbol.name, since=since)
    stored = [_read_stored(run, each.watched, since) for each in loaded]
    outcomes = find_new_outcomes(run, known, since=since)
    closes = Closes.of(known + outcomes)
    updates = []
    for each, its, start in zip(loaded, stored, starts, strict=True):
        there = {row.origin_ts for row in its.forecasts}
        made = forecast_hours(run, each.watched.number, each.forecaster, Span(start, run.now + MICROSECOND))
        new = [row for row in made if row.origin_ts not in there]
        reference = find_whole(its, each.forecaster.scores, settings.drift)
        if reference is None:
            try:
                measured: dict[str, Any] | None = measure(_evaluate_holdout(run, each, each.watched), settings.drift)
            except NoRows:
                measured = None
            reference = find_best(its, measured, settings.drift)
        updates.append(update_version(each.watched, its, new, closes, reference, settings.drift, run.now))
    challenge = follow_challenge(run, loaded, stored, updates, settings.verdict)
    with run.ledger.transaction() as connection:  # a run that is killed has written all of this or nothing
        tables.add_outcomes(connection, outcomes)
        for update in updates:
            tables.add_forecasts(connection, update.forecasts)
            tables.add_scores(connection, update.scores)
            tables.put_daily_scores(connection, update.days)
            tables.put_states(connection, update.states)
        tables.put_states(connection, challenge)
        tables.remove_old(connection, run.name, run.symbol.name, before=run.kept_from)
    return updates


def _read_stored(run: MonitorRun, watched: WatchedVersion, since: datetime) -> StoredRows:
    since = max(since, watched.decision.at)
    with run.ledger.transaction() as connection:
        return StoredRows(
            tables.read_forecasts(connection, watched.name, watched.number, since=since),
            tables.read_scores(connection, watched.name, watched.number, since=midnight(since)),
            tables.read_states(connection, watched.name, watched.number),
        )


def forecast_hours(run: MonitorRun, version: int, forecaster: Forecaster, span: Span) -> list[HourlyForecast]:
    """Forecasts of the origins of a span from the bars as they are stored now; none where no window is."""
    try:
        record = evaluate(forecaster, run.hourly_bars, span)
    except NoRows:
        return []
    bars, tsteps = Bars.of(run.hourly_bars), forecaster.spec.tsteps
    return list_forecasts(record, bars, name=run.name, version=version, tsteps=tsteps, at=run.now)


def _evaluate_holdout(run: MonitorRun, loaded: LoadedModel, judged: WatchedVersion) -> ForecastRecord:
    """Evaluate a model on the hours that the gate judged `judged` on, less the hours that the model has seen.

    Raises    NoRows: these hours are not stored
    """
    start, end = judged.decision.span_start, judged.decision.span_end
    seen_until = datetime.fromisoformat(loaded.forecaster.provenance.data_end)
    return evaluate(loaded.forecaster, run.hourly_bars, Span(max(start, seen_until), end))


def follow_challenge(
    run: MonitorRun,
    loaded: Sequence[LoadedModel],
    stored: Sequence[StoredRows],
    updates: Sequence[Update],
    settings: VerdictSettings,
) -> list[MonitorState]:
    if len(loaded) < len(ALIASES):
        return []
    champion, challenger = loaded
    traffic = find_traffic(run, challenger.watched)
    since = max(run.registry.history(run.name, alias)[-1].at for alias in ALIASES)
    challenge = _read_challenge(run, champion, challenger, stored[1], since, settings)
    if challenge is None:
        return []
    challenge = challenges.continue_challenge(
        challenge, updates[1], updates[0], run.symbol.session, settings, traffic=traffic, now=run.now
    )
    return [MonitorState(run.name, challenger.watched.number, CHALLENGE, run.now, challenge.to_json())]


def find_traffic(run: MonitorRun, challenger: WatchedVersion) -> challenges.ChallengerTraffic:
    live_since = run.registry.history(run.name, CHALLENGER)[-1].at
    with run.ledger.transaction() as connection:
        reports = read_traffic(connection, run.name)
    answered_at = run.ledger.last_answer(run.name, challenger.number)
    return challenges.find_traffic(reports, challenger.number, live_since=live_since, answered_at=answered_at)


def _read_challenge(
    run: MonitorRun,
    champion: LoadedModel,
    challenger: LoadedModel,
    stored: StoredRows,
    since: datetime,
    settings: VerdictSettings,
) -> Challenge | None:
    """Return the running challenge, or begin one; None if no hours are stored that neither model was trained on."""
    if CHALLENGE in stored.states:
        challenge = Challenge.from_json(stored.states[CHALLENGE])
        if challenge.champion == champion.watched.number and challenge.state.fits(settings):
            return challenge.resume(since)
    try:
        held_out = _compare_holdout(run, champion, challenger)
        return challenges.begin(champion.watched, since, held_out, settings)
    except NoRows:
        return None


def _compare_holdout(run: MonitorRun, champion: LoadedModel, challenger: LoadedModel) -> Pairs:
    theirs, ours = (_evaluate_holdout(run, each, challenger.watched) for each in (champion, challenger))
    return compute_pairs(ours, theirs)
