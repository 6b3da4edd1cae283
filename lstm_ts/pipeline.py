"""`python -m lstm_ts.pipeline`: the schedule, with Dagster's pages and daemon.

    <symbol>/minute_bars   a day a partition ──→ <symbol>/hourly_bars ──→ <symbol>/model

Each asset runs a command, whose module documents behaviour and settings. Every step may be repeated.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("pipeline")  # before what is slow to import

import dagster as dg
from omegaconf import DictConfig, OmegaConf

from lstm_ts.cli import compose, entry_point, typed_overrides
from lstm_ts.errors import ConfigError
from lstm_ts.logs import JSON
from lstm_ts.market.symbol import Symbol
from lstm_ts.ports import check_port, show_address
from lstm_ts.schedule.assets import (
    SOURCE,
    TRAINING,
    build_check,
    build_hourly_bars,
    build_minute_bars,
    build_model,
    build_outcomes,
)
from lstm_ts.schedule.automation import build_drift_sensor, build_run_sensors, build_schedules
from lstm_ts.schedule.plan import Plan, asset_prefix, make_plan
from lstm_ts.store.disk import hold_lock, write_whole

OVERRIDES = "LSTM_TS_PIPELINE"  # this command line's overrides, as JSON, for processes that Dagster starts
SUPERSEDED = "ignore:Function `dev_command` is superseded"  # Dagster prefers a package that creates projects
WRITTEN_HERE = "# Written by lstm_ts.pipeline at each start, from conf/pipeline.yaml.\n"
log = logging.getLogger(__name__)


def build_definitions(overrides: Sequence[str]) -> dg.Definitions:
    """Raises    ConfigError: a step rejects its configuration"""
    cfg = compose("pipeline", overrides)
    plan = make_plan(cfg, overrides)
    plan.check()
    try:
        with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):  # backfill_policy may change yet
            per_symbol = [build_symbol(cfg, plan, symbol) for symbol in plan.symbols]
        # Runs are a few short steps in a row: a process for each step would cost more than the step.
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


def hold_stores(plan: Plan, address: str) -> None:
    """Lock the stores for as long as this process lives.    Raises    ConfigError: another pipeline has one"""
    for symbol in plan.symbols:
        data = Path(compose("process", plan.command("process", symbol.name)).paths.data)
        data.mkdir(parents=True, exist_ok=True)
        try:
            hold_lock(data / f"pipeline-{symbol.name}.lock", f"process {os.getpid()}, {address}")
        except BlockingIOError as error:
            raise ConfigError(
                f"Expected no other pipeline of {symbol.name} in {data}, got one that runs ({error}); "
                f"stop that one, or set another paths.data"
            ) from None


def make_home(home: Path, dagster_yaml: str) -> Path:
    """Prepare Dagster's home.    Raises    ConfigError: it is the home of another Dagster"""
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
    build_definitions(overrides)  # reports a mistake now, not on a Saturday
    check_port(cfg.host, cfg.port)
    if not str(cfg.home or "").strip():
        raise ConfigError("Expected home as a folder for Dagster's run history, got none; set it, or leave it out")
    hold_stores(make_plan(cfg, overrides), f"http://{show_address(cfg.host, cfg.port)}")
    home = make_home(Path(cfg.home).absolute(), OmegaConf.to_yaml(cfg.instance, resolve=True))
    os.environ |= {"DAGSTER_HOME": str(home), OVERRIDES: json.dumps(overrides)}
    log.info("Starting Dagster; its address is printed once it responds")
    dagster = (sys.executable, "-W", SUPERSEDED, "-m", "dagster", "dev", "-m", "lstm_ts.pipeline")
    address, form = (cfg.host, str(cfg.port)), ("--log-format", "json") if cfg.log == JSON else ()
    command = (*dagster, "--host", address[0], "--port", address[1], *form)
    # needs 200 MB less than this process
    os.execv(sys.executable, (sys.executable, "-m", "lstm_ts.schedule.dagster_process", *address, *command))


if __name__ == "__main__":
    main()
