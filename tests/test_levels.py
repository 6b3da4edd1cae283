"""Price levels: what a market can do, and what it cannot."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from test_files import REAL, needs_real

from lstm_ts.errors import DataError
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.levels import CloseRange, check_levels, close_range, largest_move
from lstm_ts.market.revisions import compare_bars

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


def priced(*prices: float, minutes: Sequence[float] = ()) -> pl.DataFrame:
    """Bars of one price each, so many minutes after the first; by default one after the other."""
    ts = [datetime(2025, 1, 6, tzinfo=UTC) + timedelta(minutes=at) for at in minutes or range(len(prices))]
    columns = {name: pl.Series(prices, dtype=pl.Float64) for name in (*PRICES, "volume")}
    return pl.DataFrame({"ts": pl.Series(ts, dtype=TS)} | columns)


@pytest.mark.parametrize("prices", [[15.0, np.nan, 15.0], [np.nan] * 3, [15.0, -15.0, 15.0]])
def test_a_price_that_is_no_number_is_a_jump_and_a_revision(prices: list[float]) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="Expected prices of one level"):
        check_levels(priced(*prices), priced().clear(), "X", remedy="")
    stored = priced(*[15.0] * 200)
    assert compare_bars(stored.with_columns(close=pl.lit(np.nan)), stored).replaces


@pytest.mark.parametrize("name", PRICES)
def test_bars_of_which_one_price_is_replaced_everywhere_are_another_series(name: str) -> None:
    stored = priced(*np.linspace(15, 16, 200))
    revision = compare_bars(stored.with_columns(pl.col(name) * 1.001), stored)
    assert (revision.common, revision.differing, revision.replaces) == (200, 200, True)
    assert (revision.mean_bps, revision.size_bps) == pytest.approx((2.5, 2.5))  # over the four
    assert ", by 10,000 bps on average" in str(compare_bars(stored.with_columns(pl.col(PRICES) * 2), stored))


MINUTES = {"a minute": 1, "a night": 17.5 * 60, "a weekend": 65.5 * 60, "fifteen weeks": 15 * 7 * 1440}


@pytest.mark.parametrize(
    ("factor", "gap", "jumps"),
    [
        *((factor, gap, True) for factor in (1.5, 2, 3, 4, 5) for gap in ("a minute", "a night", "a weekend")),
        *((factor, gap, True) for factor in (10, 100) for gap in MINUTES),
        (1.54, "a weekend", True),  # a split of 3:2 and a move of 3 %
        (10.9, "fifteen weeks", True),
        (7.5, "fifteen weeks", True),  # another unit, of a market that fell by a quarter
        (1.35, "a weekend", False),
        (1.65, "a weekend", False),
        (1.5, "fifteen weeks", False),
        (2, "fifteen weeks", False),
        (5, "fifteen weeks", False),
    ],
)
@pytest.mark.parametrize("way", [1, -1])
def test_splits_and_units_are_told_from_moves(factor: float, gap: str, jumps: bool, way: int) -> None:
    bars = priced(16.0, 16.0, 16.0 * factor**way, minutes=[0, 1, 1 + MINUTES[gap]])
    if not jumps:
        check_levels(bars, bars.clear(), "X", remedy="")
        return
    with pytest.raises(DataError, match="Expected prices of one level, got 16 at"):
        check_levels(bars, bars.clear(), "X", remedy="")


@needs_real
@pytest.mark.real_data
def test_no_move_of_real_silver_is_a_jump() -> None:
    years = [pl.read_parquet(file) for file in sorted(REAL.glob("*.parquet"))]
    assert years
    for bars in (pl.concat(years, how="diagonal_relaxed"), *years):
        check_levels(bars.sort("ts"), bars.clear(), "silver", remedy="")
