"""`python -m lstm_ts.monitor`: forecast every session hour, score known outcomes, report what changed, and act.

Each run continues where the last one ended; a run that finds nothing new changes nothing. Its state lies in the ledger,
and outcomes are written in one transaction: a killed run loses none, and the next one duplicates none.

Exit code 3: drift, so a retraining is due, at most once a day. 1: an alert did not arrive; with 3, the log says so.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("monitor")  # before what is slow to import

from omegaconf import DictConfig

from lstm_ts import clock
from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import (
    check_registry,
    construct,
    construct_alerts,
    processed_store,
    raw_store,
    typed_choice,
)
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_rows import MONITOR, Heartbeat
from lstm_ts.ledger.incident_days import fold_incidents
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.served_days import fold_served
from lstm_ts.ledger.traffic import remove_inactive
from lstm_ts.market.session import DAY, HOUR, MICROSECOND, midnight
from lstm_ts.market.symbol import Symbol, name_model
from lstm_ts.monitoring.checks import (
    apply_move,
    check_challenger,
    check_feed,
    check_market,
    judge_job,
    measure_skill,
    record_findings,
    request_retraining,
)
from lstm_ts.monitoring.feed import FEED, check_staleness
from lstm_ts.monitoring.findings import Finding, complete
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.ledger_outage import alert_on_outage
from lstm_ts.monitoring.machine import check_machine
from lstm_ts.monitoring.moved import find_gone, resolve_moves
from lstm_ts.monitoring.run import MonitorRun, MonitorSettings, load_watched, watch_versions
from lstm_ts.monitoring.served import check_skew
from lstm_ts.monitoring.service import watch_service
from lstm_ts.monitoring.verdict import ChallengeVerdict
from lstm_ts.monitoring.watcher import Market, WatchLimits, watch
from lstm_ts.registry.ledger_check import open_ledger
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import ALIASES, CHAMPION

log = logging.getLogger(__name__)
INACTIVE = timedelta(days=7)  # without a report, after which a service is removed if another one reports
MIN_DAYS, MOST_DAYS = 14, 36_500  # of a retention: bars may be late, and dates end
RETRAIN, UNDELIVERED = 3, 1  # exit codes
WATCHED = ("pipeline_late", "monitor_silent")  # rules of `watch_market`
ACTIONS = ("run", "status", "watch", "ended")
ON_VERDICT = ("tell", PROMOTE := "promote")
PROMOTING = {"on_better": ChallengeVerdict.BETTER, "on_no_worse": ChallengeVerdict.NO_WORSE}


def make_settings(cfg: DictConfig) -> MonitorSettings:
    drift, verdict, skill, regime = (construct(cfg[name]) for name in ("drift", "verdict", "live_skill", "regime"))
    promoting = [each for key, each in PROMOTING.items() if cfg[key] == PROMOTE]
    return MonitorSettings(drift, verdict, skill, regime, promoting)


@dataclass(frozen=True)
class RunFindings:
    findings: Sequence[Finding]
    settled: Sequence[Finding]  # the same, adjusted for the alerts
    gone: Sequence[Finding] = ()  # good findings about aliases that no version holds
    finish: Callable[[], None] = lambda: None  # after the report: a run killed before it repeats its findings


def monitor(cfg: DictConfig, run: MonitorRun) -> RunFindings:
    settings = make_settings(cfg)
    loaded = load_watched(run)
    updates = watch_versions(run, loaded, settings)
    for each, update in zip(loaded, updates, strict=True):
        print(f"The {each.watched}: {len(update.forecasts):,} hours forecast, {len(update.scores):,} forecasts scored")
    if not loaded:
        if cfg.name != cfg.symbol.name and not run.registry.versions(cfg.name):
            raise ConfigError(f"Expected name to be one that is registered, got {cfg.name}; correct or leave out name")
        print(f"No version of {run.name} to watch: python -m lstm_ts.retrain {run.typed} makes one")
    challenger, move = check_challenger(run, loaded, settings)
    skew, checked = check_skew(run, processed_store(cfg))
    findings = [
        *check_feed(run, raw_store(cfg), construct(cfg.feed)),
        *(check_market(run, each, settings.regime) for each in loaded if each.watched.alias == CHAMPION),
        *(finding for update in updates for finding in update.findings),
        *(
            measure_skill(run, each.watched, settings.skill, update.record)
            for each, update in zip(loaded, updates, strict=True)
        ),
        challenger,
        skew,
    ]

    def finish() -> None:
        with run.ledger.transaction() as connection:
            tables.put_states(connection, [checked])
            remove_inactive(connection, run.name, before=run.now - INACTIVE)
        fold_served(run.ledger, run.name, before=run.kept_from)
        fold_incidents(run.ledger, before=run.kept_from)
        if move:
            apply_move(run, move)

    where = run.ledger, run.registry, run.name, findings
    settled = resolve_moves(*where, session=run.symbol.session, over_hours=settings.drift.over_hours, now=run.now)
    return RunFindings(findings, settled, find_gone(*where), finish)


def open_run(cfg: DictConfig, ledger: Ledger, symbol: Symbol, now: datetime) -> MonitorRun:
    """Raises    NoRows: no hour is stored; RegistryError: not the one that the ledger refers to"""
    hourly_bars = processed_store(cfg, symbol).read(end=now - HOUR + MICROSECOND)  # that have closed
    registry, kept_from = Registry(cfg.registry.uri, ledger, make=not ledger.names()), find_kept_from(cfg, now)
    return MonitorRun(ledger, registry, symbol, cfg.name, hourly_bars, now, kept_from, typed_choice(cfg))


def find_kept_from(cfg: DictConfig, now: datetime) -> datetime:
    return midnight(now - cfg.retention_days * DAY)


def show(cfg: DictConfig, ledger: Ledger, now: datetime) -> None:
    """Print when the monitor last ran, and what it found."""
    with ledger.transaction() as connection:
        found = tables.read_findings(connection)
    subject_of = dict.fromkeys(FEED, cfg.symbol.name) | dict.fromkeys(WATCHED)  # of other rules, the model is
    own = [row for row in found if row.subject.split()[0] == subject_of.get(row.rule, cfg.name)]
    if not own:
        print(f"The monitor has not checked {cfg.name} yet: python -m lstm_ts.monitor {typed_choice(cfg)}")
        return
    for finding in watch_market(cfg, ledger, construct(cfg.checks), now):
        print(f"{finding.health:<8} {finding.rule} of {finding.subject}: {finding.sentence}")
    for row in own:
        print(f"{row.health:<8} {row.rule} of {row.subject}, since {row.since:%Y-%m-%d %H:%M} UTC: {row.sentence}")


def watch_market(cfg: DictConfig, ledger: Ledger, checks: WatchLimits, now: datetime) -> list[Finding]:
    market = Market(cfg.symbol.name, cfg.name, construct(cfg.symbol).session, raw_store(cfg), processed_store(cfg))
    return watch(ledger, [market], checks.silence, now=now)


def check_from_outside(cfg: DictConfig, ledger: Ledger, now: datetime) -> list[Finding]:
    """Check from outside whether monitor, pipeline and service work, and the machine's disk and memory."""
    checks: WatchLimits = construct(cfg.checks)
    machine = check_machine([Path(cfg.paths.data), Path(cfg.paths.outputs)], checks.machine)
    service = watch_service(ledger, cfg.service, checks.service, now=now) if cfg.service else []
    return [*watch_market(cfg, ledger, checks, now), *machine, *service]


