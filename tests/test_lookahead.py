"""Invariants 1 and 2: nothing sees a later bar, and a window needs nothing but its own bars."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import make_data, random_network, symbol_bars

from lstm_ts.market.session import Session
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.windows import WindowSpec, find_origins

SPEC = WindowSpec(tsteps=24, horizon=4, levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_missing=6)
CONFIG = LSTMConfig(hidden=8, layers=1, decoder=8, dropout=0.1)
VALID_FROM = datetime(2014, 4, 1, tzinfo=UTC)
SPOILS = [None, 1e9]  # a bar left out, or an absurd price


def data_of(bars: pl.DataFrame, session: Session) -> BarsDataModule:
    split = Split(valid_from=VALID_FROM.isoformat(), test_from="2014-05-01", test_until=None)
    data = make_data(symbol_bars(bars, session), spec=SPEC, split=split)
    data.setup()
    return data


@pytest.fixture(scope="module")
def forecaster(hourly_bars: pl.DataFrame, silver: Session) -> Forecaster:
    """A network with random weights everywhere, so that its forecasts depend on every input."""
    data = data_of(hourly_bars, silver)
    (its,) = data.symbols
    provenance = Provenance("XAGUSD", "test hours", "", "", "", "", 0, "", "", {}, {})
    network = random_network(data, CONFIG)
    return Forecaster(network, its.scaler, its.reference, SPEC, silver, provenance, {})


def spoiled(bars: pl.DataFrame, start: datetime, price: float | None, end: datetime | None = None) -> pl.DataFrame:
    """Every price of the bars with start <= ts < end replaced, or the bars left out."""
    later = (pl.col("ts") >= start) & (pl.col("ts") < (end or start + timedelta(weeks=999)))
    if price is None:
        return bars.filter(~later)
    return bars.with_columns(
        pl.when(later).then(price).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    )


@pytest.mark.parametrize("price", SPOILS)
def test_bars_after_the_training_part_change_no_statistic_and_no_training_window(
    hourly_bars: pl.DataFrame, silver: Session, price: float | None
) -> None:
    later = spoiled(hourly_bars, VALID_FROM, price, VALID_FROM + timedelta(days=10))
    before, after = data_of(hourly_bars, silver), data_of(later, silver)
    (ours,), (theirs,) = before.symbols, after.symbols
    pairs: list[tuple[object, object]] = [(ours.scaler, theirs.scaler)]
    pairs += zip(ours.reference.baselines.values(), theirs.reference.baselines.values(), strict=True)
    for one, other in pairs:
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)
    for name in ("start_pinball_H", "mase_scale_H"):
        np.testing.assert_array_equal(getattr(ours.reference, name), getattr(theirs.reference, name))
    for column, same in zip(before.train_windows[:], after.train_windows[:], strict=True):
        np.testing.assert_array_equal(column, same)


@settings(max_examples=20)
@given(back=st.integers(1, 400), price=st.sampled_from(SPOILS))
def test_a_bar_after_the_origin_changes_no_forecast_at_or_before_it(
    forecaster: Forecaster, hourly_bars: pl.DataFrame, back: int, price: float | None
) -> None:
    after = hourly_bars["ts"][-back]
    whole, changed = forecaster.grid(hourly_bars), forecaster.grid(spoiled(hourly_bars, after, price))
    rows_N = find_origins(whole, SPEC, end=after + timedelta(microseconds=1)).rows_N
    rows_N = rows_N[rows_N + SPEC.horizon < len(changed.ts_G)]
    ours, theirs = (forecaster.windows(grid, rows_N, forecaster.season_states(grid)) for grid in (whole, changed))
    np.testing.assert_allclose(forecaster.quantiles(ours), forecaster.quantiles(theirs), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.scale_NH, theirs.scale_NH, rtol=0, atol=1e-12)
    for name, q_NHQ in forecaster.reference.quantiles(ours).items():
        np.testing.assert_allclose(q_NHQ, forecaster.reference.quantiles(theirs)[name], rtol=0, atol=1e-12)


def test_the_bar_of_the_origin_does_change_its_forecast(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    """So that the test above can fail."""
    moved = spoiled(hourly_bars, hourly_bars["ts"][-1], 30.0)
    assert not np.allclose(forecaster.forecast(hourly_bars).q_HQ, forecaster.forecast(moved).q_HQ)


@settings(max_examples=20)
@given(end=st.integers(100, 2000))
def test_a_forecast_needs_exactly_the_bars_of_its_window(
    forecaster: Forecaster, hourly_bars: pl.DataFrame, end: int
) -> None:
    until = hourly_bars.head(end)
    grid = forecaster.grid(until)
    first = len(grid.ts_G) - SPEC.horizon - SPEC.tsteps
    assume(not grid.missing_G[first])
    alone = until.filter(pl.col("ts") >= grid.ts_G[first].item().replace(tzinfo=UTC))
    assert len(forecaster.grid(alone).ts_G) == SPEC.tsteps + SPEC.horizon
    np.testing.assert_allclose(forecaster.forecast(alone).q_HQ, forecaster.forecast(until).q_HQ, atol=1e-6)


def test_one_window_at_a_time_gives_the_numbers_of_a_batch(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    grid = forecaster.grid(hourly_bars)
    rows_N = find_origins(grid, SPEC).rows_N[-20:]
    q_NHQ = forecaster.quantiles(forecaster.windows(grid, rows_N))
    for row, q_HQ in zip(rows_N, q_NHQ, strict=True):
        origin_ts = grid.origin_ts_G[row].item().replace(tzinfo=UTC)
        alone = forecaster.forecast(hourly_bars.filter(pl.col("ts") < origin_ts))
        assert alone.origin_ts == origin_ts
        np.testing.assert_allclose(alone.q_HQ, q_HQ, atol=1e-6)
