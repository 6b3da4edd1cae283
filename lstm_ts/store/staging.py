"""Staging of rows for a store, and the changes that they make to it."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from lstm_ts.market.bars import check_bars
from lstm_ts.market.revisions import keep_last

REVISED = "{}_revised"  # a column's value since


@dataclass(frozen=True)
class UpsertResult:
    new: int
    same: int
    revised: int  # stored before with other values
    months: tuple[str, ...]  # whose file changed, as 2015-03, ascending


class Staging:
    """Rows staged for a store; `result` and `store_id` are set once the `with` block has ended."""

    result: UpsertResult
    store_id: str

    def __init__(self, folder: Path, schema: pl.Schema) -> None:
        self.folder = folder
        self.parts: defaultdict[str, list[Path]] = defaultdict(list)  # by month, in order of arrival
        self._schema = schema
        self.span: tuple[datetime, datetime] | None = None  # the first and the last `ts` that was added

    def add(self, bars: pl.DataFrame) -> None:
        """Take bars in any order; of rows with the same `ts` the last one added is kept, see `keep_last`.

        Raises    DataError: a bar that cannot be, see `check_bars`
        """
        assert bars.schema == self._schema, f"Expected {self._schema}, got {bars.schema}"
        check_bars(bars)
        if bars.height:
            ends = [*(self.span or ()), bars["ts"].min(), bars["ts"].max()]
            self.span = min(ends), max(ends)
        for (month,), rows in bars.group_by(pl.col("ts").dt.strftime("%Y-%m"), maintain_order=True):
            part = self.folder / f"{month}.{len(self.parts[str(month)])}.parquet"
            rows.write_parquet(part, compression="uncompressed")
            self.parts[str(month)].append(part)

    def read(self, month: str) -> pl.DataFrame:
        return keep_last(pl.concat([pl.read_parquet(part, glob=False) for part in self.parts[month]]))


def find_changes(stored: pl.DataFrame, merged: pl.DataFrame) -> pl.DataFrame:
    """Return the stored rows that the merged ones revise, with their revised values. A spread revises nothing."""
    both = stored.join(merged, on="ts", suffix=REVISED.format(""))
    names = [name for name in stored.columns if name not in ("ts", "spread")]
    return both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(REVISED.format(name))) for name in names))


def merge(stored: pl.DataFrame, staged: pl.DataFrame) -> pl.DataFrame:
    """Replace stored rows by staged ones; a stored volume or spread stays where a row comes again without one."""
    return keep_last(pl.concat([stored, staged])).sort("ts")
