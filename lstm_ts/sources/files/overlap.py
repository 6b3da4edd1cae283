"""Bars that several files of one command share: those of the file that ends later are taken, since the last bar of an
export is often unfinished."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.revisions import compare_bars

SEEN = pl.Schema({"ts": TS} | dict.fromkeys(PRICES, pl.Float64()))


@dataclass(frozen=True)
class _Delivered:
    path: Path
    last: int
    bars: pl.DataFrame  # SEEN, ascending and unique in `ts`


class Overlap:
    """Overlap of files with bars of one spacing."""

    def __init__(self) -> None:
        self._files: list[_Delivered] = []
        self._parts = [pl.DataFrame(schema=SEEN)]

    def take(self, bars: pl.DataFrame, last: int) -> pl.DataFrame:
        """Return the bars without those that a file with a later end has delivered.

        bars   of one file, ascending in `ts`; last   the file's last stamp
        """
        self._parts.append(bars.select(SEEN.names()))
        stamps = bars["ts"].to_physical().to_numpy()
        kept = np.ones(len(stamps), np.bool_)
        for file in self._files:
            if file.last > last and _meet(bars["ts"], file.bars["ts"]):
                theirs = file.bars["ts"].to_physical().to_numpy()
                kept &= theirs[np.minimum(np.searchsorted(theirs, stamps), len(theirs) - 1)] != stamps
        return bars.filter(pl.Series(kept)) if not kept.all() else bars

    def end_file(self, last: int, file: Path) -> tuple[list[str], str]:
        """End a file; return notes on differing bars, and how its bars are another series than an earlier file's."""
        bars = pl.concat(self._parts)
        if not bars["ts"].is_sorted() or bars["ts"].n_unique() < bars.height:
            bars = bars.unique("ts", keep="last", maintain_order=True).sort("ts")
        self._parts = [pl.DataFrame(schema=SEEN)]
        notes, replaces = [], ""
        for before in filter(lambda delivered: _meet(bars["ts"], delivered.bars["ts"]), self._files):
            revision = compare_bars(bars, before.bars)
            if revision.differing:
                notes.append(f"{file} and {before.path} share bars, {revision}; the file that ends later is taken")
            if revision.replaces:
                replaces = f"{file} to bring the bars of {before.path} again, or corrections of a few, got {revision}"
        if bars.height:
            self._files.append(_Delivered(file, last, bars))
        return notes, replaces


def _meet(ts: pl.Series, others: pl.Series) -> bool:
    """Return whether the spans of two ascending series have a moment in common."""
    return len(ts) > 0 and len(others) > 0 and bool(ts[0] <= others[-1] and others[0] <= ts[-1])