def report_findings(cfg: DictConfig, ledger: Ledger, found: RunFindings, now: datetime) -> bool:
    """Print, record and report the findings; return whether every alert was delivered."""
    alerts, symbol, model = construct_alerts(cfg), construct(cfg.symbol), name_model(cfg.symbol.name, cfg.name)
    completed = (complete(each, model, alerts.paths) for each in (found.findings, found.settled, found.gone))
    findings, settled, gone = completed
    for finding in findings:
        print(f"{finding.health.value:<8} {finding.rule} of {finding.subject}: {finding.sentence}")
    record_findings(ledger, findings, now, gone=gone, kept_from=find_kept_from(cfg, now))
    subjects = {symbol.name, cfg.name, *(f"{cfg.name} {alias}" for alias in ALIASES)}
    closed = () if symbol.session.is_open(now) else subjects
    return not report(ledger, alerts, [*settled, *gone], now=now, closed=closed).undelivered


def act(cfg: DictConfig, ledger: Ledger, now: datetime) -> int:
    """Run the monitor once; return the exit code."""
    symbol: Symbol = construct(cfg.symbol)
    try:
        run = open_run(cfg, ledger, symbol, now)
    except NoRows:
        last_ts = processed_store(cfg, symbol).last_ts()
        stale = [check_staleness(symbol.name, last_ts, symbol.session, now, construct(cfg.feed))]
        found = RunFindings(stale, stale)
    else:
        found = monitor(cfg, run)
    delivered = report_findings(cfg, ledger, found, now)
    found.finish()
    ledger.record_heartbeat(Heartbeat(MONITOR, cfg.name, now, f"{len(found.findings)} findings"))
    return RETRAIN if request_retraining(ledger, cfg.name, found.findings, now) else 0 if delivered else UNDELIVERED


