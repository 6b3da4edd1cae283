"""Whether prices stay on one level: a jump by a factor that no market makes is another unit or another symbol. Pure."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import DataError

SESSION = 0.5  # log: a shock from one bar to the next, of 65 %
YEAR = (
    3.5  # log, at one year, growing with the root of time: 3.5 standard deviations of a market that moves 100 % a year
)
LARGEST = 3.7  # log: 40 times, whatever the gap
TORN = 1.5  # log: 4.5 times within a bar, which may be one of an hour in a thin market
YEAR_S = 365 * 86_400.0


@dataclass(frozen=True)
class CloseRange:
    """The lowest and highest close of some hours, such as those of a training."""

    lowest: float
    highest: float

    def describe_jump(self, later: "CloseRange", gap_s: float) -> str:
        """Describe how far `later` lies outside what a market moves in `gap_s`; empty if it lies within."""
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


def check_levels(bars: pl.DataFrame, stored: pl.DataFrame, where: str, *, remedy: str) -> None:
    """Compare each bar's open with the close before it, within what comes and where it meets what is stored, and the
    close of each bar that comes with its open.

    bars, stored   `ts, open, close`; what is stored may be only what lies about the bars
    Raises         DataError: with both levels
    """
    both = pl.concat(
        [frame.select("ts", "open", "close", came=pl.lit(came)) for frame, came in ((stored, False), (bars, True))]
    ).sort("ts", maintain_order=True)
    open_N, close_N, came_N = (both[name].to_numpy() for name in ("open", "close", "came"))
    limit_N = largest_move(both["ts"].to_physical().diff().to_numpy()[1:] / 1e6)
    jumps_N = ~(np.abs(np.log(close_N / open_N)) <= TORN)  # so that NaN is a jump
    jumps_N &= came_N
    between_N = ~(np.abs(np.log(open_N[1:] / close_N[:-1])) <= limit_N) & (came_N[1:] | came_N[:-1])
    jumps_N[1:] |= between_N
    if not jumps_N.any():
        return
    at = int(jumps_N.argmax())
    from_before = at > 0 and between_N[at - 1]
    before, price = (close_N[at - 1], open_N[at]) if from_before else (open_N[at], close_N[at])
    since, ts = both["ts"][at - 1 if from_before else at], both["ts"][at]
    factor = float(np.exp(abs(np.log(price / before))))
    raise DataError(
        f"Expected prices of one level, got {before:g} at {since:%Y-%m-%d %H:%M} and {price:g} at "
        f"{ts:%Y-%m-%d %H:%M} UTC, {factor:.3g} times as {'much' if price > before else 'little'}, in {where}; {remedy}"
    )
