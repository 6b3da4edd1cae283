from dataclasses import fields, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from models import fit_rows
from numpy.typing import NDArray

from lstm_ts.market.session import Session
from lstm_ts.model.baselines import (
    BASELINES,
    Climatology,
    Har,
    Persistence,
    RollingHar,
    Scaled,
    Volatility,
    fit_reference,
)
from lstm_ts.model.boosting import lightgbm_quantiles, tabulate
from lstm_ts.model.features import make_grid
from lstm_ts.model.windows import Windows, WindowSpec, find_origins, make_windows

Parts = tuple[Windows[NDArray[Any]], Windows[NDArray[Any]], Windows[NDArray[Any]]]
LEVELS = (0.25, 0.5, 0.75)
SPEC = WindowSpec(tsteps=30, horizon=2, levels=LEVELS, max_missing=6)

Y_NH = np.array([[0.01, 0.02], [-0.02, np.nan], [0.03, 0.04], [0.00, -0.04]])
SCALE_NH = np.array([[0.01, 0.02], [0.02, 0.02], [0.01, 0.02], [0.01, 0.02]])


def windows_of(scale_NH: NDArray[Any]) -> Windows[NDArray[Any]]:
    """Of which only the usual size of what follows is known."""
    rows, empty = np.arange(len(scale_NH)), np.empty((len(scale_NH), 0))
    known = {"origin_N": rows, "volatility_G": np.full(len(rows), 2.0), "usual_GH": scale_NH / 2}
    known |= {"level_GH": np.full_like(scale_NH, 2.0), "scale_GH": scale_NH}
    return Windows(**dict.fromkeys((each.name for each in fields(Windows)), empty) | known)


def test_climatology_is_the_train_quantiles_without_the_missing_targets() -> None:
    climatology = Climatology.fit(windows_of(SCALE_NH), Y_NH, LEVELS)
    np.testing.assert_allclose(climatology.q_HQ[0], [-0.005, 0.005, 0.015])
    np.testing.assert_allclose(climatology.q_HQ[1], [-0.01, 0.02, 0.03])


@pytest.mark.parametrize("kind", [Volatility, Har, RollingHar])
def test_volatility_and_har_are_quantiles_in_units_of_their_scales(kind: type[Scaled]) -> None:
    baseline = kind.fit(windows_of(SCALE_NH), Y_NH, LEVELS)  # z at step 1: 1, -1, 3, 0
    np.testing.assert_allclose(baseline.z_HQ[0], [-0.25, 0.5, 1.5])
    forecast = baseline.quantiles(windows_of(np.array([[0.04, 0.04]])))
    np.testing.assert_allclose(forecast[0, 0], [-0.01, 0.02, 0.06])


def test_each_has_a_scale_of_its_own() -> None:
    windows = windows_of(SCALE_NH)
    windows = replace(windows, volatility_G=np.full(4, 3.0), level_GH=5 * np.ones_like(SCALE_NH))
    np.testing.assert_allclose(Volatility.scale_NH(windows), 1.5 * SCALE_NH)
    np.testing.assert_allclose(Har.scale_NH(windows), 2.5 * SCALE_NH)
    np.testing.assert_allclose(RollingHar.scale_NH(windows), SCALE_NH)


def test_persistence_is_the_last_close_for_certain() -> None:
    windows = windows_of(SCALE_NH)
    assert (Persistence.fit(windows, Y_NH, LEVELS).quantiles(windows) == np.zeros((4, 2, 3))).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_forecasts_ascending_quantiles_and_is_made_of_arrays(name: str, parts: Parts) -> None:
    train, _, test = parts
    y_NH = train.z_GH[train.origin_N] * train.scale_NH
    baseline = BASELINES[name].fit(train, y_NH, LEVELS)
    q_NHQ = baseline.quantiles(test)
    assert q_NHQ.shape == (len(test), 2, 3)
    assert (np.diff(q_NHQ, axis=2) >= 0).all()
    again = type(baseline)(**{field: np.array(values.tolist()) for field, values in vars(baseline).items()})
    np.testing.assert_array_equal(again.quantiles(test), q_NHQ)


def test_the_error_of_persistence_is_the_scale_of_mase() -> None:
    reference = fit_reference(windows_of(SCALE_NH), Y_NH, LEVELS)
    assert reference.mase_scale_H == pytest.approx([0.015, 0.1 / 3])
    assert list(reference.quantiles(windows_of(SCALE_NH))) == list(BASELINES)


@pytest.fixture(scope="module")
def parts(hourly_bars: pl.DataFrame, silver: Session) -> Parts:
    grid = make_grid(hourly_bars, silver, ahead=2)
    scaler = fit_rows(grid, 1500, SPEC)
    rows_N = find_origins(grid, SPEC).rows_N
    train, valid, test = np.split(rows_N, [1300, 1700])
    windows = make_windows(grid, scaler, train, SPEC)
    return windows, windows.at(valid), windows.at(test)


def test_lightgbm_reads_the_window_and_nothing_else(parts: Parts) -> None:
    batch = parts[0][:3]
    table = tabulate(batch, 1)
    later = batch._replace(z_BH=batch.z_BH + 1, scale_BH=batch.scale_BH * 2)
    np.testing.assert_array_equal(table, tabulate(later, 1))
    assert not np.allclose(table, tabulate(batch._replace(x_BTF=batch.x_BTF[:, ::-1]), 1))


def test_lightgbm_quantiles_are_sorted_and_of_the_size_of_the_targets(parts: Parts) -> None:
    train, valid, test = parts
    q_NQ = lightgbm_quantiles(train, valid, test, step=1, levels=LEVELS, seed=0)
    assert q_NQ.shape == (len(test), 3)
    assert (np.diff(q_NQ, axis=1) >= 0).all()
    z_N = test.z_GH[test.origin_N, 0]
    inside = np.nanmean((z_N > q_NQ[:, 0]) & (z_N < q_NQ[:, 2]))
    assert 0.4 < inside < 0.6
