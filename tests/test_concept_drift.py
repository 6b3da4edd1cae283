"""Planted losses: every target is 0; the baseline `volatility` has quantiles -15, 0 and 15 bps, so a width of 30 bps, a
pinball of (0.1 * 15 + 0 + 0.1 * 15) / 3 = 1 bps. All quantiles of the model lie 2 L bps off: its pinball is L.
"""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_configs import compose
from test_records import make_record

from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.monitoring.concept_drift import (
    Detector,
    DriftReference,
    DriftSettings,
    DriftState,
    choose_baseline,
    compute_d_N,
    make_reference,
)
from lstm_ts.scoring import metrics

SETTINGS = {
    "margin": 0.02,
    "threshold": 3.0,
    "bets": [0.5],
    "floor": -1.0,
    "ceiling": 2.0,
    "confidence": 0.95,
    "min_origins": 100,
    "over_hours": 200,
}
REFERENCE = DriftReference(baseline="volatility", step=1, n=1_450, mean=0.01, loss=0.1, allowance=0.03)


def make_settings(**changes):
    return DriftSettings(**(SETTINGS | changes))


def shipped():
    return construct(compose("train", "+drift=default").drift)


def planted(loss_bps_N, **changes):
    n = len(loss_bps_N)
    theirs_NHQ = np.broadcast_to(15e-4 * np.array([-1.0, 0.0, 1.0]), (n, 1, 3))
    quantiles = {
        "lstm": np.repeat(2e-4 * np.asarray(loss_bps_N, dtype=float)[:, None, None], 3, axis=2),
        "persistence": np.zeros((n, 1, 3)),
        "climatology": 2 * theirs_NHQ,
        "volatility": theirs_NHQ,
    }
    return make_record(**({"n": n, "horizon": 1, "quantiles": quantiles, "y_NH": np.zeros((n, 1))} | changes))


def run(detector, d_N):
    state = detector.start()
    for d in d_N:
        state = detector.update(state, d)
    return state


def first_alarm(detector, d_N):
    state = detector.start()
    for hour, d in enumerate(d_N, start=1):
        state = detector.update(state, d)
        if state.alarm:
            return hour
    return None


def test_d_is_the_difference_of_losses_over_the_width_of_the_baseline():
    record = planted([1.6, 0.4], y_NH=np.array([[0.0], [np.nan]]))
    d_N = compute_d_N(record, "volatility")
    assert d_N[0] == pytest.approx(0.6 / 30)
    assert np.isnan(d_N[1])


def test_an_interval_without_width_says_nothing():
    record = planted([1.0, 1.0])
    flat = {**record.quantiles, "volatility": record.quantiles["volatility"] * np.array([0.0, 1.0])[:, None, None]}
    d_N = compute_d_N(replace(record, quantiles=flat), "volatility")
    assert np.isnan(d_N).tolist() == [True, False]


def test_d_is_the_same_where_all_returns_are_twice_as_large():
    record = make_record()
    twice = replace(
        record, y_NH=2 * record.y_NH, quantiles={name: 2 * q_NHQ for name, q_NHQ in record.quantiles.items()}
    )
    assert np.allclose(compute_d_N(record, "volatility"), compute_d_N(twice, "volatility"), rtol=1e-12)


def test_the_best_baseline_has_intervals_even_where_the_market_stands_still():
    assert planted([1.0] * 3).best_baseline(1) == "persistence"
    assert choose_baseline(planted([1.0] * 3)) == "volatility"


def test_a_reference_holds_the_mean_the_loss_and_what_it_may_err_by():
    reference = make_reference(planted([1.2] * 150), make_settings())
    assert (reference.baseline, reference.n, reference.allowance) == ("volatility", 150, pytest.approx(0.0))
    assert reference.mean == pytest.approx(0.2 / 30)
    assert reference.loss == pytest.approx(1.2 / 30)


def test_a_reference_may_err_by_the_bound_of_its_mean():
    rng = np.random.default_rng(0)
    loss_N = 1 + 0.1 * rng.standard_normal(1_000)
    reference = make_reference(planted(loss_N), make_settings())
    test = metrics.diebold_mariano(loss_N / 30, np.full(1_000, 1 / 30), step=1)
    assert reference.allowance == pytest.approx((test.bound(0.95) - test.mean) / reference.loss)
    assert 0.003 < reference.allowance < 0.008


