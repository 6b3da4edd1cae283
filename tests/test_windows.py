from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import fit_rows

from lstm_ts.errors import ConfigError
from lstm_ts.market.session import Session
from lstm_ts.model.features import Grid, make_grid
from lstm_ts.model.scaler import Scaler
from lstm_ts.model.tensors import flip_sign, to_tensors
from lstm_ts.model.windows import (
    BODY,
    FEATURES,
    GAP,
    WindowSpec,
    compute_returns_GH,
    find_origins,
    make_windows,
)

LEVELS = (0.1, 0.5, 0.9)
SPEC = WindowSpec(tsteps=12, horizon=3, levels=LEVELS, max_missing=2)


@pytest.fixture(scope="module")
def grid(silver: Session, hourly_bars: pl.DataFrame) -> Grid:
    return make_grid(hourly_bars, silver, ahead=SPEC.horizon)


@pytest.fixture(scope="module")
def scaler(grid: Grid) -> Scaler:
    return fit_rows(grid, len(grid.ts_G), SPEC)


def test_targets_are_cumulative_log_returns_from_the_origin(grid: Grid) -> None:
    y_GH = compute_returns_GH(grid, horizon=3)
    assert y_GH[5, 2] == pytest.approx(np.log(grid.close_G[8] / grid.close_G[5]))
    missing = int(np.flatnonzero(grid.missing_G[10:])[0]) + 10
    assert np.isnan(y_GH[missing]).all()
    assert np.isnan(y_GH[missing - 1, 0])
    assert np.isfinite(y_GH[missing - 1, 1]) == (not grid.missing_G[missing + 1])
    assert np.isnan(y_GH[-1]).all()


def test_an_origin_is_a_known_hour_with_a_full_window_and_its_targets_on_the_grid(grid: Grid) -> None:
    origins = find_origins(grid, SPEC)
    assert origins.rows_N[0] >= SPEC.tsteps - 1
    assert origins.rows_N[-1] + SPEC.horizon < len(grid.ts_G)
    assert not grid.missing_G[origins.rows_N].any()
    asked = len(grid.ts_G) - SPEC.tsteps + 1 - SPEC.horizon
    assert len(origins.rows_N) + origins.missing_origin + origins.too_many_missing == asked


def test_windows_with_too_many_missing_hours_are_dropped_and_counted(grid: Grid) -> None:
    strict = find_origins(grid, WindowSpec(tsteps=12, horizon=3, levels=LEVELS, max_missing=0))
    assert strict.too_many_missing > 0
    assert all(not grid.missing_G[row - 11 : row + 1].any() for row in strict.rows_N)


@given(day=st.integers(1, 28), month=st.integers(2, 5))
def test_no_target_of_a_purged_part_crosses_its_border(grid: Grid, day: int, month: int) -> None:
    border = datetime(2014, month, day, tzinfo=UTC)
    before_N = find_origins(grid, SPEC, end=border, purge=True).rows_N
    after_N = find_origins(grid, SPEC, start=border).rows_N
    border64 = np.datetime64(border.replace(tzinfo=None), "us")
    assert (grid.origin_ts_G[before_N + SPEC.horizon] < border64).all()
    assert (grid.origin_ts_G[after_N] >= border64).all()


def test_a_window_holds_its_own_hours_in_order(grid: Grid, scaler: Scaler) -> None:
    rows_N = find_origins(grid, SPEC).rows_N
    batch = make_windows(grid, scaler, rows_N, SPEC)[np.array([7])]
    assert batch.x_BTF.shape == (1, SPEC.tsteps, FEATURES)
    row = rows_N[7]
    unit_T = scaler.return_unit * scaler.profile_G(grid)[row - 11 : row + 1]
    volatility = scaler.window_volatility_N(grid, tsteps=SPEC.tsteps)[row - 11]
    expected = np.clip(grid.body_G[row - 11 : row + 1] / unit_T / volatility, -8, 8)
    np.testing.assert_allclose(batch.x_BTF[0, :, BODY], expected, rtol=1e-5)


