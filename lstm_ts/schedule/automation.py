"""Automation of a symbol's runs in Dagster: schedules, and sensors of drift and of ended runs."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from omegaconf import DictConfig

from lstm_ts import clock
from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct_alerts
from lstm_ts.ledger.monitor_tables import read_states
from lstm_ts.market.session import DAY, HOUR, midnight
from lstm_ts.market.symbol import Symbol
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.versions import RETRAINING
from lstm_ts.registry.ledger_check import open_ledger
from lstm_ts.schedule.assets import AGAIN
from lstm_ts.schedule.plan import Plan, asset_prefix, last_closed_hour, why_closed

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"  # tags of a run
SENSOR_S = 60  # between two polls of the monitor's request


def build_drift_sensor(plan: Plan, symbol: Symbol, retraining: Any) -> dg.SensorDefinition:
    """Build the sensor that starts one retraining for each request of the monitor."""

    @dg.sensor(
        name=f"{asset_prefix(symbol.name)}_drift",
        job=retraining,
        minimum_interval_seconds=SENSOR_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def drift() -> dg.RunRequest | dg.SkipReason:
        cfg = compose("monitor", plan.command("monitor", symbol.name))
        asked_at = read_retraining_request(cfg)
        return (
            dg.RunRequest(run_key=asked_at)
            if asked_at
            else dg.SkipReason("The monitor has requested no retraining for a day")
        )

    return drift


def build_run_sensors(plan: Plan, symbol: Symbol, jobs: Sequence[Any]) -> list[dg.SensorDefinition]:
    """Build the sensors that report a run that failed for good as an incident, until a run of the same job succeeds.

    The nightly run is a job of its own: an hourly one does not fetch its days.
    """
    running, prefix = dg.DefaultSensorStatus.RUNNING, asset_prefix(symbol.name)

    def name_job(run: dg.DagsterRun) -> str:
        return f"{prefix}_nightly" if AGAIN in run.tags else run.job_name

    def report_run(run: dg.DagsterRun, health: Health, sentence: str) -> None:
        cfg = compose("monitor", plan.command("monitor", symbol.name))
        finding = Finding("pipeline_failed", name_job(run), health, sentence, f"Dagster, run {run.run_id}")
        with closing(open_ledger(cfg.registry.ledger, cfg.registry.uri)) as ledger:
            report(ledger, construct_alerts(cfg), [finding], now=clock.now())

    @dg.run_failure_sensor(name=f"{prefix}_failed", monitored_jobs=list(jobs), default_status=running)
    def failed(context: dg.RunFailureSensorContext) -> None:
        why = " ".join((context.failure_event.message or "nothing is known of it").split())
        report_run(context.dagster_run, Health.BAD, f"The run of {name_job(context.dagster_run)} has failed: {why}")

    @dg.run_status_sensor(
        name=f"{prefix}_succeeded",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=list(jobs),
        default_status=running,
    )
    def succeeded(context: dg.RunStatusSensorContext) -> None:
        report_run(context.dagster_run, Health.GOOD, f"A run of {name_job(context.dagster_run)} has succeeded.")

    return [failed, succeeded]


def read_retraining_request(cfg: DictConfig) -> str | None:
    """Return when the monitor last requested a retraining, ISO; None: not for a day.    Raises    LedgerError

    An older request would start one in each new or emptied home; if drift remains, the monitor repeats it.
    """
    at = cfg.registry
    with closing(open_ledger(at.ledger, at.uri)) as ledger, ledger.transaction() as connection:
        state = read_states(connection, cfg.name, 0).get(RETRAINING)
    return state["asked_at"] if state and clock.now() - datetime.fromisoformat(state["asked_at"]) < DAY else None


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
        today = midnight(context.scheduled_execution_time.astimezone(UTC))
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
