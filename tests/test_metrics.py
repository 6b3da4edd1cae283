import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from lstm_ts.scoring import metrics

LEVELS = (0.1, 0.5, 0.9)
losses = arrays(np.float64, 40, elements=st.floats(0, 10, allow_subnormal=False))


def test_pinball_of_three_rows_worked_out_by_hand():
    y_NH = np.array([[1.0], [-1.0], [0.0]])
    q_NHQ = np.tile([-1.0, 0.0, 1.0], (3, 1, 1))
    # y = 1: 0.1 * 2 + 0.5 * 1 + 0; y = -1: 0 + 0.5 * 1 + 0.1 * 2; y = 0: 0.1 * 1 + 0 + 0.1 * 1
    assert metrics.pinball_NH(y_NH, q_NHQ, LEVELS).ravel() == pytest.approx([0.7 / 3, 0.7 / 3, 0.2 / 3])


def test_a_missing_target_has_no_loss_and_leaves_the_mean_alone():
    loss = metrics.pinball_NH(np.array([[2.0, np.nan]]), np.zeros((1, 2, 3)), LEVELS)
    assert loss[0, 0] == pytest.approx(1.0)
    assert math.isnan(loss[0, 1])
    assert metrics.mean_of_known(loss) == pytest.approx(1.0)


def test_a_mean_over_nothing_is_unknown_rather_than_a_warning():
    assert math.isnan(metrics.mean_of_known(np.array([np.nan])))
    assert math.isnan(metrics.mean_of_known(np.array([])))


@given(arrays(np.float64, (5, 2), elements=st.floats(-1, 1)), arrays(np.float64, (5, 2, 3), elements=st.floats(-1, 1)))
def test_pinball_is_never_negative(y_NH, q_NHQ):
    assert (metrics.pinball_NH(y_NH, q_NHQ, LEVELS) >= 0).all()


@given(
    arrays(np.float64, 30, elements=st.floats(-1, 1)),
    st.sampled_from([0.05, 0.25, 0.5, 0.9]),
    st.floats(-1.5, 1.5),
)
def test_no_constant_beats_the_empirical_quantile(y_N, level, other):
    def loss(q):
        return metrics.pinball_NH(y_N[:, None], np.full((30, 1, 1), q), (level,)).mean()

    assert loss(np.quantile(y_N, level, method="inverted_cdf")) <= loss(other) + 1e-12


def test_crps_of_a_standard_normal_at_its_median_comes_close_to_the_closed_form():
    levels = tuple((i + 0.5) / 1000 for i in range(1000))
    normal = np.random.default_rng(0).standard_normal(400_000)
    loss = metrics.pinball_NH(np.zeros((1, 1)), np.quantile(normal, levels)[None, None], levels)
    assert metrics.crps_from_pinball(loss[0, 0]) == pytest.approx((math.sqrt(2) - 1) / math.sqrt(math.pi), abs=0.002)


def test_coverage_counts_the_bounds_and_skips_missing_targets():
    y_N = np.array([0.0, 1.0, 2.0, np.nan])
    assert metrics.coverage(y_N, np.zeros(4), np.ones(4)) == pytest.approx(2 / 3)


def test_only_intervals_whose_two_levels_exist_are_covered():
    shares = metrics.central_coverage(np.array([0.0, 3.0]), np.tile([-1.0, 0.0, 1.0], (2, 1)), LEVELS)
    assert shares == {"0.8": 0.5}


def test_a_level_made_by_multiplication_is_found():
    assert metrics.level_index([0.05 * i for i in range(1, 20)], 0.15) == 2
    assert metrics.level_index(LEVELS, 0.25) is None


def test_mase_is_the_error_over_persistences_training_error():
    assert metrics.mase(3.0, 4.0) == 0.75
    assert math.isnan(metrics.mase(3.0, 0.0))


def test_wilson_interval_of_eight_in_ten():
    assert metrics.wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_directional_accuracy_leaves_out_what_has_no_direction():
    y_N = np.array([1.0, -1.0, 2.0, 0.0, np.nan, 1.0])
    median_N = np.array([0.1, 0.1, 0.3, 0.1, 0.1, 0.0])
    direction = metrics.directional_accuracy(y_N, median_N, step=1)
    assert (direction.n, direction.share) == (3, pytest.approx(2 / 3))


def test_persistence_has_no_direction_at_all():
    direction = metrics.directional_accuracy(np.array([1.0, -1.0]), np.zeros(2), step=1)
    assert direction.n == 0
    assert math.isnan(direction.share) and all(math.isnan(bound) for bound in direction.interval)


def test_overlapping_targets_widen_the_interval_as_if_there_were_fewer_rows():
    y_N, median_N = np.tile([1.0, 1.0, 1.0, 1.0, -1.0], 12), np.ones(60)
    assert metrics.directional_accuracy(y_N, median_N, step=6).interval == metrics.wilson_interval(0.8, 10)


