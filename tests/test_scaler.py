from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import fit_rows

from lstm_ts.market.announcements import KINDS
from lstm_ts.market.session import Session
from lstm_ts.model.features import Grid, make_grid
from lstm_ts.model.scaler import Scaler
from lstm_ts.model.season import NO_STATES, SeasonStates
from lstm_ts.model.windows import WindowSpec

TSTEPS, HORIZON = 8, 3
SPEC = WindowSpec(tsteps=TSTEPS, horizon=HORIZON, levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_missing=2)


@pytest.fixture(scope="module")
def grid(silver: Session, hourly_bars: pl.DataFrame) -> Grid:
    return make_grid(hourly_bars, silver, ahead=HORIZON)


def fit(grid: Grid, rows: int, memory_hours: float = 6000) -> Scaler:
    settings = {"half_life_hours": 4.0, "half_lives_hours": (1.0, 4.0), "memory_hours": memory_hours}
    return fit_rows(grid, rows, SPEC, **settings)


@pytest.fixture(scope="module")
def plain(grid: Grid) -> Scaler:
    return fit(grid, 1500)


def test_training_returns_have_unit_profile(grid: Grid) -> None:
    scaler = fit(grid, 1500)
    known = ~grid.missing_G[:1500]
    profile_G = scaler.return_profile_W[grid.hour_of_week_G[:1500]][known]
    assert np.mean(profile_G**2) == pytest.approx(1)


def test_an_hour_of_the_week_that_never_traded_has_a_usual_size(grid: Grid) -> None:
    scaler = fit(grid, 50)
    assert (scaler.return_profile_W > 0).all()
    assert (scaler.range_profile_W > 0).all()


def test_a_volatile_hour_of_the_day_stands_out(grid: Grid) -> None:
    at_ten = grid.hour_of_week_G % 24 == 10
    loud = replace(grid, body_G=np.where(at_ten, 4 * grid.body_G, grid.body_G))
    profile_W = fit(loud, 2000).return_profile_W
    ratio = profile_W[10:120:24].mean() / profile_W[11:120:24].mean()
    assert 3 < ratio < 5


def test_profiles_follow_the_latest_bars(grid: Grid) -> None:
    """Ten o'clock was quiet for long and is loud of late."""
    late_ten = (grid.hour_of_week_G % 24 == 10) & (np.arange(len(grid.ts_G)) > 1500)
    changed = replace(grid, body_G=np.where(late_ten, 4 * grid.body_G, grid.body_G))
    long, short = (fit(changed, 2000, memory) for memory in (1e9, 200))
    assert short.return_profile_W[10:120:24].mean() > 1.3 * long.return_profile_W[10:120:24].mean()


def test_volatility_is_one_where_every_range_is_the_usual_one(grid: Grid) -> None:
    scaler = fit(grid, 1500)
    usual = replace(grid, range_G=scaler.usual_range_G(grid))
    assert scaler.window_volatility_N(usual, tsteps=TSTEPS) == pytest.approx(1)


def test_volatility_weighs_by_half_life_and_leaves_missing_hours_out(grid: Grid) -> None:
    scaler = fit(grid, 1500)
    relative = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0])
    first = Grid(**{**vars(grid), **{name: getattr(grid, name)[:8] for name in vars(grid)}})
    window = replace(first, range_G=relative * scaler.usual_range_G(first), missing_G=np.arange(8) == 6)
    weight = 0.5 ** (np.array([7, 6, 5, 4, 3, 2, 0]) / 4)  # ages of the known hours, half-life 4
    expected = (weight @ [1, 1, 1, 1, 1, 1, 3]) / weight.sum()
    assert scaler.window_volatility_N(window, tsteps=8) == pytest.approx([expected])


def test_the_drift_of_an_hour_is_found_and_noise_is_shrunk_to_nothing_much(grid: Grid) -> None:
    at_ten = grid.hour_of_week_G % 24 == 10
    usual = np.std(grid.body_G[~grid.missing_G])
    drift_D = fit(replace(grid, body_G=grid.body_G + 0.5 * usual * at_ten), 2000).drift_D
    assert 0.3 < drift_D[10] < 0.7
    assert np.mean(np.delete(drift_D, 10) == 0) > 0.3


