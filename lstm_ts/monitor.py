"""`python -m lstm_ts.monitor`: forecast every session hour, compare with what came, say what changed, and act.

Each run goes on where the last one ended; one that finds nothing new changes nothing. What it knows lies in the ledger,
and what it learns of outcomes is one transaction there: a killed run loses no outcome, and the next one doubles none.

Exit code 3: a version has drifted, so a retraining is due; at most once a day. 1: an alert did not arrive.
"""

import logging
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("monitor")  # before what is slow to import

import numpy as np
import polars as pl
from omegaconf import DictConfig

from lstm_ts import clock
from lstm_ts.cli import check_registry, construct, entry_point, processed_store, raw_store
from lstm_ts.errors import ConfigError, NoRows, RegistryError
from lstm_ts.evaluate import Span, evaluate
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import FindingRow, HourlyForecast, MonitorState, Outcome
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.features import Bars
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.windows import in_span
from lstm_ts.monitoring import challenge as challenges
from lstm_ts.monitoring import live_skill
from lstm_ts.monitoring.challenge import CHALLENGE, Challenge
from lstm_ts.monitoring.concept_drift import DriftSettings
from lstm_ts.monitoring.confidence import SkillSettings
from lstm_ts.monitoring.feed import FeedLimits, check_quality, check_staleness
from lstm_ts.monitoring.findings import STATUS, Finding, Health
from lstm_ts.monitoring.hourly import list_forecasts
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.ledger_away import telling_of_ledger
from lstm_ts.monitoring.machine import check_machine
from lstm_ts.monitoring.market import describe_regime, read_hours
from lstm_ts.monitoring.outcomes import find_outcomes
from lstm_ts.monitoring.regime import RegimeSettings, check_regime
from lstm_ts.monitoring.service import watch_service
from lstm_ts.monitoring.skew import check_served
from lstm_ts.monitoring.verdict import Pairs, Verdict, VerdictSettings, compute_pairs
from lstm_ts.monitoring.versions import REFERENCE, RETRAINING, Kept, Update, Watched, measure, update_version
from lstm_ts.monitoring.watcher import MONITOR, Checks, Market, watch
from lstm_ts.registry.registry import ALIASES, CHALLENGER, CHAMPION, Registry
from lstm_ts.scoring.records import ForecastRecord

log = logging.getLogger(__name__)
MICROSECOND, DAY, MONTH = timedelta(microseconds=1), timedelta(days=1), timedelta(days=31)
LATE = 8 * DAY  # how late a bar may come for its hour still to be forecast and scored
MIN_DAYS = 14  # of retention: more than LATE
SERVED = "served"  # a kind of state, of version 0: up to when requests are checked
NO_ORIGINS = np.empty(0, dtype=np.int64)
RETRAIN, UNDELIVERED = 3, 1  # exit codes
ACTIONS = ("run", "status", "watch")


@dataclass(frozen=True)
class Run:
    """One run of the monitor for one symbol: what it sees, and when."""

    ledger: Ledger
    registry: Registry
    symbol: Symbol
    name: str  # of the registered model
    hourly_bars: pl.DataFrame  # that have closed
    now: datetime
    kept_from: datetime  # midnight; forecasts, scores and outcomes of hours before are folded


@dataclass(frozen=True)
class Loaded:
    watched: Watched
    forecaster: Forecaster


@dataclass(frozen=True)
class Settings:
    drift: DriftSettings
    verdict: VerdictSettings
    skill: SkillSettings
    regime: RegimeSettings


def make_settings(cfg: DictConfig) -> Settings:
    return Settings(*(construct(cfg[name]) for name in ("drift", "verdict", "live_skill", "regime")))


def load_watched(run: Run) -> list[Loaded]:
    """The versions that hold an alias; one whose decision is not written down yet waits for it."""
    decisions = {decision.version: decision for decision in run.ledger.decisions(run.name)}
    holders = [(alias, run.registry.holder(run.name, alias)) for alias in ALIASES]
    return [
        Loaded(Watched(alias, decisions[version.number]), run.registry.load(version))
        for alias, version in holders
        if version and version.number in decisions
    ]