def test_what_the_floor_cuts_off_is_allowed_for():
    """One hour in 200 without loss: d is -1 there, its mean -0.005, the mean loss 0.995, so the rise there is -1."""
    loss_N = np.ones(200)
    loss_N[100] = 0.0
    cut, uncut = (make_reference(planted(loss_N), make_settings(floor=floor)) for floor in (-0.1, -1.2))
    assert cut.allowance - uncut.allowance == pytest.approx(0.9 / 200)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (planted([1.0] * 99), "got 99"),
        (planted(np.random.default_rng(0).choice([1.0, 60.0], 120)), "got 120"),  # the mean is known to 15 % only
        (planted([1.0] * 149, y_NH=np.array([[0.0]] * 99 + [[np.nan]] * 50)), "got 99"),
    ],
)
def test_a_record_that_says_too_little_is_no_reference(record, words):
    with pytest.raises(NoRows, match=words):
        make_reference(record, make_settings())


def test_a_bet_pays_what_d_lies_above_all_that_is_allowed():
    """(0.035 - 0.01) / 0.1 = 0.25; less 0.03 and 0.02 is 0.2; the bet of 0.5 pays 1.1."""
    detector, sums = Detector(REFERENCE, make_settings()), []
    state = detector.start()
    for _ in range(3):
        state = detector.update(state, 0.035)
        sums.append(state.sums[0])
    assert sums == pytest.approx([1.1, 2.31, 3.641])
    assert state.evidence == pytest.approx((0.56122, 0.47712), abs=1e-5)
    assert state.alarm
    assert (state.run_hours, state.run_excess) == (3, pytest.approx(0.75))


@pytest.mark.parametrize(("d", "paid"), [(9.0, 1 + 0.5 * 1.95), (-9.0, 1 - 0.5 * 1.05), (0.015, 1.0)])
def test_one_hour_counts_as_no_more_than_the_ceiling_and_no_less_than_the_floor(d, paid):
    assert run(Detector(REFERENCE, make_settings()), [d]).sums == pytest.approx((paid,))


def test_an_hour_without_outcome_changes_nothing():
    detector = Detector(REFERENCE, make_settings())
    state = run(detector, [0.1, 0.2])
    assert detector.update(state, float("nan")) is state


def test_bets_are_weighed_alike():
    state = run(Detector(REFERENCE, make_settings(bets=[0.25, 0.75])), [0.035])
    assert state.sums == pytest.approx((1.05, 1.15))
    assert 10 ** state.evidence[0] == pytest.approx(1.1)


def test_evidence_stays_below_a_hundred_thresholds_so_that_an_alarm_can_end():
    detector = Detector(REFERENCE, make_settings())
    state = run(detector, [0.2] * 500)
    assert state.sums == (300.0,)
    state = run_on(detector, state, [-0.05] * 50)
    assert not state.alarm
    assert state.run_hours == 0


def run_on(detector, state, d_N):
    for d in d_N:
        state = detector.update(state, d)
    return state


def test_where_the_rise_is_the_margin_the_sum_grows_by_one_an_hour_on_average():
    """The mean over all 2^8 paths of rises of ± 0.4 around the margin is 8."""
    detector = Detector(replace(REFERENCE, mean=0.0, loss=1.0, allowance=0.0), make_settings(threshold=1e9))
    paths = itertools.product((0.42, -0.38), repeat=8)
    assert np.mean([run(detector, path).sums[0] for path in paths]) == pytest.approx(8.0)


def test_truncation_from_above_only_lowers_it():
    detector = Detector(replace(REFERENCE, mean=0.0, loss=1.0, allowance=0.0), make_settings(threshold=1e9))
    rises = [4.02, *[-0.48] * 8]  # 0.02 on average; what lies above 2 is cut off
    assert np.mean([run(detector, path).sums[0] for path in itertools.product(rises, repeat=3)]) < 3


# What the monitor may have stored: no outcome, or d of any size.
HOURS = st.lists(st.one_of(st.floats(-3, 3), st.just(float("nan"))), max_size=60)


@settings(max_examples=50, deadline=None)
@given(first=HOURS, second=HOURS)
def test_a_stored_state_goes_on_as_one_pass_would(first, second):
    detector = Detector(REFERENCE, make_settings(bets=[0.25, 0.5]))
    stored = DriftState.from_json(json.loads(json.dumps(asdict(run(detector, first)))))
    assert run_on(detector, stored, second) == run(detector, first + second)


