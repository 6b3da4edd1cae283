"""Bars as columns of a picture, with literals worked out by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from dashboard.data.zoom import broken, column_width, columns_of, columns_seen, price_range
from dashboard.ui.time_span import MILLISECOND, clip
from lstm_ts.market.bars import PRICES, TS

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TEN = datetime(2015, 3, 3, 10, tzinfo=UTC)
TEN_MS = 1000 * TEN.timestamp()
MINUTE_MS = MINUTE / MILLISECOND


def bars(*minutes: int) -> pl.DataFrame:
    """Minutes since ten; each opens at its number of dollars and closes one above."""
    rows = [(TEN + minute * MINUTE, minute, minute + 2.0, minute - 1.0, minute + 1.0) for minute in minutes]
    return pl.DataFrame(rows, schema={"ts": TS} | dict.fromkeys(PRICES, pl.Float64()), orient="row")


@pytest.mark.parametrize(
    ("span", "bar", "width"),
    [
        (timedelta(minutes=700), MINUTE, MINUTE),
        (DAY, MINUTE, 2 * MINUTE),
        (DAY, HOUR, HOUR),
        (6 * 365 * DAY, MINUTE, 4 * DAY),
        (200 * 365 * DAY, MINUTE, 28 * DAY),
    ],
)
def test_columns_are_as_narrow_as_the_room_allows_and_no_narrower_than_a_bar(
    span: timedelta, bar: timedelta, width: timedelta
) -> None:
    assert column_width(span, bar, at_most=750) == width


def test_a_column_opens_with_its_first_bar_and_closes_with_its_last() -> None:
    columns = columns_of(bars(10, 11, 13, 15), TEN_MS, TEN_MS + 15 * MINUTE_MS, 5 * MINUTE)
    assert columns.rows() == [(TEN + 10 * MINUTE, 10, 15, 9, 14)]


def test_only_the_span_is_read_and_time_without_a_bar_has_no_column() -> None:
    columns = columns_of(bars(0, 1, 2, 7, 8), TEN_MS + MINUTE_MS, TEN_MS + 8 * MINUTE_MS, MINUTE)
    assert columns["ts"].to_list() == [TEN + minute * MINUTE for minute in (1, 2, 7)]


def test_a_gap_breaks_the_line() -> None:
    rows = broken(bars(1, 2, 7), MINUTE)
    np.testing.assert_array_equal((rows["left"] - TEN_MS) / MINUTE_MS, [1, 2, np.nan, 7])
    np.testing.assert_array_equal((rows["right"] - TEN_MS) / MINUTE_MS, [2, 3, np.nan, 8])
    np.testing.assert_array_equal(rows["close"], [2, 3, np.nan, 8])
    assert all(len(values) == 0 for values in broken(bars(), MINUTE).values())


def test_prices_reach_from_the_lowest_to_the_highest_that_is_seen() -> None:
    seen = columns_seen(bars(1, 2, 7), TEN_MS + 2.5 * MINUTE_MS, TEN_MS + 7 * MINUTE_MS, MINUTE)
    assert seen["open"].to_list() == [2]  # an edge cuts it
    assert price_range(seen) == pytest.approx((1 - 0.06 * 3, 4 + 0.06 * 3))
    assert price_range(seen.clear()) is None


def test_a_span_is_moved_into_what_there_is_and_never_narrower_than_can_be_seen() -> None:
    assert clip(-5.0, 5.0, (0.0, 100.0), 2.0) == (0.0, 10.0)
    assert clip(95.0, 105.0, (0.0, 100.0), 2.0) == (90.0, 100.0)
    assert clip(49.9, 50.1, (0.0, 100.0), 2.0) == (49.0, 51.0)
    assert clip(-50.0, 500.0, (0.0, 100.0), 2.0) == (0.0, 100.0)
