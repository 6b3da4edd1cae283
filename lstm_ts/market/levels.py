"""Checks that prices stay on one level: a jump beyond any market move is another unit or another symbol. Pure."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import DataError
from lstm_ts.market.prices import positional

SESSION = 0.5  # log: a shock from one bar to the next, of 65 %
# log, at one year, growing with the root of time: 3.5 standard deviations of a market that moves 100 % a year
YEAR = 3.5
LARGEST = 3.7  # log: 40 times, whatever the gap
TORN = 1.5  # log: 4.5 times within a bar, which may be one of an hour in a thin market
# Ratios that are a split or another unit rather than a move, as logs: after few closed days, and after any gap.
SPLITS = np.log([1.5, 2, 3, 4, 5])
SPLIT = 0.03  # log, from the ratio: what a market moves in addition
SPLIT_S = 4 * 86_400.0
UNIT = np.log(10)  # a hundred is beyond what a market moves
UNIT_YEAR, LARGEST_UNIT = 0.6, 0.4  # log, from the ratio: as a market of 60 % a year moves besides, and at most
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
            return _compare(f"a close of {positional(later.highest)} is", above, "much", "their highest", self.highest)
        return _compare(f"a close of {positional(later.lowest)} is", below, "little", "their lowest", self.lowest)


def close_range(closes: NDArray[np.float64]) -> CloseRange:
    """closes    NaN where there is none"""
    return CloseRange(float(np.nanmin(closes)), float(np.nanmax(closes)))


def largest_move(gap_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the largest move of a market in `gap_s` seconds, as a log."""
    return np.minimum(SESSION + YEAR * np.sqrt(np.asarray(gap_s) / YEAR_S), LARGEST)


def are_jumps(moves_N: NDArray[np.float64], gap_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which moves (log) no market makes in `gap_s` seconds, and which are near a split or a factor of 10.

    A NaN is a jump.
    """
    size_N = np.abs(moves_N)
    jumps_N: NDArray[np.bool_] = ~(size_N <= largest_move(gap_s))
    large = np.flatnonzero(size_N > SPLITS[0] - SPLIT)
    size_L, gap_L = size_N[large], gap_s[large]
    split_L = (np.abs(size_L[:, None] - SPLITS) <= SPLIT).any(axis=1) & (gap_L <= SPLIT_S)
    near_L = np.minimum(SPLIT + UNIT_YEAR * np.sqrt(gap_L / YEAR_S), LARGEST_UNIT)
    jumps_N[large] |= split_L | (np.abs(size_L - UNIT) <= near_L)
    return jumps_N


def describe_jump_within(
    ts_N: NDArray[np.datetime64], open_N: NDArray[np.float64], close_N: NDArray[np.float64]
) -> str:
    """Describe the first jump from a close to the next open; empty where there is none."""
    gap_s = np.diff(ts_N) / np.timedelta64(1, "s")
    jumps = np.flatnonzero(are_jumps(np.log(open_N[1:] / close_N[:-1]), gap_s))
    if not len(jumps):
        return ""
    before, price = close_N[jumps[0]], open_N[jumps[0] + 1]
    times, way = max(price / before, before / price), "much" if price > before else "little"
    return _compare(f"within the window, an open of {positional(price)} is", times, way, "the close before it", before)


def _compare(price: str, times: float, way: str, what: str, other: float) -> str:
    return f"{price} {positional(times, 3)} times as {way} as {what}, {positional(other)}"


def check_levels(bars: pl.DataFrame, stored: pl.DataFrame, where: str, *, remedy: str) -> None:
    """Compare the open of each bar with the close before it, among new bars and where they meet stored ones, and the
    close of each new bar with its open.

    bars, stored   `ts, open, close`; of the stored bars, those around the new ones suffice
    Raises         DataError: a jump, with both levels
    """
    both = pl.concat(
        [frame.select("ts", "open", "close", came=pl.lit(came)) for frame, came in ((stored, False), (bars, True))]
    ).sort("ts", maintain_order=True)
    open_N, close_N, came_N = (both[name].to_numpy() for name in ("open", "close", "came"))
    gap_s = both["ts"].to_physical().diff().to_numpy()[1:] / 1e6
    jumps_N = ~(np.abs(np.log(close_N / open_N)) <= TORN)  # so that NaN is a jump
    jumps_N &= came_N
    between_N = are_jumps(np.log(open_N[1:] / close_N[:-1]), gap_s) & (came_N[1:] | came_N[:-1])
    jumps_N[1:] |= between_N
    if not jumps_N.any():
        return
    at = int(jumps_N.argmax())
    from_before = at > 0 and between_N[at - 1]
    before, price = (close_N[at - 1], open_N[at]) if from_before else (open_N[at], close_N[at])
    since, ts = both["ts"][at - 1 if from_before else at], both["ts"][at]
    factor = float(np.exp(abs(np.log(price / before))))
    raise DataError(
        f"Expected prices of one level, got {positional(before)} at {since:%Y-%m-%d %H:%M} and "
        f"{positional(price)} at {ts:%Y-%m-%d %H:%M} UTC, {positional(factor, 3)} times as "
        f"{'much' if price > before else 'little'}, in {where}; {remedy}"
    )