def test_diebold_mariano_agrees_with_a_value_worked_out_step_by_step():
    test = metrics.diebold_mariano(np.array([2.0, 2.0, 4.0, 4.0]), np.ones(4), step=2)
    # Differences 1, 1, 3, 3: mean 2, centred -1, -1, 1, 1. Autocovariances 4/4 and (1 - 1 + 1)/4. Bartlett's
    # weight is 1/2; the second is shared by targets that overlap, so it counts whole, which is more.
    variance = 1.0 + 2 * max(0.5 * 0.25, 0.25)
    correction = math.sqrt((4 + 1 - 4 + 2 * 1 / 4) / 4)
    statistic = 2.0 / math.sqrt(variance / 4) * correction
    x = statistic / math.sqrt(3)
    p = 2 * (0.5 - (x / (1 + x * x) + math.atan(x)) / math.pi)  # Student t with 3 degrees of freedom, closed form
    assert (test.mean, test.n, test.lag) == (2.0, 4, 1)
    assert test.mean / test.standard_error == pytest.approx(statistic)
    assert test.p == pytest.approx(p)


def test_of_overlapping_targets_the_test_claims_as_often_as_it_says():
    """Sums of 24 independent draws overlap as targets 24 hours ahead do; Bartlett weights alone claim in 11 %."""
    rng = np.random.default_rng(0)
    runs = [np.convolve(rng.standard_normal(1483), np.ones(24), "valid") for _ in range(800)]
    claims = np.mean([metrics.diebold_mariano(run_N, np.zeros(1460), step=24).p < 0.05 for run_N in runs])
    assert 0.03 < claims < 0.075


def test_the_lag_covers_the_overlap_of_targets_and_grows_with_the_sample():
    a, b = np.random.default_rng(0).random((2, 800))
    # 4 * 8^(2/9) = 6.35
    assert [metrics.diebold_mariano(a, b, step=step).lag for step in (1, 7, 24)] == [6, 6, 23]


@given(losses, losses, st.sampled_from([1, 6]))
def test_diebold_mariano_is_antisymmetric(a, b, step):
    ab, ba = metrics.diebold_mariano(a, b, step=step), metrics.diebold_mariano(b, a, step=step)
    assert ab.mean == -ba.mean
    assert ab.p == pytest.approx(ba.p, nan_ok=True)


def test_rows_without_a_loss_do_not_enter_the_test():
    a, b = np.random.default_rng(1).random((2, 50))
    padded = metrics.diebold_mariano(np.append(a, np.nan), np.append(b, 1.0), step=1)
    assert padded == metrics.diebold_mariano(a, b, step=1)


@pytest.mark.parametrize("n", [0, 1, 6])
def test_too_few_rows_for_the_step_give_no_p_value(n):
    test = metrics.diebold_mariano(np.arange(n) * 1.0, np.zeros(n), step=6)
    assert math.isnan(test.p) and math.isnan(test.bound(0.95))


def test_equal_losses_give_no_p_value_but_certainty_about_the_mean():
    test = metrics.diebold_mariano(np.ones(100), np.ones(100), step=1)
    assert math.isnan(test.p)
    assert (test.standard_error, test.bound(0.95), test.detectable(alpha=0.05, power=0.8)) == (0.0, 0.0, 0.0)


def test_bounds_and_power_of_four_differences_worked_out_by_hand():
    test = metrics.diebold_mariano(np.array([9.0, 9.0, 7.0, 7.0]), np.full(4, 10.0), step=1)
    # Mean -2, long-run variance 1.25 as above, correction sqrt(3 / 4): standard error sqrt(1.25 / 4 / 0.75).
    assert test.standard_error == pytest.approx(0.645497, abs=1e-6)
    # Student t with 3 degrees of freedom: 2.353363 at 95 %, 0.978472 at 80 % (tables).
    assert test.bound(0.95) == pytest.approx(-2 + 2.353363 * 0.645497, abs=1e-5)
    assert test.bound(0.05) == pytest.approx(-2 - 2.353363 * 0.645497, abs=1e-5)
    assert test.detectable(alpha=0.05, power=0.8) == pytest.approx((2.353363 + 0.978472) * 0.645497, abs=1e-5)


def test_a_difference_of_the_detectable_size_is_found_as_often_as_the_power_says():
    rng = np.random.default_rng(4)
    difference = metrics.diebold_mariano(rng.standard_normal(400), np.zeros(400), step=1).detectable(
        alpha=0.05, power=0.8
    )
    tests = [metrics.diebold_mariano(rng.standard_normal(400) - difference, np.zeros(400), step=1) for _ in range(400)]
    assert 0.74 < np.mean([test.bound(0.95) < 0 for test in tests]) < 0.90


def test_p_is_about_uniform_when_neither_forecast_is_better():
    rng = np.random.default_rng(2)
    p = [metrics.diebold_mariano(*rng.random((2, 250)), step=1).p for _ in range(300)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09


def test_overlapping_targets_do_not_pass_for_skill():
    rng = np.random.default_rng(3)
    differences = [np.convolve(rng.standard_normal(1523), np.ones(24), mode="valid") for _ in range(300)]
    p = [metrics.diebold_mariano(d, np.zeros(1500), step=24).p for d in differences]
    naive = [metrics.diebold_mariano(d, np.zeros(1500), step=1).p for d in differences]
    assert np.mean(np.array(p) < 0.05) < 0.12
    assert np.mean(np.array(naive) < 0.05) > 0.25
