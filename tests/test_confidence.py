"""Daily sums of losses. The interval's radius is checked against what it is derived from: a normal mixture's wealth."""

import math

import numpy as np
import pytest
from test_configs import compose

from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.monitoring.confidence import RARE_DAYS, DailyLosses, SkillSettings, estimate_skill, radius

SETTINGS = {"alpha": 0.05, "min_days": 4, "tightest_days": 60}


def make_settings(**changes):
    return SkillSettings(**(SETTINGS | changes))


def shipped():
    return construct(compose("train", "+live_skill=default").live_skill)


def make_days(model_D, baseline_D, n=23):
    count = len(model_D)
    day_D = np.datetime64("2015-01-05") + np.arange(count)
    return DailyLosses(day_D, np.full(count, n), np.asarray(model_D, float), np.asarray(baseline_D, float))


def test_skill_is_one_minus_the_ratio_of_the_sums():
    found = estimate_skill(make_days([8.0, 10.0], [10.0, 14.0]), make_settings())
    assert found.skill == pytest.approx(0.25)
    assert (found.n, found.days, found.since) == (46, 2, np.datetime64("2015-01-05"))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_without_a_day_nothing_is_known():
    found = estimate_skill(make_days([], []), make_settings())
    assert (found.n, found.days, found.since) == (0, 0, None)
    assert math.isnan(found.skill)


def test_at_the_interval_the_wealth_of_a_normal_mixture_of_bets_is_one_over_alpha():
    """exp(rho^2 S^2 / (2 (n rho^2 + 1))) / sqrt(n rho^2 + 1) of a sum S = n * radius (Robbins 1970)."""
    odds = -2 * math.log(0.05)
    rho2 = (odds + math.log(odds) + 1) / 60
    for n in (1, 20, 60, 1_000):
        total = n * radius(n, alpha=0.05, tightest=60)
        wealth = math.exp(rho2 * total**2 / (2 * (n * rho2 + 1))) / math.sqrt(n * rho2 + 1)
        assert wealth == pytest.approx(20)


def test_the_interval_is_the_radius_times_the_deviation_over_the_mean_baseline_loss():
    """Residuals +1, +1, -1, -1 four times: variance 1; of the 15 next-day products 8 are +1 and 7 are -1: 1/16."""
    model_D = 10 + np.tile([1.0, 1.0, -1.0, -1.0], 4)
    found = estimate_skill(make_days(model_D, np.full(16, 20.0)), make_settings())
    deviation = math.sqrt((1 + 2 / 16) * (1 + RARE_DAYS / 16))
    half = deviation / 20 * radius(16, alpha=0.05, tightest=60)
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


def test_days_that_take_back_what_the_day_before_gave_make_it_no_narrower():
    """Residuals +1, -1 in turn: variance 1, and next-day products of -1."""
    model_D = 10 + np.tile([1.0, -1.0], 8)
    found = estimate_skill(make_days(model_D, np.full(16, 20.0)), make_settings())
    half = math.sqrt(1 + RARE_DAYS / 16) / 20 * radius(16, alpha=0.05, tightest=60)
    assert found.high - found.skill == pytest.approx(half)


def test_the_interval_is_for_losses_of_any_size():
    rng = np.random.default_rng(0)
    model_D, baseline_D = rng.uniform(1, 2, (2, 50))
    small, large = (estimate_skill(make_days(f * model_D, f * baseline_D), make_settings()) for f in (1e-4, 1.0))
    assert (small.low, small.high) == (pytest.approx(large.low), pytest.approx(large.high))


def overlapping_days(rng, days, skill):
    """Daily losses of forecasts 24 hours ahead, hour by hour: each is the mean of the 24 hours that it spans."""
    noise_T = rng.standard_t(5, 24 * (days + 1))
    ahead_T = np.convolve(noise_T, np.ones(24) / 24, mode="valid")[: 24 * days]
    common_T = np.convolve(rng.gamma(2, 1, 24 * (days + 1)), np.ones(24) / 24, mode="valid")[: 24 * days]
    baseline_T = 1 + common_T
    model_T = (1 - skill) * baseline_T + 0.3 * ahead_T
    return (values_T.reshape(days, 24).sum(axis=1) for values_T in (model_T, baseline_T))


def test_the_true_skill_stays_inside_through_a_hundred_looks():
    rng, rules, missed = np.random.default_rng(0), shipped(), 0
    for _ in range(100):
        model_D, baseline_D = overlapping_days(rng, 120, 0.02)
        looks = (
            estimate_skill(make_days(model_D[:count], baseline_D[:count]), rules)
            for count in range(rules.min_days, 121)
        )
        missed += any(not look.low <= 0.02 <= look.high for look in looks)
    assert missed <= 5


def test_a_true_skill_is_seen_in_the_end():
    model_D, baseline_D = overlapping_days(np.random.default_rng(1), 400, 0.1)
    found = estimate_skill(make_days(model_D, baseline_D), shipped())
    assert 0 < found.low < 0.1 < found.high


@pytest.mark.parametrize(
    ("changes", "words"), [({"alpha": 0.5}, "live_skill.alpha"), ({"min_days": 61}, "live_skill.min_days")]
)
def test_a_setting_out_of_range_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_settings(**changes)