def test_the_first_gap_lies_outside_the_window(grid: Grid, scaler: Scaler) -> None:
    windows = make_windows(grid, scaler, find_origins(grid, SPEC).rows_N, SPEC)
    x_BTF = windows[:].x_BTF
    assert (x_BTF[:, 0, GAP] == 0).all()
    assert (x_BTF[:, 1, GAP] != 0).any()


def test_targets_in_units_of_the_scale_give_the_return_back(grid: Grid, scaler: Scaler) -> None:
    rows_N = find_origins(grid, SPEC).rows_N
    batch = make_windows(grid, scaler, rows_N, SPEC)[:]
    y_NH = compute_returns_GH(grid, horizon=SPEC.horizon)[rows_N]
    np.testing.assert_allclose((batch.z_BH + batch.drift_BH) * batch.scale_BH, y_NH, atol=1e-7)
    assert np.isnan(y_NH).any(), "the walk has missing hours, so some targets must be missing"


def test_a_gathered_batch_is_a_copy(grid: Grid, scaler: Scaler) -> None:
    windows = make_windows(grid, scaler, find_origins(grid, SPEC).rows_N, SPEC)
    before = windows.features_GF.copy()
    windows[:50].x_BTF[:] = 0
    to_tensors(windows, "cpu")[torch.arange(50)].x_BTF.zero_()
    np.testing.assert_array_equal(windows.features_GF, before)


def test_arrays_and_tensors_hold_the_same_windows(grid: Grid, scaler: Scaler) -> None:
    windows = make_windows(grid, scaler, find_origins(grid, SPEC).rows_N, SPEC)
    for ours, theirs in zip(windows[3:50], to_tensors(windows, "cpu")[torch.arange(3, 50)], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_mirrored_batch_turns_prices_upside_down(
    hourly_bars: pl.DataFrame, silver: Session, grid: Grid, scaler: Scaler
) -> None:
    upside_down = hourly_bars.with_columns(
        (1 / pl.col(of)).alias(name)
        for name, of in (("open", "open"), ("high", "low"), ("low", "high"), ("close", "close"))
    )
    undrifted, rows_N = replace(scaler, drift_D=0 * scaler.drift_D), find_origins(grid, SPEC).rows_N
    batch, other = (
        to_tensors(make_windows(each, undrifted, rows_N, SPEC), "cpu")[torch.arange(4)]
        for each in (grid, make_grid(upside_down, silver, ahead=SPEC.horizon))
    )
    mirrored = flip_sign(batch, torch.tensor([1.0, -1.0, 1.0, -1.0]))
    for ours_B, same_B, theirs_B in zip(mirrored, batch, other, strict=True):
        assert torch.equal(ours_B[2].nan_to_num(), same_B[2].nan_to_num())
        np.testing.assert_allclose(ours_B[1::2], theirs_B[1::2], atol=1e-4)


def test_levels_of_arithmetic_are_those_that_one_writes() -> None:
    for levels in (np.arange(0.1, 1, 0.1), np.cumsum([0.1] * 9), [i * 0.1 for i in range(1, 10)]):
        assert WindowSpec(12, 3, tuple(levels), 2).levels == tuple(i / 10 for i in range(1, 10))


@pytest.mark.parametrize(
    "wrong",
    [{"tsteps": 1}, {"horizon": 0}, {"max_missing": -1}, {"levels": (0.5, 0.1)}, {"levels": (0.1, 0.9)}],
)
def test_a_window_spec_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    settings: dict[str, object] = {"tsteps": 12, "horizon": 3, "levels": LEVELS, "max_missing": 2}
    with pytest.raises(ConfigError, match="Expected"):
        WindowSpec(**settings | wrong)  # type: ignore[arg-type]
