"""Which stamps of a file have been delivered."""

import numpy as np
import polars as pl


class SeenStamps:
    """Stamps delivered so far, sorted: 8 bytes each."""

    def __init__(self) -> None:
        self._stamps = np.empty(0, np.int64)

    def contains(self, ts: pl.Series) -> pl.Series:
        stamps = ts.to_physical().fill_null(np.iinfo(np.int64).min).to_numpy()
        at = np.searchsorted(self._stamps, stamps)
        return pl.Series(np.append(self._stamps, np.iinfo(np.int64).max)[at] == stamps)

    def add(self, ts: pl.Series) -> None:
        # Stable sorting of two ascending runs is a merge.
        self._stamps = np.sort(np.concatenate([self._stamps, ts.to_physical().to_numpy()]), kind="stable")


def find_repeats(ts: pl.Series) -> pl.Series:
    """Which stamps stood before; null ones may be either."""
    ascending = (ts.drop_nulls().to_physical().diff() > 0).all()  # as in most files: needs no hash table
    return pl.Series([False]).new_from_index(0, len(ts)) if ascending else ~ts.is_first_distinct()
