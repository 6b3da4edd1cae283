import numpy as np

from lstm_ts.model.features import Array
from lstm_ts.model.garch import compute_garch_scale_GH

HOURS, FITTED = 6_000, 5_000
DAY_W = np.where(np.arange(24) < 8, 0.5, 1.5)  # size by hour of day


def simulate(omega: float = 0.05, alpha: float = 0.1, beta: float = 0.85) -> tuple[Array, Array, Array]:
    """Returns, their variance before each, and the usual size of the next three hours."""
    draws = np.random.default_rng(0).standard_normal(HOURS)
    z_G, variance_G = np.empty(HOURS), np.ones(HOURS + 1)
    for hour in range(HOURS):
        z_G[hour] = np.sqrt(variance_G[hour]) * draws[hour]
        variance_G[hour + 1] = omega + alpha * z_G[hour] ** 2 + beta * variance_G[hour]
    usual_G = DAY_W[np.arange(HOURS) % 24]
    ahead_GH = np.stack([np.roll(usual_G, -step) for step in (1, 2, 3)], axis=1)
    return z_G * usual_G, variance_G, ahead_GH


def test_the_scale_is_that_of_the_process() -> None:
    return_G, variance_G, size_GH = simulate()
    scale_GH = compute_garch_scale_GH(return_G, size_GH, fitted=FITTED)
    true_G = size_GH[:, 0] * np.sqrt(variance_G[1:])
    assert np.nanmean(np.abs(np.log(scale_GH[:, 0] / true_G))) < 0.05
    second_G = size_GH[:, 1] ** 2 * (0.05 + 0.95 * variance_G[1:])
    np.testing.assert_allclose(np.nanmean(np.log(scale_GH[:, 1] ** 2 / (true_G**2 + second_G))), 0, atol=0.05)


def test_it_knows_nothing_of_later_hours_and_is_fitted_to_the_first() -> None:
    return_G, _, size_GH = simulate()
    later_G = np.where(np.arange(HOURS) >= FITTED, 7.0, return_G)
    before, after = (compute_garch_scale_GH(each_G, size_GH, fitted=FITTED)[:FITTED] for each_G in (return_G, later_G))
    np.testing.assert_array_equal(before, after)


def test_a_missing_hour_is_not_a_still_one() -> None:
    return_G, variance_G, size_GH = simulate()
    return_G[3_000:4_000:2] = np.nan
    scale_GH = compute_garch_scale_GH(return_G, size_GH, fitted=FITTED)
    assert np.isnan(scale_GH[3_000:4_000:2]).all()
    ratio_G = scale_GH[3_001:4_000:2, 0] / (size_GH[:, 0] * np.sqrt(variance_G[1:]))[3_001:4_000:2]
    np.testing.assert_allclose(np.log(ratio_G).mean(), 0, atol=0.05)
