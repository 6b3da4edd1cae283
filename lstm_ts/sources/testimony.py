"""What a file proves: nothing outside its first minute and its last, nor of a minute whose only row is bad."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lstm_ts.bars import TS, Answer, make_answers


class Testimony:
    """Of one file of minutes or ticks. The same content twice is one witness, whatever the file is called."""

    def __init__(self, file: Path, *, already_read: tuple[str, ...]) -> None:
        """already_read   reasons of rows that were refused only because their minute had been delivered before"""
        self._file = file
        self._already_read = already_read
        self._good: list[pl.Series] = []
        self._repeated: list[pl.Series] = []
        self._bad: list[pl.Series] = []
        self._undated = 0

    def add(self, bars_ts: pl.Series, rows: pl.DataFrame | None = None) -> None:
        """bars_ts   of the bars made of the file; rows   `ts, reason` of its rows, null where nothing was wrong"""
        self._good.append(bars_ts)
        if rows is None:
            return
        refused = rows.filter(pl.col("reason").is_not_null())
        repeated = pl.col("reason").is_in(self._already_read)
        self._repeated.append(refused.filter(repeated)["ts"])
        self._bad.append(refused.filter(~repeated)["ts"].drop_nulls())
        self._undated += int(refused.filter(~repeated)["ts"].null_count())

    def answers(self) -> tuple[Answer, ...]:
        """None if a row's time cannot be read: it may be any minute's."""
        empty = pl.Series(dtype=TS)
        good, repeated, bad = (pl.concat([empty, *parts]) for parts in (self._good, self._repeated, self._bad))
        minutes = pl.concat([good, repeated.dt.truncate("1m")])
        first, last = minutes.min(), minutes.max()
        if self._undated or not isinstance(first, datetime) or not isinstance(last, datetime):
            return ()
        with self._file.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        end = last + timedelta(minutes=1)
        return make_answers(first, end, good=good, bad=bad, at=datetime.now(UTC), witness=f"file {sha256}")
