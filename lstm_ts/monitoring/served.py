"""Served forecasts beside what the store gave: read from the ledger and the store, for `skew`."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from lstm_ts.errors import RegistryError
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.monitor_rows import HourlyForecast, MonitorState
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.market.session import HOUR, MICROSECOND
from lstm_ts.model.evaluation import Span
from lstm_ts.model.features import Bars
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.monitoring.findings import Finding
from lstm_ts.monitoring.run import LATE, MonitorRun, forecast_hours
from lstm_ts.monitoring.skew import Key, check_served, choose
from lstm_ts.store.bar_store import BarStore

PROBE = "probe-"  # begins the ids of requests by deploy/smoke and deploy/release, whose bars are invented
SERVED = "served"  # a kind of state, of version 0: up to when requests are checked

log = logging.getLogger(__name__)


def check_skew(run: MonitorRun, store: BarStore) -> tuple[Finding, MonitorState]:
    """Compare requests since the last check with the store; the next check takes those whose hours are not stored yet.

    It does so for LATE at most: hours that a client has invented are never stored.

    store      of the hourly bars, whose revisions show what it held at a request, but for bars that were added since
    Returns    the finding, and the state that the next check starts from
    """
    with run.ledger.transaction() as connection:
        state = tables.read_states(connection, run.name, 0).get(SERVED)
    checked = datetime.fromisoformat(state["until"]) if state else None
    since = checked if checked and checked <= run.now else run.now - LATE  # else a clock was ahead
    asked, stored_until = run.ledger.forecasts(run.name, since=since, until=run.now), run.hourly_bars["ts"][-1] + HOUR
    served = [row for row in asked if row.origin_ts <= stored_until and not row.request_id.startswith(PROBE)]
    waiting = [row.at for row in asked if row.origin_ts > stored_until and run.now - row.at <= LATE]
    until = min(waiting, default=run.now)
    keys = {(row.version, row.origin_ts) for row in served}
    with run.ledger.transaction() as connection:
        found = {key: tables.find_forecast(connection, run.name, *key) for key in keys}
    stored = {key: [row] for key, row in found.items() if row}
    _add_others(run, store, served, stored)
    unseen = {key for key, row in found.items() if row is None}
    finding = check_served(run.name, served, stored, since=since, unseen=unseen)
    return finding, MonitorState(run.name, 0, SERVED, run.now, {"until": until.isoformat()})


def _add_others(
    run: MonitorRun, store: BarStore, served: Sequence[ForecastRow], stored: dict[Key, list[HourlyForecast]]
) -> None:
    """Add the store's forecasts of now, and of the requests' time, to hours whose requests had other bars.

    So are they to recent hours that the monitor has not forecast: a version answers in the hour of its decision, and
    while a service has not followed its alias to another one.
    """
    others = defaultdict(list)
    for row in served:
        found = stored.get((row.version, row.origin_ts))
        if row.input_sha256 != found[0].input_sha256 if found else row.at - row.origin_ts <= LATE:
            others[row.version].append(row)
    revisions = store.read_revisions() if others else pl.DataFrame()
    for version, rows in others.items():
        try:
            forecaster = run.registry.load(run.registry.version(run.name, version))
        except RegistryError as error:
            log.warning("Served forecasts of version %d of %s cannot be checked: %s", version, run.name, error)
            continue
        origins = {row.origin_ts for row in rows}
        for now in forecast_hours(run, version, forecaster, Span(min(origins), max(origins) + MICROSECOND)):
            if now.origin_ts in origins:
                stored.setdefault((version, now.origin_ts), []).append(now)
        _add_earlier(run, revisions, forecaster, [row for row in rows if (version, row.origin_ts) in stored], stored)


def _add_earlier(
    run: MonitorRun,
    revisions: pl.DataFrame,
    forecaster: Forecaster,
    rows: Sequence[ForecastRow],
    stored: dict[Key, list[HourlyForecast]],
) -> None:
    """Add the forecasts of what the store held when requests came, but for bars that were added since.

    A request of other bars is recognised by its window's hash: a forecast takes the whole history.
    """
    for row in rows:
        found = stored[row.version, row.origin_ts]
        if choose(row, found).input_sha256 == row.input_sha256:
            continue
        since = revisions.filter(pl.col("revised_at") > row.at)
        window = run.hourly_bars.filter(pl.col("ts") < row.origin_ts).tail(forecaster.spec.tsteps)
        if Bars.of(undo(window, since)).sha256 == row.input_sha256:
            then = replace(run, hourly_bars=undo(run.hourly_bars, since))
            found += forecast_hours(then, row.version, forecaster, Span(row.origin_ts, row.origin_ts + MICROSECOND))


def undo(bars: pl.DataFrame, revisions: pl.DataFrame) -> pl.DataFrame:
    """Return the bars as they were before these revisions, as `BarStore.read_revisions` returns them."""
    before = revisions.sort("revised_at", maintain_order=True).unique("ts", keep="first", maintain_order=True)
    return bars.update(before.select(bars.columns), on="ts", include_nulls=True)
