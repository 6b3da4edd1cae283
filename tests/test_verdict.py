"""One bet of half the wealth, a margin of 0.1, a champion's mean loss of 1 over the width: so x is the difference."""

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
from lstm_ts.monitoring.ruling import HOURS_OF_WEEK, decide
from lstm_ts.monitoring.verdict import (
    ChallengeVerdict,
    VerdictSettings,
    VerdictState,
    measure,
    start,
    update,
)
from lstm_ts.scoring.comparison import Pairs, compute_pairs

SETTINGS = {
    "margin": 0.1,
    "alpha": 0.05,
    "alpha_live": 0.1,
    "bets": [0.5],
    "bound_weeks": 26,
    "turn_hours": 10,
    "min_hours": 5,
    "halt_hours": 48,
}
BOUND = 0.5


def make_settings(**changes):
    return VerdictSettings(**(SETTINGS | changes))


def shipped():
    return construct(compose("train", "+verdict=default").verdict)


def make_pairs(difference_N, bound=BOUND):
    n = len(difference_N)
    hours_N = np.datetime64("2015-01-05T00", "us") + np.arange(n) * np.timedelta64(1, "h")
    return Pairs(hours_N, np.asarray(difference_N, dtype=float), np.full(n, bound), np.ones(n))


def run(held_out, live, rules, bound=BOUND):
    state = start(make_pairs(held_out, bound), rules)
    for difference in live:
        state = update(state, difference, bound, rules)
    return state


def judge(state, rules, *, age_hours=100.0, outcome=0, request=0):
    return decide(
        state, rules, age_hours=age_hours, hours_without_outcome=outcome, hours_without_request=request
    )  # fmt: skip


def first_final(held_out, live, rules, bound=BOUND):
    state = start(make_pairs(held_out, bound), rules)
    for hour, difference in enumerate(live, start=1):
        state = update(state, difference, bound, rules)
        verdict = judge(state, rules, age_hours=hour * HOURS_OF_WEEK / 115).verdict
        if verdict.final:
            return verdict, hour
    return None, len(live)


def test_pairs_are_of_the_origins_that_both_have_over_the_mean_width():
    champion = make_record(n=10, horizon=1)
    first, last = champion.q_NHQ[:, 0, 0], champion.q_NHQ[:, 0, -1]
    wide = replace(champion, quantiles={**champion.quantiles, "lstm": 3 * champion.q_NHQ})
    later = slice_record(wide, slice(4, 10))
    pairs = compute_pairs(later, champion)
    assert np.array_equal(pairs.origin_ts_N, champion.origin_ts_N[4:])
    width_N = (2 * (last - first))[4:]
    assert np.allclose(pairs.difference_N, (later.loss_NH[:, 0] - champion.loss_NH[4:, 0]) / width_N)
    assert np.allclose(pairs.champion_loss_N, champion.loss_NH[4:, 0] / width_N)


def slice_record(record, rows):
    names = ("origin_ts_N", "target_ts_NH", "last_close_N", "y_NH", "window_volatility_N", "last_bar_position_N",
             "hour_of_day_N")  # fmt: skip
    quantiles = {name: q_NHQ[rows] for name, q_NHQ in record.quantiles.items()}
    return replace(record, quantiles=quantiles, **{name: getattr(record, name)[rows] for name in names})


def test_origins_that_only_one_has_are_no_pairs():
    record = make_record(n=10, horizon=1)
    with pytest.raises(NoRows, match="none in common"):
        compute_pairs(slice_record(record, slice(0, 5)), slice_record(record, slice(5, 10)))


@pytest.mark.parametrize("seed", range(20))
def test_no_outcome_makes_a_difference_beyond_its_bound(seed):
    rng = np.random.default_rng(seed)
    champion = make_record(n=200, horizon=1)
    other = np.sort(champion.q_NHQ * rng.uniform(0.1, 3, (200, 1, 1)) + rng.normal(0, 1e-3, (200, 1, 1)), axis=2)
    y_NH = 1e-3 * rng.standard_t(1, (200, 1))
    champion = replace(champion, y_NH=y_NH)
    pairs = compute_pairs(replace(champion, quantiles={**champion.quantiles, "lstm": other}), champion)
    assert (np.abs(pairs.difference_N) <= pairs.bound_N * (1 + 1e-12)).all()
    assert np.abs(pairs.difference_N / pairs.bound_N).max() > 0.4


