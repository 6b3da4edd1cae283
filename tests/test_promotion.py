"""Negative and positive control of the gate, with models trained as `benchmarks.promotion` trains them."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.promotion import judge_pair
from lstm_ts.scoring.decision import Verdict


@pytest.mark.slow
def test_on_random_walks_nothing_is_promoted_over_the_first_and_a_planted_signal_is() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        walks = list(pool.map(judge_pair, ["random_walk"] * 10, range(10)))
        planted = list(pool.map(judge_pair, ["planted_ar"] * 2, range(2)))
    assert [walk.second.verdict for walk in walks if walk.second.verdict is Verdict.PROMOTE] == []
    assert all(walk.first.experimental or walk.first.verdict is not Verdict.PROMOTE for walk in walks)
    assert [(pair.first.verdict, pair.first.experimental) for pair in planted] == [(Verdict.PROMOTE, False)] * 2