def test_the_scale_of_k_hours_adds_their_variances(grid: Grid) -> None:
    scaler = fit(grid, 1500)
    plain_GH = scaler.plain_size_GH(grid, horizon=3)
    size_GH, _ = scaler.size_and_drift_GH(grid, scaler.profile_ahead_GH(grid, NO_STATES, horizon=3))
    for profile_G, scale_GH in (
        (scaler.return_profile_W[grid.hour_of_week_G], plain_GH),
        (scaler.profile_G(grid), size_GH),
    ):
        assert scale_GH[100, 1] == pytest.approx(scaler.return_unit * np.hypot(profile_G[101], profile_G[102]))
        assert np.isnan(scale_GH[-1]).all()
        assert np.isnan(scale_GH[-2]).tolist() == [False, True, True]


def test_factors_by_hour_of_the_week_widen_the_hours_they_are_of(grid: Grid) -> None:
    scaler = fit(grid, 1500)
    factor_SW = np.ones((1, 168))
    factor_SW[0, grid.hour_of_week_G[101]] = 2.0
    states = SeasonStates(grid.ts_G[:1], factor_SW, np.ones(1, dtype=bool))
    plain_GH, _ = scaler.size_and_drift_GH(grid, scaler.profile_ahead_GH(grid, NO_STATES, horizon=3))
    size_GH, _ = scaler.size_and_drift_GH(grid, scaler.profile_ahead_GH(grid, states, horizon=3))
    profile_G = scaler.profile_G(grid)
    assert size_GH[100, 0] == pytest.approx(2 * plain_GH[100, 0])
    assert size_GH[100, 1] == pytest.approx(scaler.return_unit * np.hypot(2 * profile_G[101], profile_G[102]))


def test_an_announcement_widens_its_hour_by_as_much_as_in_training(grid: Grid) -> None:
    """In hours of `cpi`, which the synthetic bars do not know, moves and ranges are made three times as large."""
    at_G = grid.announcement_GK[:, KINDS.index("cpi")] > 0
    loud = np.where(at_G, 3.0, 1.0)
    wild = replace(grid, body_G=grid.body_G * loud, gap_G=grid.gap_G * loud, range_G=grid.range_G * loud)
    scaler = fit(wild, len(grid.ts_G) - 10)
    assert at_G.sum() == 5
    expected = (5 * 3 + 10) / (5 + 10)  # shrunk as by ten hours of the usual size
    assert scaler.range_factors["cpi"] == pytest.approx(expected, rel=0.25)
    assert 1.2 < scaler.return_factors["cpi"] < 2.6
    np.testing.assert_allclose(scaler.quiet_profile_W, fit(grid, len(grid.ts_G) - 10).quiet_profile_W, rtol=0.05)


@given(factor=st.floats(0.01, 100))
@settings(max_examples=50)
def test_the_scaler_follows_the_unit_of_returns(grid: Grid, plain: Scaler, factor: float) -> None:
    wild = replace(grid, body_G=grid.body_G * factor, gap_G=grid.gap_G * factor, range_G=grid.range_G * factor)
    scaled = fit(wild, 1500)
    assert scaled.return_unit == pytest.approx(plain.return_unit * factor)
    np.testing.assert_allclose(scaled.return_profile_W, plain.return_profile_W)
    np.testing.assert_allclose(
        scaled.window_volatility_N(wild, tsteps=TSTEPS), plain.window_volatility_N(grid, tsteps=TSTEPS)
    )


@settings(max_examples=50)
@given(row=st.integers(20, 2000), value=st.sampled_from([np.nan, 1e9]))
def test_later_bars_change_no_statistic(grid: Grid, row: int, value: float) -> None:
    later = np.arange(len(grid.ts_G)) >= row
    changed = replace(grid, body_G=np.where(later, value, grid.body_G), range_G=np.where(later, value, grid.range_G))
    before, after = fit(grid, row), fit(changed, row)
    for name, ours in vars(before).items():
        np.testing.assert_array_equal(ours, getattr(after, name), err_msg=name)
