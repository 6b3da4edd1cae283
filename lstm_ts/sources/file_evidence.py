"""What a file proves: nothing outside its first minute and its last, nor of a minute whose only row is bad.

All files are one witness: two of them are as a rule one export that has grown, with the same gaps.
"""

from datetime import datetime, timedelta

import polars as pl

from lstm_ts import clock
from lstm_ts.market.bars import TS, AnsweredSpan, make_answers

WITNESS = "files"


class Testimony:
    """What one file of minutes or ticks proves."""

    def __init__(self) -> None:
        self._good: list[pl.Series] = []
        self._bad: list[pl.Series] = []
        self._undated = 0

    def add(self, bars_ts: pl.Series) -> None:
        """bars_ts   of bars made of the file, each once"""
        self._good.append(bars_ts)

    def add_refused(self, rows: pl.DataFrame) -> None:
        """rows   `ts, reason` of the file's rows, null where nothing was wrong"""
        refused = rows.filter(pl.col("reason").is_not_null())
        self._bad.append(refused["ts"].drop_nulls())
        self._undated += refused["ts"].null_count()

    def answers(self) -> tuple[AnsweredSpan, ...]:
        """None if a row's time cannot be read: it may be any minute's."""
        empty = pl.Series(dtype=TS)
        good, bad = (pl.concat([empty, *parts]) for parts in (self._good, self._bad))
        first, last = good.min(), good.max()
        if self._undated or not isinstance(first, datetime) or not isinstance(last, datetime):
            return ()
        end = last + timedelta(minutes=1)
        return make_answers(first, end, good=good, bad=bad, at=clock.now(), witness=WITNESS)
