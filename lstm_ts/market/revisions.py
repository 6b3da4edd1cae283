"""Distinguish revisions of stored bars from their replacement by another series, such as asks or another vendor's."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from lstm_ts.market.bars import PRICES

BPS = 1e4
NOISE_BPS = 0.01  # of a price; no market quotes more digits
MIN_BARS = 10  # fewer in common prove nothing
MANY_BARS = 100  # in common; of fewer, a larger share may differ
MAX_SHARE = 0.5  # of many bars; a broker corrects single bars, another series differs nearly everywhere
MAX_SHARE_OF_FEW = 0.9  # a broker may correct most of its last bars
MAX_VOLUME = 0.01  # relative: what rounding explains
MAX_SIZE_BPS = 0.2  # mean size of rounding; another side of the quote is further away, even of EUR/USD


@dataclass(frozen=True)
class Revision:
    """Differences between bars and the stored bars of the same `ts`."""

    common: int
    differing: int  # in a price
    mean_bps: float  # new over stored, over the prices of those that differ
    size_bps: float  # mean absolute difference of these prices
    volumes: int  # bars with a known volume in both, that differs

    @property
    def told(self) -> bool:
        """True if a price differs, or the volumes of more bars than corrections explain."""
        return self.differing > 0 or self.volumes > MAX_SHARE * self.common

    @property
    def replaces(self) -> bool:
        """True if more bars differ than corrections of single bars explain, by more than rounding."""
        most = (MAX_SHARE if self.common >= MANY_BARS else MAX_SHARE_OF_FEW) * self.common
        return self.common >= MIN_BARS and self.differing > most and not self.size_bps <= MAX_SIZE_BPS

    def __str__(self) -> str:
        if not self.differing:
            return f"{self.volumes:,} of {self.common:,} bars with other volumes"
        share = self.differing / max(self.common, 1)
        return (
            f"{self.differing:,} of {self.common:,} bars ({100 * share:.1f} %) with other prices, by "
            f"{_shown(self.size_bps)} bps on average (mean difference {_shown(self.mean_bps, '+')} bps)"
        )


def find_wholes(bars: pl.DataFrame, stored: pl.DataFrame, firsts: pl.Series, lasts: pl.Series) -> pl.DataFrame:
    """Return the stored bars of which the first or last bar of a file is a part, as where an export ends within it.

    A part of a bar with a volume has less of it: one with the same volume is a correction.

    bars, stored    frames of `ts`, PRICES and `volume`; of bars with the same `ts` the last one counts
    firsts, lasts   `ts` of the first and of the last bar of each file
    """
    ts = pl.col("ts")
    first, last = ts.is_in(firsts.implode()), ts.is_in(lasts.implode())
    at_edges = bars.filter(first | last).unique("ts", keep="last", maintain_order=True)
    both = stored.join(at_edges.select("ts", pl.col(*PRICES, "volume").name.suffix(" part")), on="ts")
    volume, high, low = pl.col("volume part"), pl.col("high part"), pl.col("low part")
    less = ((volume < pl.col("volume")) | ~(volume > 0)).fill_null(True)
    within = (high <= pl.col("high")) & (low >= pl.col("low")) & less
    begins, ends = pl.col("open") == pl.col("open part"), pl.col("close") == pl.col("close part")
    return both.filter(within, (last & begins) | (first & ends)).select(stored.columns)


def _shown(bps: float, sign: str = "") -> str:
    """Round to two digits, written out."""
    return f"{float(f'{bps:.2g}'):{sign},g}"


def compare_bars(bars: pl.DataFrame, stored: pl.DataFrame) -> Revision:
    """Compare frames of `ts`, PRICES and `volume`; of bars with the same `ts` the last one counts."""
    both = bars.join(stored.select("ts", *PRICES, "volume"), on="ts", maintain_order="left", suffix=" before")
    both = both.unique("ts", keep="last", maintain_order=True)
    bps_NP = (both.select(PRICES).to_numpy() / both.select(f"{name} before" for name in PRICES).to_numpy() - 1) * BPS
    bps_NP = bps_NP[~(np.abs(bps_NP) <= NOISE_BPS).all(axis=1)]  # NaN differs
    traded = both.filter(pl.col("volume") > 0, pl.col("volume before") > 0)
    volumes = traded.filter((pl.col("volume") / pl.col("volume before") - 1).abs() > MAX_VOLUME).height
    if not len(bps_NP):
        return Revision(both.height, 0, 0.0, 0.0, volumes)
    return Revision(both.height, len(bps_NP), float(bps_NP.mean()), float(np.abs(bps_NP).mean()), volumes)


def keep_last(bars: pl.DataFrame) -> pl.DataFrame:
    """Keep the last of the rows with one `ts`; a volume (0 is none) or spread that it lacks is the last known one."""
    if not bars["ts"].is_duplicated().any():
        return bars
    kept = bars.with_columns(traded=pl.when(pl.col("volume").is_finite() & (pl.col("volume") > 0)).then("volume"))
    sparse = pl.col("traded", "volume", "spread").last(ignore_nulls=True)
    kept = kept.group_by("ts", maintain_order=True).agg(pl.exclude("traded", "volume", "spread").last(), sparse)
    return kept.with_columns(volume=pl.coalesce("traded", "volume")).select(bars.columns)
