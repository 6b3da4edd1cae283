"""Bars as candlesticks on an axis without closed hours, with literals worked out by hand."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from bokeh.plotting import figure

from dashboard.data.zoom import candles_of, choose_timeframe, price_range
from dashboard.ui.open_time import OpenTime, join_spans
from dashboard.ui.time_axis import DAY, MONTH, WEEK, YEAR, TimeAxis, rank
from dashboard.ui.time_span import clip
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.session import Session

MINUTE, HOUR, DAYS = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TEN = datetime(2015, 3, 3, 10, tzinfo=UTC)
FRIDAY = datetime(2015, 3, 6, 21, 59, tzinfo=UTC)  # silver's last minute of the week; it opens on Sunday at 22:00
SUNDAY = datetime(2015, 3, 8, 22, tzinfo=UTC)


def bars(*minutes: int) -> pl.DataFrame:
    """Minutes since ten; each opens at its number of dollars and closes one above."""
    rows = [(TEN + minute * MINUTE, minute, minute + 2.0, minute - 1.0, minute + 1.0) for minute in minutes]
    frame = pl.DataFrame(rows, schema={"ts": TS} | dict.fromkeys(PRICES, pl.Float64()), orient="row")
    return frame.with_columns(volume=pl.lit(2.0), spread=pl.Series(minutes) / 8, day=pl.lit(TEN.date()))


@pytest.mark.parametrize(
    ("hours_open", "span", "bar", "words"),
    [
        (4, 4 * HOUR, MINUTE, "1 minute"),
        (23, DAYS, MINUTE, "5 minutes"),
        (4 * 23, 4 * DAYS, MINUTE, "1 hour"),
        (4, 4 * HOUR, HOUR, "1 hour"),
        (22 * 23, 30 * DAYS, MINUTE, "4 hours"),
        (260 * 23, 365 * DAYS, MINUTE, "1 day"),
        (5 * 260 * 23, 5 * 365 * DAYS, MINUTE, "1 week"),
        (90 * 260 * 23, 90 * 365 * DAYS, MINUTE, "1 month"),
    ],
)
def test_candles_are_as_narrow_as_the_room_allows_and_no_narrower_than_a_bar(
    hours_open: float, span: timedelta, bar: timedelta, words: str
) -> None:
    assert choose_timeframe(60.0 * hours_open, span, bar, at_most=280).words == words


def test_a_candle_opens_with_its_first_bar_and_closes_with_its_last() -> None:
    timeframe = choose_timeframe(1000.0, DAYS, MINUTE, at_most=280)
    candles = candles_of(bars(10, 11, 13, 15), MINUTE, TEN, TEN + 15 * MINUTE, timeframe)
    assert candles.rows() == [(TEN + 10 * MINUTE, TEN + 15 * MINUTE, 10, 15, 9, 14, 6, 34 / 24)]


def test_a_day_is_one_of_trading_and_a_week_holds_its_sunday(silver: Session) -> None:
    ts = pl.Series("ts", [FRIDAY - MINUTE, FRIDAY, SUNDAY, SUNDAY + 3 * HOUR], dtype=TS)
    days = OpenTime(silver, ts).days(ts)
    assert days.to_list() == [date(2015, 3, 6)] * 2 + [date(2015, 3, 9)] * 2
    week = bars(0, 1, 2, 3).with_columns(ts, days)
    for span, words in ((300 * DAYS, "1 day"), (1500 * DAYS, "1 week")):
        timeframe = choose_timeframe(1e6, span, MINUTE, at_most=280)
        assert timeframe.words == words
        found = candles_of(week, MINUTE, FRIDAY - DAYS, SUNDAY + DAYS, timeframe)
        assert found["ts"].to_list() == [FRIDAY - MINUTE, SUNDAY]
        assert found["until"].to_list() == [FRIDAY + MINUTE, SUNDAY + 3 * HOUR + MINUTE]


def test_closed_hours_have_no_room_but_those_that_hold_a_bar(silver: Session) -> None:
    ts = pl.Series("ts", [FRIDAY, SUNDAY], dtype=TS)
    time = OpenTime(silver, ts)
    last, opens = time.places(ts)
    assert opens - last == pytest.approx(1)
    assert time.place(FRIDAY + MINUTE) == time.place(SUNDAY) == opens
    assert time.moment(opens) == SUNDAY
    assert time.moment(opens, ends=True) == FRIDAY + MINUTE
    saturday = pl.Series("ts", [FRIDAY, FRIDAY + 14 * HOUR, SUNDAY], dtype=TS)
    first, closed, last = OpenTime(silver, saturday).places(saturday)
    assert (closed - first, last - closed) == pytest.approx((1 + 59, 1))
    assert [edge.tolist() for edge in join_spans(np.array([5, 0, 9]), np.array([7, 5, 11]))] == [[0, 9], [7, 11]]


def test_labels_stand_where_something_longer_begins() -> None:
    assert rank(TEN, TEN + HOUR) < rank(TEN, TEN + 2 * HOUR) < DAY  # 12:00 is a longer part of the day than 11:00
    assert [rank(TEN, TEN + gap * DAYS) for gap in (1, 6, 29, 304)] == [DAY, WEEK, MONTH, YEAR]
    axis = TimeAxis(plot := figure(), UTC)
    drawn: Any = plot.xaxis[0]
    axis.show(np.arange(4.0), [TEN, TEN + HOUR, TEN + DAYS, TEN + DAYS + 2 * HOUR])
    assert drawn.ticker.args["order"] == [2, 3, 1, 0]
    assert drawn.formatter.args["labels"][2:] == ["Wed 04\nMar 2015", "12:00\nWed 04 Mar"]
    axis.show(np.arange(2.0), [TEN, TEN + 304 * DAYS])
    assert drawn.formatter.args["labels"][1] == "2016"


def test_prices_reach_from_the_lowest_to_the_highest_that_is_seen() -> None:
    seen = bars(2)
    assert price_range(seen) == pytest.approx((1 - 0.06 * 3, 4 + 0.06 * 3))
    assert price_range(seen.clear()) is None


def test_a_span_is_moved_into_what_there_is_and_never_narrower_than_can_be_seen() -> None:
    assert clip(-5.0, 5.0, (0.0, 100.0), 2.0) == (0.0, 10.0)
    assert clip(95.0, 105.0, (0.0, 100.0), 2.0) == (90.0, 100.0)
    assert clip(49.9, 50.1, (0.0, 100.0), 2.0) == (49.0, 51.0)
    assert clip(-50.0, 500.0, (0.0, 100.0), 2.0) == (0.0, 100.0)
