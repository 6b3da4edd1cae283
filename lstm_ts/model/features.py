"""Hourly bars on the session grid, and the columns made of them. Pure.

Legend: G grid hours (session hours in order, the last `ahead` of them still to come), C calendar columns,
K kinds of announcement.
A column of an hour uses that hour's bar, the close before it and the calendar, nothing later.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lstm_ts.market.announcements import announcement_columns
from lstm_ts.market.bars import PRICES
from lstm_ts.market.session import HOUR, LONGEST_CLOSURE, Session

Array = NDArray[np.float64]
MARKED_DAYS = [0, 4, 6]  # Monday, Friday, Sunday; the days between are alike
CALENDAR_COLUMNS = 24 + len(MARKED_DAYS) + 3
NEAR_CLOSE_HOURS = 4


class Bars(NamedTuple):
    """Hourly bars as arrays, ascending; for one window, making frames takes longer than all computations on them."""

    ts_N: NDArray[np.datetime64]  # bar opens, microseconds, UTC
    price_PN: Array  # PRICES

    @classmethod
    def of(cls, hourly_bars: "pl.DataFrame | Bars") -> "Bars":
        if isinstance(hourly_bars, Bars):
            return hourly_bars
        return cls(hourly_bars["ts"].to_numpy(), np.stack([hourly_bars[price].to_numpy() for price in PRICES]))

    def between(self, start: int, stop: int | None = None) -> "Bars":
        """Return the bars at rows start..stop, with the indices of a slice."""
        return Bars(self.ts_N[start:stop], self.price_PN[:, start:stop])

    def tail(self, count: int) -> "Bars":
        return self.between(-count)

    @property
    def sha256(self) -> str:
        """Hash of stamps and prices, the same for the same bars."""
        return hashlib.sha256(self.ts_N.tobytes() + self.price_PN.tobytes()).hexdigest()


@dataclass(frozen=True)
class Grid:
    """Every session hour from the first bar on; a missing hour is a row without prices."""

    ts_G: NDArray[np.datetime64]  # bar opens, microseconds, UTC
    hour_of_week_G: NDArray[np.int64]  # 0..167, local
    calendar_GC: Array  # in 0..1, known for any hour ahead of time
    announcement_GK: Array  # 1 where a scheduled announcement or a holiday makes the hour unlike others, by kind
    missing_G: NDArray[np.bool_]  # also true for future hours
    close_G: Array  # NaN where missing
    body_G: Array  # log close / open, 0 where missing
    gap_G: Array  # log open / close of the hour before, 0 where either is missing
    range_G: Array  # log high / low, 0 where missing
    position_G: Array  # of the close in the bar, -1 at the high .. 1 at the low, 0 where missing

    @property
    def origin_ts_G(self) -> NDArray[np.datetime64]:
        """Closing times: when the hour's bar is known."""
        return self.ts_G + np.timedelta64(1, "h")


