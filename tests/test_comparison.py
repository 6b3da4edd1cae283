"""Losses are planted, see test_gate.py."""

import numpy as np
import pytest
from test_gate import OTHERS_BPS, differing, planted
from test_records import HOUR

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.scoring.comparison import compare_records

FIRST, SECOND = planted(differing(-2, 1)), planted([OTHERS_BPS] * 4)


def test_two_models_are_compared_step_by_step_with_a_paired_test() -> None:
    found = compare_records(FIRST, SECOND)
    (step,) = found.steps
    assert (found.n, step.n, step.step) == (4, 4, 1)
    assert step.pinball_bps == pytest.approx((8, 10))
    assert step.persistence_bps == pytest.approx(10)
    assert step.difference_bps == pytest.approx(-2)
    assert step.p == pytest.approx(0.0534, abs=1e-4)  # t = -2 / 0.6455 of 3 degrees of freedom


def test_only_hours_that_both_forecast_from_count() -> None:
    later = planted([4, 6, 8], start="2015-03-20T01")  # the last three of FIRST's four
    found = compare_records(FIRST, later)
    assert found.n == 3
    assert found.first_origin == FIRST.origin_ts_N[1]
    # 10 - 2 + 1, - 1, - 1
    assert found.steps[0].pinball_bps == pytest.approx(((9 + 7 + 7) / 3, 6))


def test_a_model_beside_itself_has_no_p() -> None:
    (step,) = compare_records(SECOND, SECOND).steps
    assert step.difference_bps == 0
    assert np.isnan(step.p)


def test_the_shorter_horizon_decides() -> None:
    longer = planted([OTHERS_BPS] * 4, [OTHERS_BPS] * 4)
    assert [step.step for step in compare_records(longer, FIRST).steps] == [1]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"symbol": "XAUUSD"}, ConfigError, "same symbol, got XAGUSD and XAUUSD"),
        ({"levels": (0.2, 0.5, 0.8)}, ConfigError, "same levels"),
        ({"target_ts_NH": FIRST.target_ts_NH + HOUR}, ConfigError, "same session hours"),
        ({"start": "2016-03-20T00"}, NoRows, "none in common"),
    ],
)
def test_models_that_cannot_be_compared_say_why(changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        compare_records(FIRST, planted([OTHERS_BPS] * 4, **changes))
