"""Elasticities of the size of returns to volatilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.model.har import fit_elasticities

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def draw(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two volatilities, whose powers 0.6 and 0.3 scale the next return, 0.2 and 0.5 the one after."""
    rng = np.random.default_rng(seed)
    log_volatility_NV = rng.normal(0, 0.7, (rows, 2))
    usual_NH = np.broadcast_to([2.0, 3.0], (rows, 2))
    scale_NH = np.exp(log_volatility_NV @ np.array([[0.6, 0.2], [0.3, 0.5]]))
    return log_volatility_NV, usual_NH, usual_NH * scale_NH * rng.standard_t(5, (rows, 2))


def test_the_powers_that_made_the_returns_are_found() -> None:
    elasticity_VH = fit_elasticities(*draw(20_000), LEVELS)
    np.testing.assert_allclose(elasticity_VH, [[0.6, 0.2], [0.3, 0.5]], atol=0.03)


@given(factor=st.floats(1e-6, 1e6))
def test_units_of_the_returns_do_not_matter(factor: float) -> None:
    log_volatility_NV, usual_NH, y_NH = draw(300)
    plain = fit_elasticities(log_volatility_NV, usual_NH, y_NH, LEVELS)
    np.testing.assert_allclose(fit_elasticities(log_volatility_NV, usual_NH, factor * y_NH, LEVELS), plain, atol=1e-3)


def test_missing_returns_are_left_out() -> None:
    log_volatility_NV, usual_NH, y_NH = draw(4000)
    y_NH[::2] = np.nan
    kept = fit_elasticities(log_volatility_NV[1::2], usual_NH[1::2], y_NH[1::2], LEVELS)
    np.testing.assert_allclose(fit_elasticities(log_volatility_NV, usual_NH, y_NH, LEVELS), kept)


@pytest.mark.parametrize("y", [np.nan, 0.0])
def test_without_a_move_the_volatilities_share_one_power(y: float) -> None:
    log_volatility_NV, usual_NH, _ = draw(50)
    assert (fit_elasticities(log_volatility_NV, usual_NH, np.full((50, 2), y), LEVELS) == 0.5).all()


def test_few_returns_stay_near_that() -> None:
    elasticity_VH = fit_elasticities(*draw(5), LEVELS)
    assert (np.abs(elasticity_VH - 0.5) < 0.5).all()


def test_steps_between_the_fitted_ones_are_interpolated() -> None:
    log_volatility_NV, _, y_NH = draw(2000)
    many_NH, usual_NH = np.repeat(y_NH[:, :1], 24, axis=1), np.ones((2000, 24))
    elasticity_VH = fit_elasticities(log_volatility_NV, usual_NH, many_NH, LEVELS)
    assert elasticity_VH.shape == (2, 24)
    np.testing.assert_allclose(elasticity_VH, elasticity_VH[:, :1] @ np.ones((1, 24)), atol=1e-6)