def test_the_three_bets_of_one_hour():
    """x = 0.3. Harm: half of the stake and a tenth of the other half are put down, and pay 1 + 0.5 * 0.2."""
    state = run([0.0], [0.3], make_settings())
    assert state.harm == pytest.approx((0.55 * 1.1,))
    assert state.live.better == pytest.approx((np.log(0.85),))
    assert state.live.no_worse == pytest.approx((np.log(0.9),))
    evidence = measure(state, make_settings())
    assert 10**evidence.harm == pytest.approx(0.605 + 0.45)
    assert 10**evidence.better_live == pytest.approx(0.85)
    assert 10**evidence.no_worse == pytest.approx(0.9 * 1.05)  # 1.05: the held-out hour
    assert 10**evidence.needed == pytest.approx(20)


def test_a_bet_is_no_larger_than_what_the_hour_can_cost():
    """All but a tenth of the wealth could be lost at 1 / (0.8 + 0.1) * 0.9 = 1, not at the bet of 2."""
    state = run([0.0], [0.3], make_settings(bets=[2.0]), bound=0.8)
    assert state.harm == pytest.approx((0.55 * 1.2,))


def test_differences_are_in_shares_of_the_champions_held_out_loss():
    pairs = make_pairs([0.0, 0.2])
    state = start(replace(pairs, champion_loss_N=np.array([1.5, 2.5])), make_settings())
    assert (state.loss, state.held_out.total) == (2.0, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("centre", "read"),
    [
        (0.1, lambda e: e.harm),
        (0.0, lambda e: e.better_live),
        (0.1, lambda e: e.no_worse_live),
    ],
)
def test_no_bet_on_what_is_not_true_gains_on_average(centre, read):
    rules = make_settings()
    paths = itertools.product((centre + 0.3, centre - 0.3), repeat=8)
    assert np.mean([10 ** read(measure(run([0.0], path, rules), rules)) for path in paths]) == pytest.approx(1.0)


def test_an_hour_without_outcome_changes_nothing():
    state = run([0.0], [0.3], make_settings())
    assert update(state, float("nan"), BOUND, make_settings()) is state
    assert start(make_pairs([0.0, np.nan]), make_settings()).held_out.n == 1


def test_without_a_known_held_out_hour_there_is_no_scale():
    with pytest.raises(NoRows, match="held-out hours"):
        start(replace(make_pairs([np.nan]), champion_loss_N=np.array([np.nan])), make_settings())


HOURS = st.lists(st.tuples(st.floats(-1, 1), st.floats(1, 3)), max_size=40)


@settings(max_examples=50, deadline=None)
@given(first=HOURS, second=HOURS)
def test_a_stored_state_goes_on_as_one_pass_would(first, second):
    rules = make_settings(bets=[0.25, 1.0])
    state = start(make_pairs([0.1, -0.2, 0.0]), rules)

    def go_on(state, hours):
        for difference, bound in hours:
            state = update(state, difference, bound, rules)
        return state

    stored = VerdictState.from_json(json.loads(json.dumps(asdict(go_on(state, first)))))
    assert go_on(stored, second) == go_on(state, first + second)


def test_a_state_goes_on_with_as_many_bets_only():
    state = run([0.0], [0.3], make_settings())
    assert state.fits(make_settings(bets=[1.0]))
    assert not state.fits(make_settings(bets=[0.5, 1.0]))