def find_start(run: Run, loaded: Sequence[Loaded]) -> datetime:
    """The first hour that may be new: where the last run ended, less the days whose bars may have come late.

    What has been folded is not made again, but for a model that was never watched.
    """
    with run.ledger.transaction() as connection:
        last = [tables.last_origin(connection, run.name, each.watched.number) for each in loaded]
    first = run.kept_from if any(last) else datetime.min.replace(tzinfo=run.now.tzinfo)
    return min(
        (
            max(origin - LATE if origin else first, each.watched.decision.at)
            for each, origin in zip(loaded, last, strict=True)
        ),
        default=run.now,
    )


def find_new_outcomes(run: Run, known: Sequence[Outcome], *, since: datetime) -> list[Outcome]:
    found = find_outcomes(run.symbol.name, run.hourly_bars, known, since=since, now=run.now)
    if revised := sum(outcome.revision > 0 for outcome in found):
        log.warning("%d outcomes of %s were revised; scores stay as they were", revised, run.symbol.name)
    return found


def watch_versions(run: Run, loaded: Sequence[Loaded], settings: Settings) -> list[Update]:
    """One step for every version and for the challenge between them, written together."""
    since = find_start(run, loaded)
    with run.ledger.transaction() as connection:
        known = tables.read_outcomes(connection, run.symbol.name, since=since)
    kept = [_read_kept(run, each.watched, since) for each in loaded]
    outcomes = find_new_outcomes(run, known, since=since)
    close_by_target = {outcome.target_ts: outcome.close for outcome in known + outcomes if outcome.revision == 0}
    updates = []
    for each, its in zip(loaded, kept, strict=True):
        new = forecast_hours(run, each, since=since, there={row.origin_ts for row in its.forecasts})
        try:
            reference = its.states.get(REFERENCE) or measure(_evaluate_holdout(run, each, each.watched), settings.drift)
        except NoRows as error:
            updates.append(_without_reference(each.watched, str(error)))
            continue
        updates.append(update_version(each.watched, its, new, close_by_target, reference, settings.drift, run.now))
    challenge = follow_challenge(run, loaded, kept, updates, settings.verdict)
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


def _read_kept(run: Run, watched: Watched, since: datetime) -> Kept:
    since = max(since, watched.decision.at)
    with run.ledger.transaction() as connection:
        return Kept(
            tables.read_forecasts(connection, watched.name, watched.number, since=since),
            tables.read_scores(connection, watched.name, watched.number, since=midnight(since)),
            tables.read_states(connection, watched.name, watched.number),
        )


def _without_reference(watched: Watched, why: str) -> Update:
    finding = Finding("concept_drift", watched.subject, Health.UNKNOWN, why, STATUS.format(name=watched.name))
    return Update([], [], [], [], None, [finding])


def forecast_hours(run: Run, loaded: Loaded, *, since: datetime, there: Container[datetime]) -> list[HourlyForecast]:
    """The forecasts that origins from `since` on lack."""
    watched, forecaster = loaded.watched, loaded.forecaster
    try:
        record = evaluate(forecaster, run.hourly_bars, Span(max(since, watched.decision.at), run.now + MICROSECOND))
    except NoRows:
        return []
    rows = list_forecasts(
        record,
        Bars.of(run.hourly_bars),
        name=watched.name,
        version=watched.number,
        tsteps=forecaster.spec.tsteps,
        at=run.now,
    )
    return [row for row in rows if row.origin_ts not in there]


def _evaluate_holdout(run: Run, loaded: Loaded, judged: Watched) -> ForecastRecord:
    """A model on the hours that another one's gate judged on, less those that it was trained on itself.

    Raises    NoRows: they are not stored
    """
    start, end = judged.decision.span_start, judged.decision.span_end
    seen_until = datetime.fromisoformat(loaded.forecaster.provenance.data_end)
    return evaluate(loaded.forecaster, run.hourly_bars, Span(max(start, seen_until), end))