def test_a_state_of_another_number_of_bets_begins_anew():
    stored = asdict(run(Detector(REFERENCE, make_settings()), [0.035]))
    same, more = (Detector(REFERENCE, make_settings(bets=bets)) for bets in ([0.25], [0.25, 0.5]))
    assert same.resume(stored).sums == pytest.approx((1.1,))
    assert more.resume(stored) == more.start()


def test_noise_raises_no_alarm_and_a_planted_rise_does():
    detector = Detector(replace(REFERENCE, mean=0.0, loss=1.0, allowance=0.005), shipped())
    rng = np.random.default_rng(1)
    quiet = [first_alarm(detector, rng.normal(0, 0.1, 2_500).tolist()) for _ in range(20)]
    found = [first_alarm(detector, rng.normal(0.15, 0.3, 1_000).tolist()) for _ in range(20)]
    assert quiet == [None] * 20
    assert None not in found
    assert np.median(found) < 150


def test_a_rise_within_the_margin_is_no_drift():
    detector = Detector(replace(REFERENCE, mean=0.0, loss=1.0, allowance=0.005), shipped())
    rng = np.random.default_rng(2)
    assert [first_alarm(detector, rng.normal(0.015, 0.1, 2_500).tolist()) for _ in range(10)] == [None] * 10


@pytest.mark.parametrize(
    ("d_N", "words"),
    [
        ([], "Unknown: no outcome is known yet to judge the loss beside volatility's by."),
        (
            [0.0] * 5,
            "No drift in 5 hours: the loss beside volatility's is no higher than in the gate's record of 1,450 hours "
            "(evidence 10^0.6, an alarm from 10^0.5).",
        ),
        (
            [0.035],
            "No drift: over the last 1 h the loss beside volatility's is 25.0 % higher than in the gate's record "
            "of 1,450 hours (evidence 10^0.0, an alarm from 10^0.5).",
        ),
        (
            [0.0, 0.035, 0.035, 0.035],
            "Drift: over the last 3 h the loss beside volatility's is 25.0 % higher than in the gate's record of "
            "1,450 hours (evidence 10^0.7, an alarm from 10^0.5).",
        ),
    ],
)
def test_a_sentence_says_what_was_found_over_how_long(d_N, words):
    detector = Detector(REFERENCE, make_settings())
    assert detector.describe(run(detector, d_N)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margin": 0.5}, "drift.margin"),
        ({"threshold": 1.0}, "drift.threshold"),
        ({"bets": []}, "drift.bets"),
        ({"bets": [0.9]}, "below the 0.89 of floor"),
        ({"floor": 0.0}, "drift.floor"),
        ({"confidence": 1.0}, "drift.confidence"),
        ({"min_origins": 99}, "drift.min_origins"),
    ],
)
def test_a_setting_out_of_range_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_settings(**changes)


def test_an_alarm_keeps_the_hour_at_which_its_drift_began_until_it_ends():
    detector = Detector(replace(REFERENCE, mean=0.0, allowance=0.0), make_settings(margin=0.0, threshold=20.0))
    state, seen = detector.start(), []
    # Each hour pays 1 + 0.5 * excess: 0.5 and 2 by turns; S = (S + 1) * factor.
    for hour, excess in enumerate([-1.0, 2.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0]):
        state = detector.update(state, 0.1 * excess, f"2015-03-20T{hour:02}")
        seen.append((round(sum(state.sums) / len(state.sums), 1), state.drift_since[-2:]))
    assert seen == [(0.5, ""), (3.0, ""), (8.0, ""), (18.0, ""), (38.0, "01"), (19.5, ""), (10.2, ""), (5.6, "")]
    assert DriftState.from_json(json.loads(json.dumps(asdict(state)))) == state


def test_an_alarm_that_rose_before_its_beginning_was_kept_begins_no_earlier_than_now():
    detector = Detector(REFERENCE, make_settings())
    old = DriftState(600, (4.0,), threshold=3.0, run_log=2.0, run_hours=50, run_excess=9.0)
    assert detector.update(old, 0.05, "2015-03-20T01").drift_since == "2015-03-20T01"
