"""A symbol's assets in Dagster: each runs a command; a user's mistake fails it without a retry."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lstm_ts import clock, ingest, process
from lstm_ts.cli import compose, run_command
from lstm_ts.configuration.parts import processed_store
from lstm_ts.errors import BrokerUnavailable, LedgerError, LstmTsError, NoRows, NoSuchFile, RegistryError
from lstm_ts.market.session import DAY, HOUR
from lstm_ts.market.symbol import Symbol
from lstm_ts.schedule.plan import Plan, asset_prefix, last_closed_hour, why_closed
from lstm_ts.sources.backfill import BackfillResult
from lstm_ts.sources.ingestion import IngestResult
from lstm_ts.store.staging import UpsertResult

SOURCE, TRAINING = "source", "training"  # pools
AGAIN = "lstm_ts/again"  # tag of a run that fetches proven minutes, too
SHOWN_HOURS = 50
TRANSIENT = (BrokerUnavailable, LedgerError, NoRows, NoSuchFile, RegistryError)  # errors that may go away by themselves


def build_minute_bars(cfg: DictConfig, plan: Plan, symbol: Symbol) -> dg.AssetsDefinition:
    @_asset(
        cfg,
        symbol,
        partitions_def=dg.DailyPartitionsDefinition(plan.first_day, end_offset=1),  # today is one, too
        backfill_policy=dg.BackfillPolicy.multi_run(cfg.days_per_run),
        pool=SOURCE,
        description="`lstm_ts.ingest` of a UTC day",
    )
    def minute_bars(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        window = context.partition_time_window
        closed = clock.now().replace(second=0, microsecond=0)
        start, end = window.start, min(window.end, closed)
        days = f"{start:%Y-%m-%d} to {window.end - DAY:%Y-%m-%d}"  # one day, or those of a run of a backfill
        why = why_closed(symbol.session, start, end) if start < end else f"{start:%Y-%m-%d} has not begun"
        if why:
            return _result(UpsertResult(0, 0, 0, ()), says=why, days=days)
        again = context.run.tags.get(AGAIN, "false")
        span = (f"span.start={start.isoformat()}", f"span.end={end.isoformat()}")
        overrides = plan.command("ingest", symbol.name, *span, f"again={again}")
        with _fail_if_permanent():
            done = run_command("ingest", ingest.run, overrides)
        assert done is not None  # the action is not status
        return _result(done, days=days, rejected=done.rejected)

    return minute_bars


def build_hourly_bars(
    cfg: DictConfig, plan: Plan, symbol: Symbol, minute_bars: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    @_asset(
        cfg,
        symbol,
        deps=[minute_bars],
        description="`lstm_ts.process` of all minutes",
    )
    def hourly_bars() -> dg.MaterializeResult[Any]:
        with _fail_if_permanent():
            done = run_command("process", process.run, plan.command("process", symbol.name))
        return _result(done.upsert, session_hours=done.session_hours, missing=done.missing)

    return hourly_bars


def build_outcomes(
    cfg: DictConfig, plan: Plan, symbol: Symbol, hourly_bars: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    @_asset(
        cfg,
        symbol,
        deps=[hourly_bars],
        description="`lstm_ts.monitor`: forecasts of every hour beside their outcomes; drift, verdicts, alerts",
    )
    def outcomes() -> dg.MaterializeResult[Any]:
        from lstm_ts import monitor  # see `model`

        with _fail_if_permanent():
            code = run_command("monitor", monitor.run, plan.command("monitor", symbol.name))
        results = {
            monitor.RETRAIN: "a retraining is due; the log names alerts that did not arrive",
            monitor.UNDELIVERED: "an alert did not arrive",
        }
        return dg.MaterializeResult(metadata={"says": results.get(code, "nothing to do")})

    return outcomes


def build_model(cfg: DictConfig, plan: Plan, symbol: Symbol, hourly_bars: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @_asset(
        cfg,
        symbol,
        deps=[hourly_bars],
        pool=TRAINING,
        description="`lstm_ts.retrain`: a candidate that the gate judges",
    )
    def model() -> dg.MaterializeResult[Any]:
        from lstm_ts import retrain  # seconds and 400 MB of libraries, of which the schedule needs none

        with _fail_if_permanent():
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


def _asset(cfg: DictConfig, symbol: Symbol, **options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dagster.asset` in the symbol's group, with the configured retries."""
    prefix = asset_prefix(symbol.name)
    retries = dg.RetryPolicy(
        max_retries=cfg.retries.most,
        delay=cfg.retries.first_delay_s,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )
    asset: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key_prefix=prefix, group_name=prefix, retry_policy=retries, **options
    )
    return asset


def _result(
    done: UpsertResult | IngestResult | BackfillResult, *, says: str | None = None, **more: int | str
) -> dg.MaterializeResult[Any]:
    news = f"{done.new:,} new and {done.revised:,} revised bars"
    says = says or (news if done.new or done.revised else "nothing new")
    counts = {"new": done.new, "same": done.same, "revised": done.revised}
    return dg.MaterializeResult(metadata={"says": says, **counts, **more})


@contextmanager
def _fail_if_permanent() -> Iterator[None]:
    """Fail without a retry on errors that do not go away by themselves."""
    try:
        yield
    except TRANSIENT:
        raise
    except (LstmTsError, OmegaConfBaseException) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