def follow_challenge(
    run: Run, loaded: Sequence[Loaded], kept: Sequence[Kept], updates: Sequence[Update], settings: VerdictSettings
) -> list[MonitorState]:
    if len(loaded) < len(ALIASES):
        return []
    champion, challenger = loaded
    challenge = _read_challenge(run, champion, challenger, kept[1], settings)
    if challenge is None:
        return []
    answered_at = run.ledger.last_answer(run.name, challenger.watched.number)
    challenge = challenges.go_on(
        challenge, updates[1], updates[0], run.symbol.session, settings, last_request=answered_at, now=run.now
    )
    return [MonitorState(run.name, challenger.watched.number, CHALLENGE, run.now, challenge.to_json())]


def _read_challenge(
    run: Run, champion: Loaded, challenger: Loaded, kept: Kept, settings: VerdictSettings
) -> Challenge | None:
    """The one that goes on, or a new one; None where no hours are stored that neither model was trained on."""
    if CHALLENGE in kept.states:
        challenge = Challenge.from_json(kept.states[CHALLENGE])
        if challenge.champion == champion.watched.number and challenge.state.fits(settings):
            return challenge
    since = run.registry.history(run.name, CHALLENGER)[-1].at
    try:
        held_out = _compare_holdout(run, champion, challenger)
        return challenges.begin(champion.watched, since, held_out, settings)
    except NoRows:
        return None


def _compare_holdout(run: Run, champion: Loaded, challenger: Loaded) -> Pairs:
    theirs, ours = (_evaluate_holdout(run, each, challenger.watched) for each in (champion, challenger))
    return compute_pairs(ours, theirs)


def read_challenge(run: Run, loaded: Sequence[Loaded]) -> tuple[Watched | None, Challenge | None]:
    """The challenger, and how it stands."""
    challenger = next((each.watched for each in loaded if each.watched.alias == CHALLENGER), None)
    if challenger is None:
        return None, None
    with run.ledger.transaction() as connection:
        state = tables.read_states(connection, run.name, challenger.number).get(CHALLENGE)
    return challenger, Challenge.from_json(state) if state else None


def measure_skill(run: Run, watched: Watched, settings: SkillSettings) -> Finding:
    """Live skill, written for the service to answer with."""
    with run.ledger.transaction() as connection:
        days = tables.read_daily_scores(connection, watched.name, watched.number)
        skills = live_skill.compute_live_skill(days, settings)
        state = live_skill.to_json(skills)
        row = MonitorState(watched.name, watched.number, live_skill.LIVE_SKILL, run.now, state)
        tables.put_states(connection, [row])
    log_day(run, watched, live_skill.list_metrics(days, skills))
    return live_skill.check_performance(watched, skills)


def log_day(run: Run, watched: Watched, metrics: Mapping[str, float]) -> None:
    """In the version's MLflow run, as the first look of a day has found them; where that fails, the next one."""
    try:
        version = run.registry.version(watched.name, watched.number)
        run.registry.log_daily(version, run.now.date(), metrics)
    except RegistryError as error:
        log.warning("The live skill of the %s is not in MLflow yet: %s", watched, error)


def check_market(run: Run, champion: Loaded, settings: RegimeSettings) -> Finding:
    forecaster = champion.forecaster
    grid, provenance = forecaster.grid(run.hourly_bars), forecaster.provenance
    windows = forecaster.windows(grid, NO_ORIGINS)
    start, end = (datetime.fromisoformat(ts) for ts in (provenance.data_start, provenance.trained_until))
    training, recent = (
        read_hours(grid, windows, in_span(grid.origin_ts_G, *span)) for span in ((start, end), (end, None))
    )
    try:
        return describe_regime(run.symbol.name, run.name, check_regime(training, recent, settings))
    except NoRows as error:
        return Finding("regime", run.symbol.name, Health.UNKNOWN, f"{error}.", STATUS.format(name=run.name))


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


