"""Whether bars revise stored ones or replace them by another series: the other side of the quote, another vendor."""

from dataclasses import dataclass

import numpy as np
import polars as pl

BPS = 1e4
NOISE_BPS = 0.01  # of a close; no market quotes more digits
MIN_BARS = 100  # fewer in common prove nothing
MAX_SHARE = 0.5  # a broker corrects single bars; another series differs nearly everywhere
MAX_SIZE_BPS = 0.2  # below the spread of the most liquid currency pairs; rounding of the last digit moves closes less


@dataclass(frozen=True)
class Revision:
    """How bars differ from stored ones of the same `ts`."""

    common: int
    differing: int  # in their close
    mean_bps: float  # new over stored close, of those that differ
    size_bps: float  # mean absolute difference of these

    @property
    def replaces(self) -> bool:
        """Whether more differs than corrections of single bars do."""
        many = self.common >= MIN_BARS and self.differing > MAX_SHARE * self.common
        return many and not self.size_bps <= MAX_SIZE_BPS

    def __str__(self) -> str:
        share = self.differing / max(self.common, 1)
        return (
            f"{self.differing:,} of {self.common:,} stored bars ({100 * share:.1f} %) with another close, by "
            f"{self.size_bps:.2g} bps on average (mean difference {self.mean_bps:+.2g} bps)"
        )


def compare_closes(bars: pl.DataFrame, stored: pl.DataFrame) -> Revision:
    """bars, stored   `ts, close`; of bars with the same `ts` the last one counts"""
    both = bars.join(stored.select("ts", before="close"), on="ts", maintain_order="left")
    both = both.unique("ts", keep="last", maintain_order=True)
    bps_N = (both["close"] / both["before"] - 1).to_numpy() * BPS
    bps_N = bps_N[~(np.abs(bps_N) <= NOISE_BPS)]  # NaN differs
    if not len(bps_N):
        return Revision(both.height, 0, 0.0, 0.0)
    return Revision(both.height, len(bps_N), float(bps_N.mean()), float(np.abs(bps_N).mean()))
