from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.model.features import CALENDAR_COLUMNS, make_grid

OPENS, OPENS_WEEK, TO_CLOSE = -3, -2, -1  # the last calendar columns


def bars(*rows: tuple[datetime, float, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame([(*row, 1.0, None, 1.0) for row in rows], schema=HOURLY_SCHEMA, orient="row")


def at(day: int, hour: int) -> datetime:
    return datetime(2015, 3, day, hour, tzinfo=UTC)


THURSDAY_EVENING = bars(
    (at(5, 20), 10.0, 12.0, 9.0, 11.0),
    # 21:00 is missing, 22:00 is the daily break
    (at(5, 23), 12.0, 12.5, 11.5, 12.0),
    (at(6, 0), 12.6, 12.6, 12.6, 12.6),
)


def test_a_missing_session_hour_is_a_row_without_prices_and_the_break_is_no_row(silver: Session) -> None:
    grid = make_grid(THURSDAY_EVENING, silver, ahead=1)
    assert grid.ts_G.astype("datetime64[h]").astype(str).tolist() == [
        "2015-03-05T20", "2015-03-05T21", "2015-03-05T23", "2015-03-06T00", "2015-03-06T01",
    ]  # fmt: skip
    assert grid.missing_G.tolist() == [False, True, False, False, True]


def test_returns_are_never_bridged_over_a_missing_hour(silver: Session) -> None:
    grid = make_grid(THURSDAY_EVENING, silver, ahead=1)
    assert grid.body_G == pytest.approx([np.log(1.1), 0, 0, 0, 0])
    assert grid.gap_G == pytest.approx([0, 0, 0, np.log(12.6 / 12), 0])


def test_ranges_and_the_place_of_the_close(silver: Session) -> None:
    grid = make_grid(THURSDAY_EVENING, silver, ahead=1)
    assert grid.range_G == pytest.approx([np.log(12 / 9), 0, np.log(12.5 / 11.5), 0, 0])
    assert grid.position_G[0] == pytest.approx(np.log(12 * 9 / 121) / np.log(12 / 9))
    assert (np.abs(grid.position_G) <= 1).all()
    assert grid.position_G[3] == 0  # a bar without a range has no place in it


def test_an_hour_is_known_at_its_close(silver: Session) -> None:
    grid = make_grid(THURSDAY_EVENING, silver, ahead=1)
    assert (grid.origin_ts_G - grid.ts_G == np.timedelta64(1, "h")).all()


def test_the_calendar_marks_opens_and_closes(silver: Session) -> None:
    flat = [(at(6, 18) + timedelta(hours=i), 10.0, 10.0, 10.0, 10.0) for i in range(4)]  # Friday 18:00..21:00 UTC
    calendar_GC = make_grid(bars(*flat), silver, ahead=2).calendar_GC
    assert calendar_GC.shape == (6, CALENDAR_COLUMNS)
    assert calendar_GC[:, TO_CLOSE].tolist() == [0.75, 0.5, 0.25, 0, 1, 1]
    assert calendar_GC[:, OPENS].tolist() == [0, 0, 0, 0, 1, 0]
    assert calendar_GC[:, OPENS_WEEK].tolist() == [0, 0, 0, 0, 1, 0]


def test_the_local_hour_follows_daylight_saving_time(silver: Session) -> None:
    noon_utc = bars((at(6, 12), 10, 10, 10, 10), (at(9, 12), 10, 10, 10, 10))  # the Friday before, the Monday after
    grid = make_grid(noon_utc, silver, ahead=1)
    first, last = grid.hour_of_week_G[0], grid.hour_of_week_G[-2]
    assert (first, last) == (4 * 24 + 7, 8)


def test_bars_in_closed_hours_fall_away(silver: Session) -> None:
    in_break = bars((at(5, 20), 10, 10, 10, 10), (at(5, 22), 99, 99, 99, 99), (at(5, 23), 10, 10, 10, 10))
    assert np.nanmax(make_grid(in_break, silver, ahead=1).close_G) == 10


def test_a_row_is_the_same_whatever_comes_before_it(silver: Session, hourly_bars: pl.DataFrame) -> None:
    whole, tail = make_grid(hourly_bars, silver, ahead=3), make_grid(hourly_bars.tail(500), silver, ahead=3)
    rows = len(tail.ts_G)
    assert (whole.ts_G[-rows:] == tail.ts_G).all()
    np.testing.assert_array_equal(whole.calendar_GC[-rows:], tail.calendar_GC)
    np.testing.assert_array_equal(whole.gap_G[-rows + 1 :], tail.gap_G[1:])