def check_skew(run: Run) -> tuple[Finding, MonitorState]:
    """Of the requests since the last check; those of hours that are not stored yet are left to the next one.

    Returns    what was found, and the state from which the next check goes on
    """
    with run.ledger.transaction() as connection:
        state = tables.read_states(connection, run.name, 0).get(SERVED)
    since = datetime.fromisoformat(state["until"]) if state else run.now - LATE
    served = run.ledger.forecasts(run.name, since=since, until=run.now)
    stored_until = run.hourly_bars["ts"][-1] + HOUR
    until = min((row.at for row in served if row.origin_ts > stored_until), default=run.now)
    keys = {(row.version, row.origin_ts) for row in served}
    with run.ledger.transaction() as connection:
        found = {key: tables.find_forecast(connection, run.name, *key) for key in keys}
    finding = check_served(run.name, served, {key: row for key, row in found.items() if row}, since=since)
    return finding, MonitorState(run.name, 0, SERVED, run.now, {"until": until.isoformat()})


def record_findings(ledger: Ledger, findings: Sequence[Finding], now: datetime) -> None:
    """Each as the last run saw it, and since when its health is what it is."""
    with ledger.transaction() as connection:
        before = {(row.rule, row.subject): row for row in tables.read_findings(connection)}
        rows = []
        for finding in findings:
            old = before.get((finding.rule, finding.subject))
            since = old.since if old and old.health == finding.health else now
            rows.append(FindingRow(at=now, since=since, **vars(finding)))
        tables.put_findings(connection, rows)


def asks_retraining(ledger: Ledger, name: str, findings: Sequence[Finding], now: datetime) -> bool:
    """Whether the champion has drifted, and no retraining was asked for within a day."""
    drifted = {each.subject for each in findings if each.rule == "concept_drift" and each.health is Health.BAD}
    if f"{name} {CHAMPION}" not in drifted:
        return False
    with ledger.transaction() as connection:
        state = tables.read_states(connection, name, 0).get(RETRAINING)
        if state and now - datetime.fromisoformat(state["asked_at"]) < DAY:
            return False
        asked = MonitorState(name, 0, RETRAINING, now, {"asked_at": now.isoformat()})
        tables.put_states(connection, [asked])
    return True


def monitor(cfg: DictConfig, run: Run) -> tuple[list[Finding], Callable[[], None]]:
    """What was found, and what is to be done once it is told: a run that is killed before finds it again."""
    settings = make_settings(cfg)
    loaded = load_watched(run)
    updates = watch_versions(run, loaded, settings)
    for each, update in zip(loaded, updates, strict=True):
        hours, scores = len(update.forecasts), len(update.scores)
        print(f"The {each.watched}: {hours:,} hours forecast, {scores:,} forecasts scored")
    if not loaded:
        print(f"No version of {run.name} to watch: python -m lstm_ts.retrain makes one")
    challenger, challenge = read_challenge(run, loaded)
    skew, checked = check_skew(run)
    findings = [
        *check_feed(cfg, run),
        *(check_market(run, each, settings.regime) for each in loaded if each.watched.alias == CHAMPION),
        *(finding for update in updates for finding in update.findings),
        *(measure_skill(run, each.watched, settings.skill) for each in loaded),
        challenges.describe(challenger, run.name, challenge),
        skew,
    ]

    def finish() -> None:
        with run.ledger.transaction() as connection:
            tables.put_states(connection, [checked])
        if challenger and challenge and challenge.verdict is Verdict.HARM:
            run.registry.release(run.name, challenger.number, actor="monitor", reason=challenge.sentence)

    return findings, finish


def open_run(cfg: DictConfig, ledger: Ledger, symbol: Symbol, now: datetime) -> Run:
    """Raises    NoRows: no hour is stored"""
    hourly_bars = processed_store(cfg, symbol).read(end=now - HOUR + MICROSECOND)  # that have closed
    return Run(
        ledger,
        Registry(cfg.registry.uri, ledger),
        symbol,
        cfg.name,
        hourly_bars,
        now,
        midnight(now - cfg.retention_days * DAY),
    )