def make_grid(hourly_bars: pl.DataFrame | Bars, session: Session, *, ahead: int) -> Grid:
    """Lay bars on the calendar of session hours; bars in closed hours fall away.

    ahead   session hours after the last bar, for the targets of forecasts
    """
    bar_ts_N, bar_price_PN = Bars.of(hourly_bars)
    years = _years(bar_ts_N[0].item(), bar_ts_N[-1].item(), ahead)
    calendar = _calendar(session, years.start, years.stop - 1)
    first, to_come = np.searchsorted(calendar.ts_G, [bar_ts_N[0], bar_ts_N[-1] + np.timedelta64(1, "h")])
    rows = slice(first, to_come + ahead)
    ts_G = calendar.ts_G[rows]
    assert len(ts_G) == rows.stop - rows.start, (session.calendar, years)
    row_N = np.minimum(np.searchsorted(ts_G, bar_ts_N), len(ts_G) - 1)
    open_N = ts_G[row_N] == bar_ts_N
    price_PG = np.full((len(PRICES), len(ts_G)), np.nan)
    price_PG[:, row_N[open_N]] = bar_price_PN[:, open_N]
    open_G, high_G, low_G, close_G = np.log(price_PG)
    gap_G = np.zeros(len(ts_G))
    gap_G[1:] = open_G[1:] - close_G[:-1]
    range_G = high_G - low_G
    position_G = np.divide(high_G + low_G - 2 * close_G, range_G, out=np.zeros(len(ts_G)), where=range_G > 0)
    columns_4G = np.stack([close_G - open_G, gap_G, range_G, position_G])
    columns_4G[np.isnan(columns_4G)] = 0
    return Grid(
        ts_G=ts_G,
        hour_of_week_G=calendar.hour_of_week_G[rows],
        calendar_GC=calendar.columns_GC[rows],
        announcement_GK=calendar.announcement_GK[rows],
        missing_G=np.isnan(close_G),
        close_G=price_PG[PRICES.index("close")],
        body_G=columns_4G[0],
        gap_G=columns_4G[1],
        range_G=columns_4G[2],
        position_G=columns_4G[3],
    )


def compute_returns_GH(grid: Grid, *, horizon: int) -> Array:
    """Cumulative log return from each row's close to the closes 1..horizon hours on; NaN where either is missing."""
    log_close_G = np.append(np.log(grid.close_G), np.full(horizon, np.nan))
    ahead_GH = sliding_window_view(log_close_G[1:], horizon)[: len(grid.ts_G)]
    return np.asarray(ahead_GH - log_close_G[: len(grid.ts_G), None])


def _years(first: datetime, last: datetime, ahead: int) -> range:
    """Return the years that may hold the hours from `first` to `ahead` after `last`.

    At least an eighth of a week is open.
    """
    return range(first.year, (last + LONGEST_CLOSURE + 8 * ahead * HOUR).year + 1)


@dataclass(frozen=True)
class _Calendar:
    """Session hours of whole years, with what is known of each from the calendar alone."""

    ts_G: NDArray[np.datetime64]
    hour_of_week_G: NDArray[np.int64]
    columns_GC: Array
    announcement_GK: Array


@lru_cache(maxsize=16)
def _calendar(session: Session, first_year: int, last_year: int) -> _Calendar:
    first, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    hours = session.hours(first - LONGEST_CLOSURE, end + LONGEST_CLOSURE)
    closes = (pl.col("ts").diff().shift(-1) > HOUR).fill_null(False)
    hours_to_close = pl.coalesce(
        *(pl.when(closes.shift(-hours, fill_value=False)).then(hours) for hours in range(NEAR_CLOSE_HOURS)),
        pl.lit(NEAR_CLOSE_HOURS),
    )
    known = hours.select(
        "ts",
        session.hour_of_week(pl.col("ts")),
        closed_before=pl.col("ts").diff() - HOUR,
        hours_to_close=hours_to_close,
    ).filter(pl.col("ts") >= first, pl.col("ts") < end)
    ts_G = known["ts"].dt.replace_time_zone(None).to_numpy()
    return _Calendar(
        ts_G=ts_G,
        hour_of_week_G=known["hour_of_week"].to_numpy(),
        columns_GC=_calendar_columns(known),
        announcement_GK=announcement_columns(ts_G),
    )


def _calendar_columns(hours: pl.DataFrame) -> Array:
    hour_of_week_G = hours["hour_of_week"].to_numpy()
    hour_G24 = np.eye(24)[hour_of_week_G % 24]
    day_G3 = np.eye(7)[hour_of_week_G // 24][:, MARKED_DAYS]
    flags = [
        hours["closed_before"] > timedelta(0),
        hours["closed_before"] > timedelta(hours=20),
        hours["hours_to_close"] / NEAR_CLOSE_HOURS,
    ]
    return np.column_stack([hour_G24, day_G3, *(flag.cast(pl.Float64).to_numpy() for flag in flags)])
