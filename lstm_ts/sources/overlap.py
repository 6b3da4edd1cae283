"""Bars that several files of one command share: those of the file that ends later are taken, since the last bar of an
export is often unfinished."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.spacing import Times

BASIS_POINTS = 1e4


@dataclass(frozen=True)
class _Delivered:
    """Bars of one file, ascending: 16 bytes each."""

    last: int
    stamps_N: Times
    closes_N: NDArray[np.float64]


class Overlap:
    """Overlap of files with bars of one spacing."""

    def __init__(self) -> None:
        self._files: list[_Delivered] = []
        self._parts: list[tuple[Times, NDArray[np.float64]]] = []
        self._differences_bps: list[NDArray[np.float64]] = []
        self._shared = 0

    def take(self, bars: pl.DataFrame, last: int) -> pl.DataFrame:
        """Return the bars without those that a file with a later end has delivered.

        bars   of one file, ascending in `ts`; last   the file's last stamp
        """
        stamps, closes = bars["ts"].to_physical().to_numpy(), bars["close"].to_numpy()
        kept = np.ones(len(stamps), np.bool_)
        shared = np.zeros(len(stamps), np.bool_)
        for file in self._files:
            at = np.minimum(np.searchsorted(file.stamps_N, stamps), len(file.stamps_N) - 1)
            both = file.stamps_N[at] == stamps
            self._differences_bps.append(np.abs(np.log(closes[both] / file.closes_N[at[both]])) * BASIS_POINTS)
            shared |= both
            kept &= ~both | (file.last <= last)
        self._shared += int(shared.sum())
        self._parts.append((stamps[kept], closes[kept]))
        return bars.filter(pl.Series(kept)) if not kept.all() else bars

    def end_file(self, last: int, file: Path) -> list[str]:
        """End a file; return a note if its bars differ from those of other files."""
        none = np.empty(0, np.int64), np.empty(0)
        stamps, closes = (np.concatenate(column) for column in zip(none, *self._parts, strict=True))
        order = np.argsort(stamps, kind="stable")
        if len(stamps):
            self._files.append(_Delivered(last, stamps[order], closes[order]))
        differences = np.concatenate([np.empty(0), *self._differences_bps])
        shared, self._parts, self._differences_bps, self._shared = self._shared, [], [], 0
        differing = differences[differences > 0]
        if not len(differing):
            return []
        return [
            f"{file} has {shared:,} bars that another file has too, and {len(differing):,} of them close "
            f"{differing.mean():.2g} bps apart in the mean; the file that ends later is taken"
        ]
