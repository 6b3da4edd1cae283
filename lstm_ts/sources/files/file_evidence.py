"""Evidence of a file: it proves nothing outside its first and last minute, nor about a minute whose only row is bad.

All files together count as one source of evidence: two files are usually one export that has grown, with its gaps.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from lstm_ts import clock
from lstm_ts.market.bars import BAR_SCHEMA, TS, AnsweredSpan, BarBatch, make_answers
from lstm_ts.sources.files.overlap import Overlap
from lstm_ts.sources.files.scan import ScannedFile

OBSERVER = "files"


class FileEvidence:
    """Evidence of one file of minutes or ticks."""

    def __init__(self) -> None:
        self._good: list[pl.Series] = []
        self._bad: list[pl.Series] = []
        self._undated = 0

    def add(self, bars_ts: pl.Series) -> None:
        """Add the `ts` of bars made from the file, each once."""
        self._good.append(bars_ts)

    def add_refused(self, rows: pl.DataFrame) -> None:
        """Add `ts, reason` of the file's rows; `reason` is null for a good row."""
        refused = rows.filter(pl.col("reason").is_not_null())
        self._bad.append(refused["ts"].drop_nulls())
        self._undated += refused["ts"].null_count()

    def answers(self) -> tuple[AnsweredSpan, ...]:
        """Return the proven spans; none if a row's time cannot be read, as it may belong to any minute."""
        empty = pl.Series(dtype=TS)
        good, bad = (pl.concat([empty, *parts]) for parts in (self._good, self._bad))
        first, last = good.min(), good.max()
        if self._undated or not isinstance(first, datetime) or not isinstance(last, datetime):
            return ()
        end = last + timedelta(minutes=1)
        return make_answers(first, end, good=good, bad=bad, at=clock.now(), observer=OBSERVER)


def with_answers(
    batches: Iterator[BarBatch], evidence: FileEvidence, file: ScannedFile, overlap: Overlap
) -> Iterator[BarBatch]:
    """Add to the last batch the answers that the file proves, and notes; longer bars prove nothing about minutes."""
    held = None
    for batch in batches:
        if held is not None:
            yield held
        held = replace(batch, part=str(file.path))
    held = held or BarBatch(pl.DataFrame(schema=BAR_SCHEMA))
    notes, replaces = overlap.end_file(file.last, file.path)
    answers = evidence.answers() if held.minutes == 1 else ()
    yield replace(held, answers=answers, notes=(*file.notes, *notes), replaces=replaces)
