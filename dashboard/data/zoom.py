"""Bars as candlesticks of the width that a span has room for. Nothing here reads anything."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lstm_ts.market.bars import PRICES
from lstm_ts.market.session import DAY

OPEN_DAYS = 5 / 7  # of all


@dataclass(frozen=True)
class Timeframe:
    words: str
    every: str  # as Polars calls it
    length: timedelta  # at most


TIMEFRAMES = (
    Timeframe("1 minute", "1m", timedelta(minutes=1)),
    Timeframe("5 minutes", "5m", timedelta(minutes=5)),
    Timeframe("15 minutes", "15m", timedelta(minutes=15)),
    Timeframe("1 hour", "1h", timedelta(hours=1)),
    Timeframe("4 hours", "4h", timedelta(hours=4)),
    Timeframe("1 day", "1d", DAY),
    Timeframe("1 week", "1w", 7 * DAY),
    Timeframe("1 month", "1mo", 31 * DAY),
)


def choose_timeframe(minutes_open: float, span: timedelta, bar: timedelta, *, at_most: int) -> Timeframe:
    """The narrowest one that no bar is wider than, and of which the span holds `at_most`.

    span    of which the market is open for so many minutes
    """

    def count(timeframe: Timeframe) -> float:
        minutes = timeframe.length / timedelta(minutes=1)
        return minutes_open / minutes if timeframe.length < DAY else OPEN_DAYS * (span / timeframe.length)

    return next(
        (timeframe for timeframe in TIMEFRAMES if timeframe.length >= bar and count(timeframe) <= at_most),
        TIMEFRAMES[-1],
    )


def candles_of(
    bars: pl.DataFrame, bar: timedelta, start: datetime, end: datetime, timeframe: Timeframe
) -> pl.DataFrame:
    """Frame `ts, until`, PRICES, `volume, spread` of the bars in the span; what has no bar is left out.

    bars      frame `ts`, PRICES, `volume, spread, day`, ascending
    """
    first, last = (int(bars["ts"].search_sorted(edge)) for edge in (start, end))
    inside = bars.slice(first, last - first)
    prices = (pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last())
    values = (*prices, pl.col("volume").sum(), pl.col("spread").mean())
    columns = ("ts", "until", *PRICES, "volume", "spread")
    if timeframe.length < DAY:
        made = inside.group_by_dynamic("ts", every=timeframe.every).agg(*values)
        until = pl.col("ts").dt.offset_by(timeframe.every)
        return made.with_columns(until=until).select(columns)
    by = pl.col("day").dt.truncate(timeframe.every)
    edges = (pl.col("ts").first(), (pl.col("ts").last() + bar).alias("until"))
    return inside.group_by(by, maintain_order=True).agg(*edges, *values).select(columns)


def price_range(candles: pl.DataFrame) -> tuple[float, float] | None:
    """The lowest and the highest price with a margin; None without candles."""
    if candles.is_empty():
        return None
    low, high = candles.select(pl.col("low").min(), pl.col("high").max()).row(0)
    room = 0.06 * (high - low) or 0.001 * high
    return low - room, high + room
