"""Losses are planted: every target is 0 and every quantile of an origin lies 2 L away from it, so its pinball is L.

Four differences m + s, m + s, m - s, m - s have the standard error sqrt(1.25 / 4 / 0.75) s = 0.6455 s (Bartlett weight
1/2 of lag 1, HLN correction sqrt(3/4)), and so the 95 % bounds m ± 2.3534 * 0.6455 s = m ± 1.519 s; a true difference
of (2.3534 + 0.9785) * 0.6455 s = 2.151 s is detected with 80 % power. The other's loss is 10 bps throughout.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from test_scores import make_record

from lstm_ts.configuration.parts import CONF
from lstm_ts.errors import ConfigError
from lstm_ts.scoring.decision import Verdict
from lstm_ts.scoring.gate import Criteria, decide

SETTINGS = {
    "steps": [1],
    "baselines": ["volatility"],
    "min_origins": 4,
    "alpha": 0.05,
    "power": 0.8,
    "min_skill": 0.005,
    "margin": 0.005,
    "min_effect": 0.002,
    "min_cure": 0.02,
    "tercile_margin": 0.02,
    "coverage": [0.0, 1.0],
    "anchor": [0.98, 1.02],
    "relation_alpha": 0.001,
}
OTHERS_BPS = 10.0


def criteria(**changes):
    return Criteria(**(SETTINGS | changes))


def at(loss_N):
    """q_NQ of three equal quantiles whose pinball is `loss_N` bps where the target is 0."""
    return np.repeat(2e-4 * np.asarray(loss_N, dtype=float)[:, None], 3, axis=1)


def planted(*loss_bps_by_step, **changes):
    """The LSTM's losses of each step; every baseline's are 10 bps."""
    q_NHQ = np.stack([at(loss_N) for loss_N in loss_bps_by_step], axis=1)
    n, horizon, _ = q_NHQ.shape
    names = ("lstm", "persistence", "climatology", "volatility")
    others = np.full_like(q_NHQ, 2e-4 * OTHERS_BPS)
    fields = {
        "y_NH": np.zeros((n, horizon)),
        "quantiles": dict.fromkeys(names, others) | {"lstm": q_NHQ},
        "window_volatility_N": np.ones(n),
    }
    return make_record(n=n, horizon=horizon, **(fields | changes))


def differing(m, s):
    return [OTHERS_BPS + m + s, OTHERS_BPS + m + s, OTHERS_BPS + m - s, OTHERS_BPS + m - s]


def found(decision, name):
    (check,) = (check for check in decision.checks if check.name == name)
    return check


SKILLED = planted(differing(-2, 1))
CHAMPION = planted([OTHERS_BPS] * 4)


@pytest.mark.parametrize(
    ("m", "s", "passed", "words"),
    [
        # -2 + 1.519 = -0.481
        (
            -2,
            1,
            True,
            "8.000 bps against 10.000 of volatility, skill +20.00 % (with 95 % confidence at least +4.81 %): shown",
        ),
        # -1 + 1.519 > 0; 2.1507 / 0.05 = 43.014, and 4 * 43.014^2 = 7400.8
        (
            -1,
            1,
            None,
            "+10.00 % (with 95 % confidence at least -5.19 %): to see a skill of 0.50 % takes 7,401 origins, not 4",
        ),
        # 2.151 * 0.02 = 0.043 <= 0.05
        (0, 0.02, False, "at least -0.30 %): no skill, where one of 0.43 % would have shown"),
        (2, 1, False, "worse, with the same confidence by at least 4.81 %"),
        (0, 0, False, "no skill"),
    ],
)
def test_skill_over_a_baseline(m, s, passed, words):
    check = found(decide(planted(differing(m, s)), None, criteria(), fresher=True), "skill over volatility")
    assert check.passed is passed
    assert words in check.reason


@pytest.mark.parametrize(
    ("m", "s", "fresher", "passed", "words"),
    [
        (
            -2,
            1,
            False,
            True,
            "8.000 bps against 10.000 of the champion, skill +20.00 % (with 95 % confidence at least +4.81 %): better",
        ),
        (-1, 1, False, None, "at least -5.19 %): better or not, too few origins to decide, and not fresher"),
        (0, 0, False, False, "not better, and not fresher"),
        # -0.015 + 1.519 * 0.001 < 0, but 0.15 % is less than the 0.2 % that counts
        (-0.015, 0.001, False, False, "better by less than the 0.20 % that counts, as another seed may be, and not"),
        (-0.015, 0.001, True, True, "not inferior by the margin of 0.50 %"),
        (-0.021, 0.001, False, True, "skill +0.21 % (with 95 % confidence at least +0.19 %): better"),
        (0, 0, True, True, "not inferior by the margin of 0.50 %"),
        # 1.519 * 0.02 = 0.030 < 0.05
        (0, 0.02, True, True, "at least -0.30 %): not inferior by the margin of 0.50 %"),
        # worse for certain (0.03 - 0.015 > 0), but by less than the margin (0.03 + 0.015 < 0.05)
        (0.03, 0.01, True, True, "at least -0.45 %): not inferior"),
        (2, 1, True, False, "worse, with the same confidence by at least 4.81 %"),
        # 0.03 + 0.0304 > 0.05, 0.03 - 0.0304 < 0, 2.151 * 0.02 = 0.043 <= 0.05
        (0.03, 0.02, True, False, "at least -0.60 %): beyond the margin of 0.50 %, which an equal would have kept"),
        (0, 1, True, None, "to keep the margin of 0.50 % an equal needs 7,401 origins, not 4"),
    ],
)
def test_the_first_step_against_the_champion(m, s, fresher, passed, words):
    check = found(decide(planted(differing(m, s)), CHAMPION, criteria(), fresher=fresher), "champion at 1 h")
    assert check.passed is passed
    assert words in check.reason


def test_a_later_step_need_only_be_no_worse_even_where_the_candidate_is_not_fresher():
    champion = planted([OTHERS_BPS] * 4, [OTHERS_BPS] * 4)
    both = criteria(steps=[1, 2])
    equal = decide(planted(differing(-2, 1), [OTHERS_BPS] * 4), champion, both, fresher=False)
    assert (equal.verdict, found(equal, "champion at 2 h").passed) == (Verdict.PROMOTE, True)
    worse = decide(planted(differing(-2, 1), [OTHERS_BPS + 1] * 4), champion, both, fresher=False)
    assert (worse.verdict, found(worse, "champion at 2 h").passed) == (Verdict.REJECT, False)
    assert "11.000 bps against 10.000 of the champion, skill -10.00 %" in found(worse, "champion at 2 h").reason


def test_a_candidate_with_skill_that_is_better_is_promoted():
    decision = decide(SKILLED, CHAMPION, criteria(), fresher=False)
    assert (decision.verdict, decision.experimental) == (Verdict.PROMOTE, False)
    assert all(check.passed for check in decision.checks)


@pytest.mark.parametrize(("m", "better"), [(-0.021, True), (-0.015, False), (0, False)])
def test_a_fresher_candidate_is_promoted_and_told_apart_from_a_better_one(m, better):
    champion = planted(np.array(differing(-2, 1)))
    candidate = planted(np.array(differing(-2, 1)) + m)
    decision = decide(candidate, champion, criteria(min_effect=0.0025), fresher=True)  # of 8 bps: 0.02 bps
    assert (decision.verdict, decision.better) == (Verdict.PROMOTE, better)
    assert decision.to_json()["better"] is better


def test_better_than_the_champion_is_not_enough_without_skill():
    champion = planted([OTHERS_BPS + 5] * 4)
    decision = decide(planted(differing(0, 0.02)), champion, criteria(), fresher=True)
    assert found(decision, "champion at 1 h").passed
    assert decision.verdict is Verdict.REJECT
    assert "no skill" in decision.reasons[0]


def test_what_cannot_be_told_is_no_rejection():
    decision = decide(planted(differing(-1, 1)), CHAMPION, criteria(), fresher=True)
    assert decision.verdict is Verdict.INSUFFICIENT
    assert "7,401 origins" in decision.reasons[0]


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_with_too_few_origins_nothing_else_is_judged(champion):
    decision = decide(SKILLED, champion, criteria(min_origins=5), fresher=True)
    assert (decision.verdict, decision.experimental) == (Verdict.INSUFFICIENT, False)
    assert decision.reasons == ("4 origins have a known target 1 h ahead; 5 are required.",)


def test_only_known_targets_count_as_origins():
    y_NH = np.zeros((4, 2))
    y_NH[0, 1] = np.nan
    decision = decide(planted([9.0] * 4, [9.0] * 4, y_NH=y_NH), None, criteria(steps=[1, 2]), fresher=True)
    assert decision.reasons == ("3 origins have a known target 2 h ahead; 4 are required.",)


@pytest.mark.parametrize(("m", "s", "experimental"), [(-2, 1, False), (-1, 1, True), (0, 0.02, True), (2, 1, True)])
def test_a_first_model_without_skill_is_experimental(m, s, experimental):
    decision = decide(planted(differing(m, s)), None, criteria(), fresher=True)
    assert (decision.verdict, decision.experimental) == (Verdict.PROMOTE, experimental)


def test_without_a_list_skill_is_asked_over_each_baseline_but_the_one_that_an_untrained_network_equals():
    others = ("persistence", "har_rolling", "new")
    record = replace(
        SKILLED, quantiles={**SKILLED.quantiles, **dict.fromkeys(others, CHAMPION.q_NHQ)}, baselines=others
    )
    for listed, asked in ((None, ["persistence", "new"]), (["har_rolling"], ["har_rolling"])):
        checks = decide(record, None, criteria(baselines=listed), fresher=True).checks
        assert [check.name for check in checks if "skill" in check.name] == [f"skill over {name}" for name in asked]
    assert OmegaConf.load(f"{CONF}/gate/default.yaml").baselines is None


def test_a_first_model_that_beats_only_some_baselines_says_which_it_does_not_beat():
    record = planted(differing(-2, 1))
    weak = replace(record, quantiles={**record.quantiles, "climatology": record.quantiles["lstm"]})
    decision = decide(weak, None, criteria(baselines=["climatology", "volatility"]), fresher=True)
    assert decision.experimental
    assert "of climatology, skill +0.00 %" in decision.reasons[0]


SINCE = datetime(2015, 3, 20, tzinfo=UTC)  # the first origin


@pytest.mark.parametrize(
    ("m", "s", "passed", "words"),
    [
        (-2, 1, True, "skill +20.00 % (with 95 % confidence at least +4.81 %): better"),
        (-0.21, 0.01, True, "skill +2.10 % (with 95 % confidence at least +1.95 %): better"),
        (-0.19, 0.01, False, "skill +1.90 % (with 95 % confidence at least +1.75 %): not better by the 2.00 % that"),
        (0, 0, False, "not better by the 2.00 % that counts after a drift"),
        (2, 1, False, "not better"),
        # 2.1507 / 0.2 = 10.754, and 4 * 10.754^2 = 462.6
        (-1, 1, None, "to see the 2.00 % that counts after a drift takes 463 origins, not 4"),
    ],
)
def test_after_a_drift_only_what_is_better_by_what_counts_is_promoted_however_fresh(m, s, passed, words):
    decision = decide(planted(differing(m, s)), CHAMPION, criteria(), fresher=True, drift_since=SINCE)
    assert found(decision, "drift").passed
    assert found(decision, "champion at 1 h").passed is passed
    assert words in found(decision, "champion at 1 h").reason
    assert (decision.verdict is Verdict.PROMOTE) is bool(passed)


def test_origins_before_a_drift_judge_nobody():
    decision = decide(SKILLED, CHAMPION, criteria(), fresher=True, drift_since=SINCE + timedelta(hours=1))
    assert (decision.verdict, decision.experimental) == (Verdict.INSUFFICIENT, False)
    assert decision.reasons[0] == (
        "The champion has drifted since about 2015-03-20 01:00 UTC: 3 of the 4 origins lie after that; 8 are required, "
        "half of them to stop on and half to judge on."
    )


def test_over_a_drifted_champion_what_is_better_needs_no_skill_but_is_experimental_without():
    champion = planted([OTHERS_BPS + 5] * 4)
    decision = decide(planted(differing(2, 1)), champion, criteria(), fresher=True, drift_since=SINCE)
    assert "worse" in found(decision, "skill over volatility").reason
    assert (decision.verdict, decision.experimental, decision.better) == (Verdict.PROMOTE, True, True)
    skilled = decide(SKILLED, champion, criteria(), fresher=True, drift_since=SINCE)
    assert (skilled.verdict, skilled.experimental) == (Verdict.PROMOTE, False)


@pytest.mark.parametrize(("later_bps", "verdict"), [(1, Verdict.REJECT), (0, Verdict.PROMOTE)])
def test_over_a_drifted_champion_only_what_is_shown_to_be_wrong_stands_in_the_way(later_bps, verdict):
    later = np.array(differing(later_bps, 0.1 if later_bps else 1))
    candidate, champion = planted(differing(-2, 1), later), planted([OTHERS_BPS] * 4, [OTHERS_BPS] * 4)
    decision = decide(candidate, champion, criteria(steps=[1, 2]), fresher=True, drift_since=SINCE)
    assert found(decision, "champion at 2 h").passed is (None if verdict is Verdict.PROMOTE else False)
    assert decision.verdict is verdict


def with_interval(inside, of=100):
    """Intervals of ±20 bps, `inside` of the `of` targets in them."""
    q_NHQ = np.broadcast_to([-2e-3, 0.0, 2e-3], (of, 1, 3))
    y_NH = np.where(np.arange(of) < inside, 0.0, 1e-2)[:, None]
    names = ("lstm", "persistence", "climatology", "volatility")
    return planted([0.0] * of, y_NH=y_NH, quantiles=dict.fromkeys(names, q_NHQ))


@pytest.mark.parametrize(
    ("inside", "verdict", "words"),
    [
        (80, Verdict.PROMOTE, "covers 80.0 % of the targets (71.1 % to 86.7 % with 95 % confidence)"),
        (70, Verdict.INSUFFICIENT, "covers 70.0 % of the targets (60.4 % to 78.1 %"),
        (50, Verdict.REJECT, "covers 50.0 % of the targets (40.4 % to 59.6 %"),
        (100, Verdict.REJECT, "75.0 % to 85.0 % is required"),
    ],
)
def test_coverage_outside_its_bounds_counts_once_chance_cannot_explain_it(inside, verdict, words):
    decision = decide(with_interval(inside), None, criteria(coverage=[0.75, 0.85]), fresher=True)
    assert decision.verdict is verdict
    assert words in found(decision, "coverage").reason


@pytest.mark.parametrize(("loss_bps", "passed"), [(99.0, True), (101.0, False), (-101.1, True), (-102.1, False)])
def test_the_median_stays_near_the_last_close(loss_bps, passed):
    # The median is 2 L: exp(0.0198) = 1.0200, exp(0.0202) = 1.0204, exp(-0.02022) = 0.97998, exp(-0.02042) = 0.9798.
    narrow = criteria(anchor=[0.97995, 1.02005])
    decision = decide(planted([10.0, 10.0, 10.0, loss_bps]), None, narrow, fresher=True)
    check = found(decision, "anchor")
    assert check.passed is passed
    assert decision.verdict is (Verdict.PROMOTE if passed else Verdict.REJECT)
    assert f"{np.exp(2e-4 * loss_bps):.4f}" in check.reason


POSITION_N = np.array([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("median_bps", "y_bps", "passed", "words"),
    [
        # Per unit of position 5 bps, so 10 from the high to the low; the data have nothing of it.
        (
            5.0,
            0.0,
            False,
            "+10.00 bps from where it was and the market went +0.00 bps: the forecast leans on the last bar more",
        ),
        (-5.0, 5.0, False, "-10.00 bps from where it was and the market went +10.00 bps: the forecast leans"),
        (5.0, 2.4, False, "the market went +4.80 bps: the forecast leans on the last bar more than twice as far"),
        (5.0, 2.6, True, "+5.20 bps: only more than twice as far as the market, with 99.9 % confidence, would count"),
        (-5.0, -20.0, True, "lies -10.00 bps from where it was and the market went -40.00 bps"),
        (0.0, 5.0, True, "lies +0.00 bps from where it was and the market went +10.00 bps"),
        (0.05, -20.0, True, "lies +0.10 bps from where it was and the market went -40.00 bps: only more than twice as"),
    ],
)
def test_a_relation_with_the_last_bar_is_the_datas_or_made_up(median_bps, y_bps, passed, words):
    record = planted(
        np.sign(POSITION_N) * median_bps / 2,
        y_NH=(1e-4 * y_bps * POSITION_N)[:, None],
        last_bar_position_N=POSITION_N + 0.3,
    )
    decision = decide(record, None, criteria(), fresher=True)
    check = found(decision, "last bar")
    assert check.passed is passed
    assert words in check.reason


def test_noise_alone_makes_no_relation_up():
    # Products 1 ± 10 in pairs: 1 is far below the 10.2 standard errors that Student's t with 3 degrees asks for.
    y_NH = 1e-4 * (POSITION_N * np.array([10.0, 10.0, -10.0, -10.0]))[:, None]
    record = planted(POSITION_N / 2, y_NH=y_NH, last_bar_position_N=POSITION_N)
    assert found(decide(record, None, criteria(), fresher=True), "last bar").passed


@pytest.mark.parametrize(
    ("m", "s", "passed", "words"),
    [
        (0.19, 1, True, "skill -1.90 %"),
        (0.3, 0.1, False, "10.300 bps against 10.000 of the champion, skill -3.00 %"),  # 0.3 - 0.152 > 0
        (0.3, 1, None, "at least -2.00 % is required"),  # 0.3 - 1.519 < 0
    ],
)
def test_no_volatility_tercile_may_regress_beyond_its_margin(m, s, passed, words):
    volatility_N = np.arange(1.0, 13.0)
    candidate = planted([8.0] * 8 + differing(m, s), window_volatility_N=volatility_N)
    champion = planted([OTHERS_BPS] * 12, window_volatility_N=volatility_N)
    decision = decide(candidate, champion, criteria(), fresher=True)
    assert [found(decision, f"{name} volatility").passed for name in ("low", "middle", "high")] == [True, True, passed]
    assert words in found(decision, "high volatility").reason


def test_a_tercile_without_origins_is_not_judged():
    names = [check.name for check in decide(SKILLED, CHAMPION, criteria(), fresher=True).checks]
    assert [name for name in names if name.endswith("volatility")] == ["skill over volatility", "low volatility"]


def test_a_market_that_stands_still_is_judged_without_a_division_by_zero():
    record = planted([1.0] * 4)
    still = replace(record, quantiles={**record.quantiles, "volatility": np.zeros((4, 1, 3))})
    assert not found(decide(still, None, criteria(), fresher=True), "skill over volatility").passed


def test_every_reason_is_a_sentence_with_its_numbers_and_what_failed_comes_first():
    decision = decide(planted(differing(2, 1)), CHAMPION, criteria(coverage=[0.75, 0.85]), fresher=True)
    assert len(decision.reasons) == len(decision.checks)
    assert all(re.match(r"[A-Z0-9].*\d.*\.$", reason) for reason in decision.reasons)
    order = [{check.reason: check.passed for check in decision.checks}[reason] for reason in decision.reasons]
    assert order == sorted(order, key=[False, None, True].index)


def test_a_decision_is_plain_json():
    content = json.loads(json.dumps(decide(SKILLED, CHAMPION, criteria(), fresher=True).to_json(), allow_nan=False))
    assert (content["verdict"], content["experimental"]) == ("promote", False)
    assert content["checks"][0].keys() == {"name", "passed", "reason"}


def test_records_of_different_origins_are_not_compared():
    with pytest.raises(AssertionError, match="different origins"):
        decide(SKILLED, planted([OTHERS_BPS] * 4, start="2016-01-01T00"), criteria(), fresher=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": []}, "gate.steps"),
        ({"steps": [0]}, "gate.steps"),
        ({"steps": [1.5]}, "gate.steps"),
        ({"min_origins": 1}, "min_origins=1"),
        ({"baselines": []}, "gate.baselines"),
        ({"alpha": 0}, "gate.alpha"),
        ({"relation_alpha": 0.5}, "gate.relation_alpha"),
        ({"min_skill": 0}, "gate.min_skill"),
        ({"margin": -0.1}, "gate.margin"),
        ({"min_cure": 0}, "gate.min_cure"),
        ({"tercile_margin": 2}, "gate.tercile_margin"),
        ({"power": 1}, "gate.power"),
        ({"coverage": [0.9, 0.8]}, "gate.coverage"),
        ({"coverage": [0.8]}, "gate.coverage"),
        ({"anchor": [1.01, 1.02]}, "gate.anchor"),
    ],
)
def test_a_criterion_out_of_range_is_named(changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        criteria(**changes)


def test_models_that_cannot_be_judged_are_said_before_they_are_trained():
    with pytest.raises(ConfigError, match=r"gate\.steps within horizon=2, got \[1, 3\]"):
        criteria(steps=[1, 3]).check(horizon=2, levels=(0.1, 0.5, 0.9), baselines=["volatility"])
    with pytest.raises(ConfigError, match=r"0\.1 and 0\.9"):
        criteria().check(horizon=2, levels=(0.25, 0.5, 0.75), baselines=["volatility"])
    with pytest.raises(ConfigError, match=r"gate.baselines among persistence, volatility, got .'volatilty'"):
        criteria(baselines=["volatilty"]).check(
            horizon=2, levels=(0.1, 0.5, 0.9), baselines=["persistence", "volatility"]
        )
    with pytest.raises(ConfigError, match="horizon=1"):
        decide(SKILLED, None, criteria(steps=[1, 2]), fresher=True)


losses = st.lists(st.floats(0.1, 50), min_size=12, max_size=12)
RANK = [Verdict.REJECT, Verdict.INSUFFICIENT, Verdict.PROMOTE]


@given(losses, losses, st.booleans())
def test_the_verdict_follows_from_the_checks(ours, theirs, fresher):
    decision = decide(planted(ours), planted(theirs), criteria(), fresher=fresher)
    passed = [check.passed for check in decision.checks]
    assert decision.verdict is RANK[0 if False in passed else 1 if None in passed else 2]
    assert not decision.experimental


@given(losses, losses, st.floats(0, 20), st.booleans())
def test_a_larger_loss_never_turns_a_candidate_into_a_champion(ours, theirs, more, fresher):
    before = decide(planted(ours), planted(theirs), criteria(), fresher=fresher)
    after = decide(planted(np.array(ours) + more), planted(theirs), criteria(), fresher=fresher)
    if before.verdict is not Verdict.PROMOTE:
        assert after.verdict is not Verdict.PROMOTE


@given(losses)
def test_the_champion_itself_is_never_better_than_the_champion(ours):
    record = planted(ours)
    assert found(decide(record, record, criteria(), fresher=False), "champion at 1 h").passed is False
    assert found(decide(record, record, criteria(), fresher=True), "champion at 1 h").passed is True


@given(losses, losses)
def test_of_two_candidates_at_most_one_is_better_than_the_other(a, b):
    ab = decide(planted(a), planted(b), criteria(), fresher=False)
    ba = decide(planted(b), planted(a), criteria(), fresher=False)
    assert not (found(ab, "champion at 1 h").passed and found(ba, "champion at 1 h").passed)