def midnight(ts: datetime) -> datetime:
    return ts.replace(hour=0, minute=0, second=0, microsecond=0)


def show(ledger: Ledger, name: str, symbol: str) -> None:
    with ledger.transaction() as connection:
        found = tables.read_findings(connection)
    own = [row for row in found if row.subject.split()[0] in (name, symbol)]
    for row in own:
        print(f"{row.health:<8} {row.rule} of {row.subject}, since {row.since:%Y-%m-%d %H:%M} UTC: {row.sentence}")
    if not own:
        print(f"The monitor has not looked at {name} yet: python -m lstm_ts.monitor symbol={symbol}")


def look_from_outside(cfg: DictConfig, ledger: Ledger, now: datetime) -> list[Finding]:
    """Whether the monitor, the pipeline and the service are at work, and the machine can hold them."""
    checks: Checks = construct(cfg.checks)
    market = Market(cfg.symbol.name, construct(cfg.symbol).session, raw_store(cfg))
    findings = watch(ledger, [market], checks.silence, now=now)
    findings += check_machine([Path(cfg.paths.data), Path(cfg.paths.outputs)], checks.machine)
    return findings + (watch_service(ledger, cfg.service, checks.service, now=now) if cfg.service else [])


def tell(cfg: DictConfig, ledger: Ledger, findings: Sequence[Finding], now: datetime) -> bool:
    """Print, keep and report findings; whether every alert has arrived."""
    for finding in findings:
        print(f"{finding.health.value:<8} {finding.rule} of {finding.subject}: {finding.sentence}")
    record_findings(ledger, findings, now)
    symbol = construct(cfg.symbol)
    closed = () if symbol.session.is_open(now) else {symbol.name}
    told = report(ledger, construct(cfg.alerts), findings, now=now, closed=closed)
    return not told.undelivered


def act(cfg: DictConfig, ledger: Ledger, now: datetime) -> int:
    """The exit code."""
    symbol: Symbol = construct(cfg.symbol)
    try:
        run = open_run(cfg, ledger, symbol, now)
    except NoRows:
        findings, finish = [check_staleness(symbol.name, None, symbol.session, now, construct(cfg.feed))], None
    else:
        findings, finish = monitor(cfg, run)
    arrived = tell(cfg, ledger, findings, now)
    if finish:
        finish()
    ledger.record_heartbeat(Heartbeat(MONITOR, symbol.name, now, f"{len(findings)} findings"))
    retraining = asks_retraining(ledger, cfg.name, findings, now)
    return UNDELIVERED if not arrived else RETRAIN if retraining else 0


def watch_from_outside(cfg: DictConfig, now: datetime) -> int:
    """The exit code. Nobody else would tell that the ledger is away."""
    noted = Path(cfg.paths.outputs) / "alerts"
    with telling_of_ledger(construct(cfg.alerts), noted, now), closing(Ledger(cfg.registry.ledger)) as ledger:
        return 0 if tell(cfg, ledger, look_from_outside(cfg, ledger, now), now) else UNDELIVERED


def run(cfg: DictConfig) -> int:
    """The exit code."""
    check_registry(cfg)
    if cfg.action not in ACTIONS:
        raise ConfigError(f"Expected action={', '.join(ACTIONS)}, got {cfg.action}")
    if not isinstance(cfg.retention_days, int) or cfg.retention_days < MIN_DAYS:
        raise ConfigError(f"Expected retention_days of at least {MIN_DAYS}, got {cfg.retention_days}")
    now = clock.now()
    if cfg.action == "watch":
        return watch_from_outside(cfg, now)
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        if cfg.action == "status":
            show(ledger, cfg.name, cfg.symbol.name)
            return 0
        with ledger.exclusive(f"monitoring of {cfg.name}"):
            return act(cfg, ledger, now)


def main() -> None:
    """The worst exit code of the symbols of a multirun."""
    codes = []
    entry_point("monitor")(lambda cfg: codes.append(run(cfg)))()
    if code := max(codes, default=0):
        sys.exit(code)


if __name__ == "__main__":
    main()
