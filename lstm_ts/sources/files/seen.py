"""Repeated bars of one file: the last one counts."""

import numpy as np
import polars as pl

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES

FEW = 10  # rows, of which most may come again


class SeenBars:
    """Bars of one file so far, 16 bytes each: stamps, ascending, and a hash of the prices."""

    def __init__(self) -> None:
        self._stamps, self._hashes = np.empty(0, np.int64), np.empty(0, np.uint64)
        self._repeated = self._differing = 0

    def add(self, bars: pl.DataFrame) -> pl.Series:
        """Return which bars have new stamps, and record all of them.

        bars   ascending in `ts`, which may repeat
        """
        stamps, hashes = bars["ts"].to_physical().to_numpy(), bars.select(PRICES).hash_rows().to_numpy()
        at = np.searchsorted(self._stamps, stamps)
        new = np.append(self._stamps, np.iinfo(np.int64).max)[at] != stamps
        new[1:] &= stamps[1:] != stamps[:-1]
        # Stable sorting of two ascending runs is a merge.
        stamps, hashes = np.concatenate([self._stamps, stamps]), np.concatenate([self._hashes, hashes])
        if not new.all() or (len(at) and at[0] < len(self._stamps)):
            order = np.argsort(stamps, kind="stable")
            stamps, hashes = stamps[order], hashes[order]
        again = stamps[1:] == stamps[:-1]
        self._repeated += int(again.sum())
        self._differing += int((again & (hashes[1:] != hashes[:-1])).sum())
        last = np.append(~again, True)[: len(stamps)]
        self._stamps, self._hashes = stamps[last], hashes[last]
        return pl.Series(new)

    def describe(self, file: object) -> list[str]:
        """Return a note on the repeated bars; empty if there are none.

        Raises    UnknownFormat: most bars come again with other prices
        """
        if not self._repeated:
            return []
        if 2 * self._differing > len(self._stamps) and len(self._stamps) + self._repeated >= FEW:
            raise UnknownFormat(
                f"Expected one row for each bar, got {len(self._stamps):,} bars and {self._differing:,} again with "
                f"other prices in {file}, as of two series, or of days whose time is not read; leave one of them "
                "in the file"
            )
        return [
            f"{file} has {self._repeated:,} bars again, {self._differing:,} of them with other prices; the latest is "
            f"taken"
        ]
