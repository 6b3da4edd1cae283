"""`python -m lstm_ts.pipeline`: the schedule, with Dagster's pages and daemon.

    <symbol>/minute_bars   a day a partition ──→ <symbol>/hourly_bars ──→ <symbol>/model

Each asset is a command: what it does, and how it is configured, stands there. Every step may be repeated at will.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from lstm_ts import clock
from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("pipeline")  # before what is slow to import

import dagster as dg
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lstm_ts import ingest, process
from lstm_ts.cli import compose, entry_point, run_command, typed_overrides
from lstm_ts.configuration import check_port, construct, processed_store
from lstm_ts.errors import BrokerAway, ConfigError, LedgerError, LstmTsError, NoRows, NoSuchFile, RegistryError
from lstm_ts.ingest import IngestResult
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_tables import read_states
from lstm_ts.logs import JSON
from lstm_ts.market.session import HOUR
from lstm_ts.market.symbol import Symbol
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.versions import RETRAINING
from lstm_ts.plan import DAY, Plan, asset_prefix, day_of, last_closed_hour, make_plan, read_symbols, why_closed
from lstm_ts.sources.backfill import BackfillResult
from lstm_ts.store.disk import hold_lock, write_whole
from lstm_ts.store.staging import UpsertResult

OVERRIDES = "LSTM_TS_PIPELINE"  # of this command line, as JSON, for the processes that Dagster starts
SOURCE, TRAINING = "source", "training"  # pools
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"  # tags of a run
AGAIN = "lstm_ts/again"  # tag of a run that asks for what is proven, too
SUPERSEDED = "ignore:Function `dev_command` is superseded"  # by a package that makes projects
SHOWN_HOURS = 50
SENSOR_S = 60  # between two looks at what the monitor asks for
WRITTEN_HERE = "# Written by lstm_ts.pipeline at each start, from conf/pipeline.yaml.\n"
log = logging.getLogger(__name__)
MENDING = (BrokerAway, LedgerError, NoRows, NoSuchFile, RegistryError)  # later, by themselves


def build_definitions(overrides: Sequence[str]) -> dg.Definitions:
    """Raises    ConfigError: a step would refuse its configuration"""
    cfg = compose("pipeline", overrides)
    plan = make_plan(cfg, overrides)
    plan.check()
    try:
        with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):  # backfill_policy may change yet
            per_symbol = [build_symbol(cfg, plan, symbol) for symbol in plan.symbols]
        # Runs are a few short steps in a row: a process for each would cost more than it does.
        return dg.Definitions.merge(*per_symbol, dg.Definitions(executor=dg.in_process_executor))
    except (dg.DagsterInvalidDefinitionError, dg.DagsterInvariantViolationError) as error:
        raise ConfigError(f"Expected a schedule that Dagster takes, got: {error}") from error


@dg.definitions
def definitions() -> dg.Definitions:
    return build_definitions(json.loads(os.environ.get(OVERRIDES, "[]")))


def build_symbol(cfg: DictConfig, plan: Plan, symbol: Symbol) -> dg.Definitions:
    minute_bars = build_minute_bars(cfg, plan, symbol)
    hourly_bars = build_hourly_bars(cfg, plan, symbol, minute_bars)
    outcomes = build_outcomes(cfg, plan, symbol, hourly_bars)
    model = build_model(cfg, plan, symbol, hourly_bars)
    bars = dg.define_asset_job(f"{asset_prefix(symbol.name)}_bars", [minute_bars, hourly_bars, outcomes])
    retraining = dg.define_asset_job(f"{asset_prefix(symbol.name)}_retraining", [model])
    return dg.Definitions(
        assets=[minute_bars, hourly_bars, outcomes, model],
        asset_checks=[build_check(plan, symbol, hourly_bars, days=cfg.look_back_days)],
        jobs=[bars, retraining],
        schedules=build_schedules(cfg, plan, symbol, bars, retraining),
        sensors=[build_drift_sensor(plan, symbol, retraining), *build_run_sensors(plan, symbol, [bars, retraining])],
    )


def build_minute_bars(cfg: DictConfig, plan: Plan, symbol: Symbol) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=asset_prefix(symbol.name),
        group_name=asset_prefix(symbol.name),
        partitions_def=dg.DailyPartitionsDefinition(plan.first_day, end_offset=1),  # today is one, too
        backfill_policy=dg.BackfillPolicy.multi_run(cfg.days_per_run),
        retry_policy=_retries(cfg),
        pool=SOURCE,
        description="`lstm_ts.ingest` of a UTC day",
    )
    def minute_bars(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        window = context.partition_time_window
        closed = clock.now().replace(second=0, microsecond=0)
        start, end = window.start, min(window.end, closed)
        days = f"{start:%Y-%m-%d} to {window.end - DAY:%Y-%m-%d}"  # one, or as many as a run of a backfill takes
        why = why_closed(symbol.session, start, end) if start < end else f"{start:%Y-%m-%d} has not begun"
        if why:
            return _result(UpsertResult(0, 0, 0, ()), says=why, days=days)
        again = context.run.tags.get(AGAIN, "false")
        span = (f"span.start={start.isoformat()}", f"span.end={end.isoformat()}")
        overrides = plan.command("ingest", symbol.name, *span, f"again={again}")
        with _mistakes_told():
            done = run_command("ingest", ingest.run, overrides)
        assert done is not None  # it was not asked for the status
        return _result(done, days=days, rejected=done.rejected)

    return minute_bars


def build_hourly_bars(
    cfg: DictConfig, plan: Plan, symbol: Symbol, minute_bars: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=asset_prefix(symbol.name),
        group_name=asset_prefix(symbol.name),
        deps=[minute_bars],
        retry_policy=_retries(cfg),
        description="`lstm_ts.process` of all minutes",
    )
    def hourly_bars() -> dg.MaterializeResult[Any]:
        with _mistakes_told():
            done = run_command("process", process.run, plan.command("process", symbol.name))
        return _result(done.upsert, session_hours=done.session_hours, missing=done.missing)

    return hourly_bars


def build_outcomes(
    cfg: DictConfig, plan: Plan, symbol: Symbol, hourly_bars: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=asset_prefix(symbol.name),
        group_name=asset_prefix(symbol.name),
        deps=[hourly_bars],
        retry_policy=_retries(cfg),
        description="`lstm_ts.monitor`: forecasts of every hour beside what came; drift, verdicts, alerts",
    )
    def outcomes() -> dg.MaterializeResult[Any]:
        from lstm_ts import monitor  # see `model`

        with _mistakes_told():
            code = run_command("monitor", monitor.run, plan.command("monitor", symbol.name))
        said = {monitor.RETRAIN: "a retraining is due", monitor.UNDELIVERED: "an alert did not arrive"}
        return dg.MaterializeResult(metadata={"says": said.get(code, "nothing to do")})

    return outcomes


def build_drift_sensor(plan: Plan, symbol: Symbol, retraining: Any) -> dg.SensorDefinition:
    """One retraining for each time that the monitor asks for it."""

    @dg.sensor(
        name=f"{asset_prefix(symbol.name)}_drift",
        job=retraining,
        minimum_interval_seconds=SENSOR_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def drift() -> dg.RunRequest | dg.SkipReason:
        cfg = compose("monitor", plan.command("monitor", symbol.name))
        asked_at = read_asked_retraining(cfg.registry.ledger, cfg.name)
        return dg.RunRequest(run_key=asked_at) if asked_at else dg.SkipReason("The monitor has found no drift")

    return drift


def build_run_sensors(plan: Plan, symbol: Symbol, jobs: Sequence[Any]) -> list[dg.SensorDefinition]:
    """A run that has failed for good is an incident, until one of the same job succeeds."""
    running, prefix = dg.DefaultSensorStatus.RUNNING, asset_prefix(symbol.name)

    def tell(run: dg.DagsterRun, health: Health, sentence: str) -> None:
        cfg = compose("monitor", plan.command("monitor", symbol.name))
        finding = Finding("pipeline_failed", run.job_name, health, sentence, f"Dagster, run {run.run_id}")
        with closing(Ledger(cfg.registry.ledger)) as ledger:
            report(ledger, construct(cfg.alerts), [finding], now=clock.now())

    @dg.run_failure_sensor(name=f"{prefix}_failed", monitored_jobs=list(jobs), default_status=running)
    def failed(context: dg.RunFailureSensorContext) -> None:
        why = " ".join((context.failure_event.message or "nothing is known of it").split())
        tell(context.dagster_run, Health.BAD, f"The run of {context.dagster_run.job_name} has failed: {why}")

    @dg.run_status_sensor(
        name=f"{prefix}_succeeded",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=list(jobs),
        default_status=running,
    )
    def succeeded(context: dg.RunStatusSensorContext) -> None:
        tell(context.dagster_run, Health.GOOD, f"A run of {context.dagster_run.job_name} has succeeded.")

    return [failed, succeeded]


def read_asked_retraining(url: str, name: str) -> str | None:
    """When the monitor last asked for one.    Raises    LedgerError"""
    with closing(Ledger(url)) as ledger, ledger.transaction() as connection:
        state = read_states(connection, name, 0).get(RETRAINING)
    return state["asked_at"] if state else None


def build_model(cfg: DictConfig, plan: Plan, symbol: Symbol, hourly_bars: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=asset_prefix(symbol.name),
        group_name=asset_prefix(symbol.name),
        deps=[hourly_bars],
        retry_policy=_retries(cfg),
        pool=TRAINING,
        description="`lstm_ts.retrain`: a candidate that the gate judges",
    )
    def model() -> dg.MaterializeResult[Any]:
        from lstm_ts import retrain  # seconds and 400 MB of libraries, of which the schedule needs none

        with _mistakes_told():
            done = run_command("retrain", retrain.run, plan.command("retrain", symbol.name))
        return dg.MaterializeResult(
            metadata={
                "says": f"registered {done.registered}" if done.registered else "nothing new, or too early to judge",
                "verdict": done.registered.tags["verdict"] if done.registered else "none",
                "champion": str(done.champion) if done.champion else "none yet",
            }
        )

    return model


def build_check(plan: Plan, symbol: Symbol, hourly_bars: dg.AssetsDefinition, *, days: int) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=hourly_bars, description=f"Each session hour of the last {days} days has a bar")
    def no_hour_missing() -> dg.AssetCheckResult:
        stored = processed_store(compose("process", plan.command("process", symbol.name))).read_stamps().to_frame()
        closed = last_closed_hour(clock.now()) + HOUR
        expected = symbol.session.hours(closed - days * DAY, closed)
        missing = expected.join(stored, on="ts", how="anti")["ts"].dt.to_string("%a %Y-%m-%d %H:%M")
        return dg.AssetCheckResult(
            passed=missing.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "missing": len(missing),
                "session_hours": expected.height,
                "hours": missing.tail(SHOWN_HOURS).to_list(),
            },
        )

    return no_hour_missing


def build_schedules(
    cfg: DictConfig, plan: Plan, symbol: Symbol, bars: Any, retraining: Any
) -> list[dg.ScheduleDefinition]:
    prefix, running = asset_prefix(symbol.name), dg.DefaultScheduleStatus.RUNNING

    @dg.schedule(name=f"{prefix}_hourly", job=bars, cron_schedule=cfg.cron.hourly, default_status=running)
    def hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        hour = last_closed_hour(context.scheduled_execution_time.astimezone(UTC))
        why = why_closed(symbol.session, hour, hour + HOUR)
        return dg.SkipReason(why) if why else dg.RunRequest(partition_key=f"{hour:%Y-%m-%d}")

    @dg.schedule(name=f"{prefix}_nightly", job=bars, cron_schedule=cfg.cron.nightly, default_status=running)
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = day_of(context.scheduled_execution_time.astimezone(UTC))
        start = max(plan.first_day, today - cfg.look_back_days * DAY)
        why = why_closed(symbol.session, start, today) if start < today else f"{start:%Y-%m-%d} is not over"
        in_one_run = {AGAIN: "true", RANGE_START: f"{start:%Y-%m-%d}", RANGE_END: f"{today - DAY:%Y-%m-%d}"}
        return dg.SkipReason(why) if why else dg.RunRequest(tags=in_one_run)

    weekly = dg.ScheduleDefinition(
        name=f"{prefix}_weekly",
        job=retraining,
        cron_schedule=cfg.cron.weekly,
        default_status=running,
    )
    return [hourly, nightly, weekly]


def _retries(cfg: DictConfig) -> dg.RetryPolicy:
    return dg.RetryPolicy(
        max_retries=cfg.retries.most,
        delay=cfg.retries.first_delay_s,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


def _result(
    done: UpsertResult | IngestResult | BackfillResult, *, says: str | None = None, **more: int | str
) -> dg.MaterializeResult[Any]:
    news = f"{done.new:,} new and {done.revised:,} revised bars"
    says = says or (news if done.new or done.revised else "nothing new, no file changed")
    counts = {"new": done.new, "same": done.same, "revised": done.revised}
    return dg.MaterializeResult(metadata={"says": says, **counts, **more})


@contextmanager
def _mistakes_told() -> Iterator[None]:
    """What does not mend itself is not tried again."""
    try:
        yield
    except MENDING:
        raise
    except (LstmTsError, OmegaConfBaseException) as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def hold_stores(data: Path, symbols: Sequence[str], address: str) -> None:
    """Lock the stores for as long as this process lives.    Raises    ConfigError: another pipeline has one"""
    data.mkdir(parents=True, exist_ok=True)
    for symbol in symbols:
        try:
            hold_lock(data / f"pipeline-{symbol}.lock", f"process {os.getpid()}, {address}")
        except BlockingIOError as error:
            raise ConfigError(
                f"Expected no other pipeline of {symbol} in {data}, got one that runs ({error}); "
                f"stop that one, or set another paths.data"
            ) from None


def make_home(home: Path, dagster_yaml: str) -> Path:
    """Raises    ConfigError: the home of another Dagster"""
    home.mkdir(parents=True, exist_ok=True)
    settings, content = home / "dagster.yaml", f"{WRITTEN_HERE}{dagster_yaml}".encode()
    before = settings.read_bytes() if settings.exists() else content
    if not before.startswith(WRITTEN_HERE.encode()) and before != dagster_yaml.encode():
        raise ConfigError(
            f"Expected a home of this pipeline, got {settings} of another Dagster, which stays; set another home"
        )
    write_whole(settings, content)
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            for pool in (SOURCE, TRAINING):  # Dagster 1.13 sets a pool's limit once a run has waited for it: too late
                instance.event_log_storage.initialize_concurrency_limit_to_default(pool)
    except dg.DagsterInvalidConfigError as error:
        why = str(error.errors[0].message if error.errors else error).partition(" Expected: ")[0]
        raise ConfigError(
            f"Expected settings of instance that Dagster takes, got: {why}; see conf/pipeline.yaml"
        ) from error
    return home


@entry_point("pipeline")
def main(cfg: DictConfig) -> None:
    overrides = typed_overrides()
    GlobalHydra.instance().clear()  # this command's own, in the way of composing the steps'
    build_definitions(overrides)  # a mistake is told now, not on a Saturday
    check_port(cfg.host, cfg.port)
    if not str(cfg.home or "").strip():
        raise ConfigError("Expected home as a folder for Dagster's run history, got none; set it, or leave it out")
    hold_stores(Path(cfg.paths.data), read_symbols(cfg.symbols), f"http://{cfg.host}:{cfg.port}")
    home = make_home(Path(cfg.home).absolute(), OmegaConf.to_yaml(cfg.instance, resolve=True))
    os.environ |= {"DAGSTER_HOME": str(home), OVERRIDES: json.dumps(overrides)}
    log.info("Dagster starts; its address is told once it answers")
    dagster = (sys.executable, "-W", SUPERSEDED, "-m", "dagster", "dev", "-m", "lstm_ts.pipeline")
    address, form = (cfg.host, str(cfg.port)), ("--log-format", "json") if cfg.log == JSON else ()
    command = (*dagster, "--host", address[0], "--port", address[1], *form)
    # 200 MB less than this process
    os.execv(sys.executable, (sys.executable, "-m", "lstm_ts.lifetime", *address, *command))


if __name__ == "__main__":
    main()
