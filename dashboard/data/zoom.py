"""A span of bars, in as many columns as a picture has room for. Nothing here reads anything.

Legend: C columns, R rows of a picture: the columns, and a row of NaN wherever time without a bar lies between two.
"""

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from dashboard.ui.time_span import MILLISECOND
from lstm_ts.market.bars import PRICES

MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720)
DAYS = (1, 2, 4, 7, 14, 28)
WIDTHS = (*(timedelta(minutes=minutes) for minutes in MINUTES), *(timedelta(days=days) for days in DAYS))

Floats = npt.NDArray[np.float64]


def column_width(span: timedelta, bar: timedelta, *, at_most: int) -> timedelta:
    """The narrowest of WIDTHS that no bar is wider than, and of which the span holds `at_most`."""
    fitting = (width for width in WIDTHS if width >= bar and span <= at_most * width)
    return next(fitting, WIDTHS[-1])


def columns_of(bars: pl.DataFrame, start_ms: float, end_ms: float, width: timedelta) -> pl.DataFrame:
    """Bars of `width`, made of those in the span (milliseconds since 1970); a column without a bar is left out.

    bars      frame `ts` and PRICES, ascending
    """
    ts = bars["ts"].to_physical()
    first, last = (int(ts.search_sorted(int(1000 * edge_ms))) for edge_ms in (start_ms, end_ms))
    inside = bars.slice(first, last - first)
    high, low = pl.col("high").max(), pl.col("low").min()
    columns = inside.group_by_dynamic("ts", every=width).agg(pl.col("open").first(), high, low, pl.col("close").last())
    return columns.select("ts", *PRICES)


def broken(columns: pl.DataFrame, width: timedelta) -> dict[str, Floats]:
    """What a band is drawn of: `left, right, x` (the middle), milliseconds since 1970, and PRICES, one value a row."""
    left_C = left_ms(columns)
    width_ms = width / MILLISECOND
    gaps = np.flatnonzero(np.diff(left_C) > width_ms) + 1
    found = {"left": left_C, "right": left_C + width_ms, "x": left_C + width_ms / 2}
    found |= {price: columns[price].to_numpy() for price in PRICES}
    return {name: np.insert(values_C, gaps, np.nan) for name, values_C in found.items()}


def left_ms(columns: pl.DataFrame) -> Floats:
    return np.asarray(columns["ts"].to_physical().to_numpy() / 1000)


def columns_seen(columns: pl.DataFrame, start_ms: float, end_ms: float, width: timedelta) -> pl.DataFrame:
    """Those between the edges, with the ones that an edge cuts."""
    left_C = left_ms(columns)
    return columns.filter((left_C < end_ms) & (left_C + width / MILLISECOND > start_ms))


def price_range(columns: pl.DataFrame) -> tuple[float, float] | None:
    """The lowest and the highest price with a margin; None without columns."""
    if columns.is_empty():
        return None
    low, high = columns.select(pl.col("low").min(), pl.col("high").max()).row(0)
    room = 0.06 * (high - low) or 0.001 * high
    return low - room, high + room
