import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import make_data, symbol_bars

from lstm_ts.errors import ConfigError, NotEnoughBars
from lstm_ts.market.session import Session
from lstm_ts.model.datamodule import BarsDataModule, BatchOrder, Split
from lstm_ts.model.windows import WindowSpec

SPEC = WindowSpec(tsteps=12, horizon=3, levels=(0.1, 0.5, 0.9), max_missing=3)


def module(bars: pl.DataFrame, session: Session, spec: WindowSpec = SPEC, **split: object) -> BarsDataModule:
    chosen: Any = {"valid_from": 0.6, "test_from": 0.8, "test_until": None} | split
    return make_data(symbol_bars(bars, session), spec=spec, split=Split(**chosen))


def test_the_parts_follow_each_other_and_no_target_crosses(hourly_bars: pl.DataFrame, silver: Session) -> None:
    data = module(hourly_bars, silver, valid_from="2014-04-01", test_from="2014-05-01")
    data.setup()
    (its,) = data.symbols
    origin_ts_G, horizon = its.grid.origin_ts_G, SPEC.horizon
    assert origin_ts_G[its.train_origins.rows_N + horizon].max() < np.datetime64("2014-04-01")
    assert origin_ts_G[its.valid_origins.rows_N].min() >= np.datetime64("2014-04-01")
    assert origin_ts_G[its.valid_origins.rows_N + horizon].max() < np.datetime64("2014-05-01")


def test_without_a_validation_its_hours_are_trained_on(hourly_bars: pl.DataFrame, silver: Session) -> None:
    split = Split(valid_from="2014-04-01", test_from="2014-05-01", test_until=None)
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC, split=split, drift_weights={"XAGUSD": 0.5})
    data.setup()
    (its,) = data.symbols
    last = its.grid.origin_ts_G[its.train_origins.rows_N + SPEC.horizon].max()
    assert np.datetime64("2014-04-30") < last < np.datetime64("2014-05-01")
    assert not len(its.valid_origins.rows_N)
    whole = make_data(symbol_bars(hourly_bars, silver), spec=SPEC, split=split, drift_weights={"XAGUSD": 1.0})
    whole.setup()
    np.testing.assert_array_equal(its.scaler.drift_D, whole.symbols[0].scaler.drift_D / 2)
    np.testing.assert_allclose(its.train_windows.drift_GH, whole.symbols[0].train_windows.drift_GH / 2, rtol=1e-6)
    kept = make_data(symbol_bars(hourly_bars, silver), spec=SPEC, split=split, kept_scalers={"XAGUSD": its.scaler})
    kept.setup()
    assert (kept.symbols[0].scaler, kept.symbols[0].drift_weight) == (its.scaler, None)


def test_a_fraction_is_of_the_span(hourly_bars: pl.DataFrame, silver: Session) -> None:
    first, last = hourly_bars["ts"][0], hourly_bars["ts"][-1]
    split = Split(valid_from=0.5, test_from=1.0, test_until=None)
    assert split.borders(first, last) == (first + (last - first) / 2, last)


def test_a_split_out_of_order_is_refused() -> None:
    split = Split(valid_from="2015-01-01", test_from="2014-01-01", test_until=None)
    with pytest.raises(ConfigError, match="in order after the first bar"):
        split.borders(datetime(2013, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC))


def test_too_few_bars_say_both_numbers_and_few_are_told(
    hourly_bars: pl.DataFrame, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NotEnoughBars, match=r"at least 15 session hours .* among 20 bars"):
        module(hourly_bars.head(20), silver).setup()
    module(hourly_bars, silver).setup()
    assert "statistics" not in caplog.text
    module(hourly_bars.head(300), silver).setup()
    assert re.search(r"\d+ windows of XAGUSD before .* are few for statistics by hour of the week", caplog.text)


def test_training_hours_that_are_known_too_rarely_for_statistics_are_named(
    hourly_bars: pl.DataFrame, silver: Session
) -> None:
    hole = (pl.col("row") % 4 == 1) | pl.col("row").is_between(SPEC.tsteps, 2 * SPEC.tsteps)
    bars = hourly_bars.with_row_index("row").filter(~hole).drop("row")
    split = Split(valid_from=hourly_bars["ts"][2 * SPEC.tsteps - 1], test_from=0.8, test_until=None)
    with pytest.raises(NotEnoughBars, match=f"bars of more than {SPEC.tsteps} hours of XAGUSD before .*, got "):
        make_data(symbol_bars(bars, silver), spec=SPEC, split=split).setup()


def test_an_epoch_has_every_window_once(hourly_bars: pl.DataFrame, silver: Session) -> None:
    data = module(hourly_bars, silver)
    data.setup()
    batches = list(data.train_dataloader())
    assert sum(len(batch.x_BTF) for batch in batches) == len(data.train_windows)
    scales = torch.cat([batch.scale_BH for batch in batches])
    expected = data.train_windows.scale_GH[data.train_windows.origin_N]
    assert np.array_equal(np.sort(scales[:, 0]), np.sort(expected[:, 0]))


def test_the_order_is_new_each_epoch_and_the_same_for_a_seed() -> None:
    def epoch(number: int, seed: int = 0) -> list[int]:
        order = BatchOrder([100], batch_size=7, shuffle=True, seed=seed)
        order.set_epoch(number)
        return torch.cat(list(order)).tolist()

    assert epoch(3) == epoch(3)
    assert epoch(3) != epoch(4)
    assert epoch(3) != epoch(3, seed=1)
    assert sorted(epoch(3)) == list(range(100))


def test_the_reference_is_of_training_targets_alone(hourly_bars: pl.DataFrame, silver: Session) -> None:
    data = module(hourly_bars, silver)
    data.setup()
    (its,) = data.symbols
    y_N = np.log(its.grid.close_G[its.train_origins.rows_N + 1] / its.grid.close_G[its.train_origins.rows_N])
    np.testing.assert_allclose(its.reference.baselines["climatology"].q_HQ[0], np.nanquantile(y_N, SPEC.levels))
    assert its.reference.mase_scale_H[0] == pytest.approx(np.nanmean(np.abs(y_N)))


@given(rows=st.integers(1, 40), size=st.integers(1, 9), world=st.integers(1, 4), seed=st.integers(0, 5))
def test_processes_share_each_batch_and_take_the_same_steps(rows: int, size: int, world: int, seed: int) -> None:
    whole = list(BatchOrder([rows], batch_size=size, shuffle=True, seed=seed))
    shares = [
        list(BatchOrder([rows], batch_size=size, shuffle=True, seed=seed, rank=rank, world=world))
        for rank in range(world)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {int(row) for part in parts for row in part} == set(batch.tolist())
        assert all(len(part) <= -(-len(batch) // world) for part in parts)
        if len(batch) >= world:
            assert sum(map(len, parts)) == len(batch)