def watch_from_outside(cfg: DictConfig, now: datetime) -> int:
    """Return the exit code; alert if the ledger is unreachable, since nothing else would."""
    noted, at = Path(cfg.paths.outputs) / "alerts", cfg.registry
    with alert_on_outage(construct_alerts(cfg), noted, now), closing(open_ledger(at.ledger, at.uri)) as ledger:
        findings = check_from_outside(cfg, ledger, now)
        return 0 if report_findings(cfg, ledger, RunFindings(findings, findings), now) else UNDELIVERED


def run(cfg: DictConfig) -> int:
    """Check the settings and run the action; return the exit code."""
    check_registry(cfg)
    if cfg.action not in ACTIONS:
        raise ConfigError(f"Expected action={', '.join(ACTIONS)}, got {cfg.action}")
    if not isinstance(cfg.retention_days, int) or not MIN_DAYS <= cfg.retention_days <= MOST_DAYS:
        raise ConfigError(f"Expected retention_days from {MIN_DAYS} to {MOST_DAYS}, got {cfg.retention_days}")
    for key in PROMOTING:
        if cfg[key] not in ON_VERDICT:
            raise ConfigError(f"Expected {key}={' or '.join(ON_VERDICT)}, got {cfg[key]}")
    _ = [construct(cfg[part]) for part in ("alerts", "checks", "feed")]  # fail before anything is recorded
    now = clock.now()
    if cfg.action == "watch":
        return watch_from_outside(cfg, now)
    with closing(open_ledger(cfg.registry.ledger, cfg.registry.uri)) as ledger:
        if cfg.action == "ended":
            if type(cfg.job) not in (str, int) or not str(cfg.job).strip() or not isinstance(cfg.code, int):
                raise ConfigError(f"Expected job=nightly code=$?, got job={cfg.job} code={cfg.code}; set both")
            finding = judge_job(f"{cfg.symbol.name}_{cfg.job}", cfg.code)
            return UNDELIVERED if report(ledger, construct_alerts(cfg), [finding], now=now).undelivered else 0
        if cfg.action == "status":
            show(cfg, ledger, now)
            return 0
        with ledger.exclusive(f"monitoring of {cfg.name}"):
            return act(cfg, ledger, now)


def main() -> None:
    """Exit with the worst code of a multirun's symbols."""
    codes = [0]
    try:
        entry_point("monitor")(lambda cfg: codes.append(run(cfg)))()
    except SystemExit as ended:  # one symbol's mistake must not hide that another one requests a retraining
        codes.append(int(ended.code or 0))
    except Exception:  # nor must a fault
        if RETRAIN not in codes:
            raise
        log.exception("The run of another symbol has failed")
    if code := max(codes):
        sys.exit(code)


if __name__ == "__main__":
    main()