@pytest.mark.parametrize(
    ("held_out", "live", "situation", "verdict", "words"),
    [
        (
            [0.0] * 3,
            [0.5] * 30,
            {},
            ChallengeVerdict.HARM,
            "Stop: the challenger is worse than the champion by more than 10.0 %",
        ),
        (
            [0.0] * 3,
            [-0.5] * 30,
            {},
            ChallengeVerdict.BETTER,
            "better than the champion. Its loss beside the champion's is -50",
        ),
        (
            [0.0] * 99,
            [0.0] * 60,
            {},
            ChallengeVerdict.NO_WORSE,
            "no worse than the champion by 10.0 %. Its loss beside the champ",
        ),
        (
            [-0.5] * 99,
            [-0.5] * 4,
            {},
            ChallengeVerdict.RUNNING,
            "Undecided after 0.6 of 26 weeks",
        ),  # five live hours at least
        (
            [-0.5] * 99,
            [0.0] * 5,
            {},
            ChallengeVerdict.RUNNING,
            "better 10^9.6, of it live 10^0.0",
        ),  # live hours say nothing yet
        ([0.0] * 3, [0.05] * 9, {"age_hours": 4368.0}, ChallengeVerdict.INCONCLUSIVE, "Inconclusive after 26 weeks"),
        (
            [0.0] * 3,
            [],
            {"outcome": 49},
            ChallengeVerdict.HALTED,
            "Halted: no outcome of both models for 49 session hours.",
        ),
        (
            [0.0] * 3,
            [0.0],
            {"request": 49},
            ChallengeVerdict.HALTED,
            "Halted: no request has reached the challenger for 49 se",
        ),
        (
            [0.0] * 3,
            [0.0],
            {"request": None},
            ChallengeVerdict.RUNNING,
            "+0.00 % over 1 live hours and +0.00 % over 3 held-out",
        ),
        (
            [0.0] * 3,
            [],
            {"outcome": 48, "request": 48},
            ChallengeVerdict.RUNNING,
            "beside the champion's is +0.00 % over 3 held",
        ),
        (
            [0.0] * 3,
            [0.5] * 30,
            {"outcome": 49},
            ChallengeVerdict.HARM,
            "Evidence: harm 10^",
        ),  # known harm needs no more
        (
            [0.0] * 3,
            [],
            {"outcome": 2_990, "age_hours": 4368.0},
            ChallengeVerdict.INCONCLUSIVE,
            "Inconclusive after 26 weeks",
        ),
    ],
)
def test_a_verdict_and_its_sentence(held_out, live, situation, verdict, words):
    rules = make_settings()
    ruling = judge(run(held_out, live, rules), rules, **situation)
    assert ruling.verdict is verdict
    assert words in ruling.sentence


def test_a_final_verdict_is_final():
    assert {verdict for verdict in ChallengeVerdict if not verdict.final} == {
        ChallengeVerdict.RUNNING,
        ChallengeVerdict.HALTED,
    }


def test_equal_challengers_are_seldom_stopped_and_worse_ones_soon():
    rng, rules = np.random.default_rng(0), shipped()

    def judge_noise(mean, sd):
        return first_final(rng.normal(0, 0.05, 1_000), rng.normal(mean, sd, 2_000).tolist(), rules, bound=1.5)

    equal, worse = [judge_noise(0, 0.1)[0] for _ in range(15)], [judge_noise(0.05, 0.2) for _ in range(15)]
    assert ChallengeVerdict.HARM not in equal
    assert {verdict for verdict, _ in worse} == {ChallengeVerdict.HARM}
    assert np.median([hours for _, hours in worse]) < 600


def test_a_challenger_that_turns_bad_is_stopped_too():
    rng, rules = np.random.default_rng(0), replace(shipped(), alpha_live=0.05, min_hours=10_000)
    live = [*rng.normal(-0.01, 0.2, 800), *rng.normal(0.05, 0.2, 1_500)]
    verdict, hour = first_final(rng.normal(0, 0.05, 500), live, rules, bound=1.5)
    assert verdict is ChallengeVerdict.HARM
    assert 800 < hour < 1_600


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margin": 0.0}, "verdict.margin"),
        ({"alpha": 0.2}, "verdict.alpha and alpha_live"),
        ({"bets": [0.0]}, "verdict.bets"),
        ({"bound_weeks": 0}, "verdict.bound_weeks"),
        ({"halt_hours": 0}, "verdict.halt_hours"),
    ],
)
def test_a_setting_out_of_range_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_settings(**changes)
