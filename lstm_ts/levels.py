"""Whether prices stay on one level: a jump by a factor that no market makes is another unit or another symbol. Pure."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import DataError

SESSION = 0.5  # log: a shock from one bar to the next, of 65 %
YEAR = (
    3.5  # log, at one year, growing with the root of time: 3.5 standard deviations of a market that moves 100 % a year
)
LARGEST = 3.7  # log: 40 times, whatever the gap
YEAR_S = 365 * 86_400.0


@dataclass(frozen=True)
class CloseRange:
    """Of some hours, such as those that a model was trained on."""

    lowest: float
    highest: float

    def describe_jump(self, later: "CloseRange", gap_s: float) -> str:
        """Where `later` lies further outside than a market moves in `gap_s`, in words; nothing where it does not."""
        above, below = later.highest / self.highest, self.lowest / later.lowest
        if np.log(max(above, below)) <= largest_move(gap_s):
            return ""
        if above > below:
            return f"a close of {later.highest:g} is {above:.3g} times as much as their highest, {self.highest:g}"
        return f"a close of {later.lowest:g} is {below:.3g} times as little as their lowest, {self.lowest:g}"


def close_range(closes: NDArray[np.float64]) -> CloseRange:
    """closes    NaN where there is none"""
    return CloseRange(float(np.nanmin(closes)), float(np.nanmax(closes)))


def largest_move(gap_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """What a market moves in that time at most, as a log."""
    return np.minimum(SESSION + YEAR * np.sqrt(np.asarray(gap_s) / YEAR_S), LARGEST)


def check_levels(bars: pl.DataFrame, stored: pl.DataFrame, where: str) -> None:
    """Compare each bar's open with the close before it, within what comes and where it meets what is stored.

    bars, stored   `ts, open, close`; what is stored may be only what lies about the bars
    Raises         DataError: with both levels
    """
    both = pl.concat(
        [frame.select("ts", "open", "close", came=pl.lit(came)) for frame, came in ((stored, False), (bars, True))]
    )
    both = both.sort("ts", maintain_order=True)
    gap_s = both["ts"].diff().dt.total_seconds().cast(pl.Float64).to_numpy()
    move = (pl.col("open") / pl.col("close").shift(1)).log().abs()
    jumps = both.with_columns(before=pl.col("close").shift(1), since=pl.col("ts").shift(1)).filter(
        (move > pl.Series(largest_move(gap_s))) & (pl.col("came") | pl.col("came").shift(1))
    )
    if jumps.is_empty():
        return
    ts, price, before, since = jumps.select("ts", "open", "before", "since").row(0)
    factor = float(np.exp(abs(np.log(price / before))))
    assert isinstance(ts, datetime)
    raise DataError(
        f"Expected prices of one level, got {before:g} at {since:%Y-%m-%d %H:%M} and {price:g} at "
        f"{ts:%Y-%m-%d %H:%M} UTC, {factor:.3g} times as {'much' if price > before else 'little'}, in {where}; set "
        f"source.price_factor where the unit differs, take another symbol=, or allow_level_change=true if the market "
        f"moved so; nothing was stored"
    )
