"""Bars that several files of one command share: those of the file that ends later are taken, since the last bar of an
export is often unfinished; a volume or spread that it lacks is the other file's."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.market.revisions import compare_bars, keep_last


@dataclass(frozen=True)
class _Delivered:
    path: Path
    last: int
    bars: pl.DataFrame  # BAR_SCHEMA, ascending and unique in `ts`


class Overlap:
    """Overlap of files with bars of one spacing."""

    def __init__(self) -> None:
        self._files: list[_Delivered] = []
        self._parts = [pl.DataFrame(schema=BAR_SCHEMA)]

    def take(self, bars: pl.DataFrame, last: int) -> pl.DataFrame:
        """Return the bars, as a file with a later end has delivered them where it has.

        bars   of one file, ascending in `ts`; last   the file's last stamp
        """
        self._parts.append(bars)
        for file in self._files:
            if file.last > last and _meet(bars["ts"], file.bars["ts"]):
                bars = keep_last(pl.concat([bars, file.bars.join(bars, on="ts", how="semi")]))
        return bars

    def end_file(self, last: int, file: Path) -> tuple[list[str], str]:
        """End a file; return notes on differing bars, and how its bars are another series than an earlier file's."""
        bars = pl.concat(self._parts)
        bars = keep_last(bars).sort("ts")
        self._parts = [pl.DataFrame(schema=BAR_SCHEMA)]
        notes, replaces = [], ""
        for before in filter(lambda delivered: _meet(bars["ts"], delivered.bars["ts"]), self._files):
            revision = compare_bars(bars, before.bars)
            if revision.told:
                notes.append(f"{file} and {before.path} share bars, {revision}; the file that ends later is taken")
            if revision.replaces:
                replaces = f"{file} to bring the bars of {before.path} again, or corrections of a few, got {revision}"
        if bars.height:
            self._files.append(_Delivered(file, last, bars))
        return notes, replaces


def _meet(ts: pl.Series, others: pl.Series) -> bool:
    """Return whether the spans of two ascending series have a moment in common."""
    return len(ts) > 0 and len(others) > 0 and bool(ts[0] <= others[-1] and others[0] <= ts[-1])
