"""Price levels: what a market can do, and what it cannot."""

import math

import numpy as np
import pytest

from lstm_ts.market.levels import CloseRange, close_range, largest_move

DAY_S, YEAR_S = 86_400, 365 * 86_400


def test_the_range_of_closes_leaves_missing_hours_out() -> None:
    assert close_range(np.array([np.nan, 15.1, 14.0, np.nan, 30.5])) == CloseRange(14.0, 30.5)


def test_what_a_market_may_move_grows_with_the_root_of_time_up_to_forty_times() -> None:
    assert largest_move(0) == 0.5  # 65 %
    assert largest_move(YEAR_S / 4) == pytest.approx(0.5 + 3.5 / 2)
    assert math.exp(largest_move(30 * YEAR_S)) == pytest.approx(40, rel=0.02)


@pytest.mark.parametrize(
    ("lowest", "highest", "gap_s", "said"),
    [
        (2900.0, 3050.0, 10 * YEAR_S, "a close of 3050 is 100 times as much as their highest, 30.5"),
        (0.14, 0.2, 10 * YEAR_S, "a close of 0.14 is 100 times as little as their lowest, 14"),
        (20.0, 61.0, 30 * DAY_S, ""),  # twice as dear within a month
        (20.0, 61.0, DAY_S, "a close of 61 is 2 times as much as their highest, 30.5"),  # but not within a day
        (14.0, 30.5, 0, ""),
        (15.0, 3050.0, YEAR_S, "a close of 3050 is 100 times as much as their highest, 30.5"),  # part of a window
        (5.0, 300.0, YEAR_S, ""),  # ten times as dear within a year
    ],
)
def test_a_window_far_from_the_closes_of_the_training_hours_is_told(
    lowest: float, highest: float, gap_s: float, said: str
) -> None:
    assert CloseRange(14.0, 30.5).describe_jump(CloseRange(lowest, highest), gap_s) == said
