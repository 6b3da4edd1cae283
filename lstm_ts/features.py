"""Hourly bars on the session grid, and the columns made of them. Pure.

Legend: G grid hours (session hours in order, the last `ahead` of them still to come), C calendar columns.
A column of an hour uses that hour's bar, the close before it and the calendar, nothing later.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.bars import PRICES
from lstm_ts.session import HOUR, LONGEST_CLOSURE, Session

Array = NDArray[np.float64]
MARKED_DAYS = [0, 4, 6]  # Monday, Friday, Sunday; the days between are alike
CALENDAR_COLUMNS = 24 + len(MARKED_DAYS) + 3
NEAR_CLOSE_HOURS = 4


@dataclass(frozen=True)
class Grid:
    """Every session hour from the first bar on; a missing hour is a row without prices."""

    ts_G: NDArray[np.datetime64]  # bar opens, microseconds, UTC
    hour_of_week_G: NDArray[np.int64]  # 0..167, local
    calendar_GC: Array  # in 0..1, known for any hour ahead of time
    missing_G: NDArray[np.bool_]  # also true for the hours to come
    close_G: Array  # USD, NaN where missing
    body_G: Array  # log close / open, 0 where missing
    gap_G: Array  # log open / close of the hour before, 0 where either is missing
    range_G: Array  # log high / low, 0 where missing
    position_G: Array  # of the close in the bar, -1 at the high .. 1 at the low, 0 where missing

    @property
    def origin_ts_G(self) -> NDArray[np.datetime64]:
        """Closing times: when the hour's bar is known."""
        return self.ts_G + np.timedelta64(1, "h")


def make_grid(hourly_bars: pl.DataFrame, session: Session, *, ahead: int) -> Grid:
    """Lay bars on the calendar of session hours; bars in closed hours fall away.

    ahead   session hours after the last bar, for the targets of forecasts
    """
    first, last = hourly_bars["ts"][0], hourly_bars["ts"][-1]
    calendar = _calendar(session, first, session.next_hours(last, ahead)[-1])
    grid = calendar.join(hourly_bars.select("ts", *PRICES), on="ts", how="left", maintain_order="left")
    open_G, high_G, low_G, close_G = (grid[price].cast(pl.Float64).to_numpy() for price in PRICES)
    missing_G = np.isnan(close_G)
    range_G = np.log(high_G / low_G)
    with np.errstate(invalid="ignore"):
        position_G = np.where(range_G > 0, np.log(high_G * low_G / close_G**2) / range_G, 0)
    return Grid(
        ts_G=grid["ts"].dt.replace_time_zone(None).to_numpy(),
        hour_of_week_G=grid["hour_of_week"].to_numpy(),
        calendar_GC=_calendar_columns(grid),
        missing_G=missing_G,
        close_G=close_G,
        body_G=np.nan_to_num(np.log(close_G / open_G)),
        gap_G=np.nan_to_num(np.log(open_G / np.roll(close_G, 1))) * (np.arange(len(close_G)) > 0),
        range_G=np.nan_to_num(range_G),
        position_G=np.nan_to_num(position_G),
    )


def _calendar(session: Session, first: datetime, last: datetime) -> pl.DataFrame:
    """Session hours first..last with what is known of each from the calendar alone."""
    hours = session.hours(first - LONGEST_CLOSURE, last + LONGEST_CLOSURE)
    closes = (pl.col("ts").diff().shift(-1) > HOUR).fill_null(False)
    hours_to_close = pl.coalesce(
        *(pl.when(closes.shift(-hours, fill_value=False)).then(hours) for hours in range(NEAR_CLOSE_HOURS)),
        pl.lit(NEAR_CLOSE_HOURS),
    )
    return hours.select(
        "ts",
        session.hour_of_week(pl.col("ts")),
        closed_before=pl.col("ts").diff() - HOUR,
        hours_to_close=hours_to_close,
    ).filter(pl.col("ts").is_between(first, last))


def _calendar_columns(grid: pl.DataFrame) -> Array:
    hour_of_week_G = grid["hour_of_week"].to_numpy()
    hour_G24 = np.eye(24)[hour_of_week_G % 24]
    day_G3 = np.eye(7)[hour_of_week_G // 24][:, MARKED_DAYS]
    flags = [
        grid["closed_before"] > timedelta(0),
        grid["closed_before"] > timedelta(hours=20),
        grid["hours_to_close"] / NEAR_CLOSE_HOURS,
    ]
    return np.column_stack([hour_G24, day_G3, *(flag.cast(pl.Float64).to_numpy() for flag in flags)])
