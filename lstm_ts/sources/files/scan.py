"""The first pass over a file, before its rows are delivered: find its spacing, damaged stamps and damaged prices.

All of it comes from all rows of the file, which are spooled, so the result does not depend on the size of a block. The
order of rows shows stamps days off, exports joined in one file, and clocks of 12 hours; it changes nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts import clock
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.spacing import HOUR_US, MINUTE_US, Times, format_duration, parse_period
from lstm_ts.sources.files.checks import (
    at_whole_minutes,
    check_clock,
    check_joined,
    check_rows,
    choose_spacing,
    find_isolated,
    find_out_of_order,
    kinds_of_bars,
    refuse,
)
from lstm_ts.sources.files.chunks import Chunks
from lstm_ts.sources.files.recognition.zones import Zone
from lstm_ts.sources.files.repeated_hour import RepeatedHour
from lstm_ts.sources.files.sides import find_file_order
from lstm_ts.sources.files.spool import Spool
from lstm_ts.sources.spikes import SPIKE, Continuity, Levels, Spikes

ISOLATED = "far from the rest of its file"
OUT_OF_ORDER = "a day or more from the rows about it"
UNCLOSED = "not closed yet"
SEEN_OF_A_ROW = ["ts", "late", "reason", *PRICES]


@dataclass(frozen=True)
class ScannedFile:
    path: Path
    spool: Spool
    repeated: RepeatedHour
    ticks: bool
    spacing: int
    last: int  # last stamp within the span
    span: tuple[datetime, datetime]
    now: datetime
    notes: list[str]
    isolated: Sequence[tuple[int, int]] = ()
    shift: int = 0  # from a bar's open to its stamp
    volumes: bool = True  # a volume of 0 says that nobody traded
    spikes: Spikes | None = None
    out_of_order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # among the good rows

    def read_rows(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows of the span in the order of the file, with the reason of each refused row.

        columns   to read, at least SEEN_OF_A_ROW; None: all
        """
        for rows in self._read_stamped(columns):
            rows = rows if self.ticks else self._refuse_off_grid(rows)
            yield rows if self.spikes is None else refuse(rows, self.spikes.find(rows), SPIKE)

    def find_order(self) -> tuple[bool, bool]:
        """Return whether the rows descend in time, and whether the first good one has the last stamp."""
        good = pl.col("reason").is_null()
        descends, first = find_file_order(rows.filter(good) for rows in self._read_stamped(SEEN_OF_A_ROW))
        return descends, first == self.last

    def _read_stamped(self, columns: list[str] | None) -> Iterator[pl.DataFrame]:
        """Yield the rows of the span; of those whose stamps `last` takes into account, none is refused yet."""
        for block in self._refuse_out_of_order(self.repeated.apply(self.spool.read(columns))):
            yield self._of_span(self._at_open(self._refuse_isolated(block)))

    def _refuse_out_of_order(self, blocks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        seen = 0
        for rows in blocks:
            good = (
                (rows["reason"].is_null() & rows["late"].is_null()).arg_true()
                if len(self.out_of_order)
                else pl.Series([])
            )
            within = self.out_of_order[(self.out_of_order >= seen) & (self.out_of_order < seen + len(good))] - seen
            seen += len(good)
            is_out_of_order = pl.int_range(pl.len()).is_in(good.gather(within).to_list())
            yield refuse(rows, is_out_of_order, OUT_OF_ORDER) if len(within) else rows

    def _refuse_isolated(self, rows: pl.DataFrame) -> pl.DataFrame:
        within = MINUTE_US - 1 if self.ticks else 0
        for first, last in self.isolated:
            rows = refuse(rows, pl.col("ts").to_physical().is_between(first, last + within), ISOLATED)
        return rows

    def _at_open(self, rows: pl.DataFrame) -> pl.DataFrame:
        if not self.shift:
            return rows
        ts = pl.col("ts", "late")
        at_close = pl.when(ts.dt.second() == 59).then(ts.dt.truncate("1m") + pl.duration(minutes=1)).otherwise(ts)
        return rows.with_columns((at_close - pl.duration(microseconds=self.shift)).name.keep())

    def _of_span(self, rows: pl.DataFrame) -> pl.DataFrame:
        start, end = self.span
        ts = pl.col("ts")
        return rows.filter(ts.is_null() | ((ts >= start) & (ts < end)))

    def _refuse_off_grid(self, rows: pl.DataFrame) -> pl.DataFrame:
        grid = {MINUTE_US: "minute", HOUR_US: "hour"}.get(self.spacing)
        off_grid = f"not on a whole {grid}" if grid else f"not on the grid of {format_duration(self.spacing)}"
        rows = refuse(rows, pl.col("ts") != pl.col("ts").dt.truncate(f"{self.spacing // MINUTE_US}m"), off_grid)
        return refuse(rows, pl.col("ts") > pl.lit(self.now) - pl.duration(microseconds=self.spacing), UNCLOSED)


def scan_file(
    path: Path,
    opened: Chunks,
    spool: Spool,
    *,
    zone: Zone | None,
    span: tuple[datetime, datetime],
    before: tuple[int, int] | None,
    stored: Callable[[Times], int | None],
    at_close: bool,
    keep_spikes: bool,
    on_rows: Callable[[int], None],
) -> ScannedFile:
    """Spool all rows of a file, and find its spacing and its damaged rows.

    before     spacing and last stamp of the previous file
    stored     returns the spacing of what is stored about some stamps
    on_rows    called with the number of rows of each block
    Raises     UnknownFormat: bars of several spacings, or of another one than minutes that divide an hour
    """
    now, repeated, prices = clock.now(), RepeatedHour(ticks=opened.ticks), Continuity()
    none = np.empty(0, np.int64)
    runs, kinds = [(none, none)], set()
    for block in opened.rows:
        rows = check_rows(block, zone, ticks=opened.ticks, now=now)
        prices.add(rows)
        kinds |= kinds_of_bars(rows)
        runs.append(_runs(repeated.add(rows), ticks=opened.ticks))
        spool.add(rows)
        on_rows(rows.height)
    in_order_R, rows_R = map(np.concatenate, zip(*runs, strict=True))
    if not opened.ticks:
        check_clock(in_order_R, lambda: spool.read(["stamp"]), path)
    out_of_order = find_out_of_order(in_order_R, rows_R)
    resolved_R, _ = _runs(repeated.resolve(before[1] if before else 0), ticks=opened.ticks)
    wrong_R = np.isin(np.cumsum(rows_R) - 1, out_of_order)
    stamps_N = _unique(np.concatenate([in_order_R[~wrong_R], resolved_R]))
    isolated = find_isolated(stamps_N)
    stamps_N = _within(stamps_N, isolated, span)
    stamps_N = at_whole_minutes(stamps_N, path, at_close=at_close) if not opened.ticks else stamps_N
    last = int(stamps_N[-1]) if len(stamps_N) else 0
    joined_R = _within(in_order_R[~wrong_R], isolated, span)
    spacing = _find_spacing(stamps_N, joined_R, opened, path, lambda: before[0] if before else stored(stamps_N))
    shift = spacing if at_close else 0
    opened.notes.extend(repeated.notes(path))
    parts = (path, spool, repeated, opened.ticks, spacing, last - shift, span, now, opened.notes, isolated, shift)
    volumes = any(traded for traded, _ in kinds) or not any(moves for _, moves in kinds)
    file = ScannedFile(*parts, volumes, out_of_order=out_of_order)
    return replace(file, spikes=_find_spikes(file)) if prices.broken and not keep_spikes else file


def _find_spacing(
    stamps_N: Times, joined_R: Times, opened: Chunks, path: Path, elsewhere: Callable[[], int | None]
) -> int:
    """Return the spacing of bars, or a minute of ticks.    Raises    UnknownFormat: bars of several spacings

    joined_R    stamps in the order of the file
    elsewhere   returns the spacing of the bars beside these
    """
    if opened.ticks or not len(stamps_N):
        return MINUTE_US
    named = next(iter(map(parse_period, opened.periods)), None)
    spacing = choose_spacing(stamps_N, path, named, elsewhere, opened.notes)
    check_joined(joined_R, spacing, path)
    return spacing


def _find_spikes(file: ScannedFile) -> Spikes | None:
    levels = Levels(ticks=file.ticks)
    for rows in file.read_rows(SEEN_OF_A_ROW):
        levels.add(rows.filter(pl.col("reason").is_null()))
    return levels.find_spikes()


def _unique(stamps_N: Times) -> Times:
    """Sort and deduplicate. np.unique hashes integers, which takes 3 s for 1.4 million stamps of whole minutes."""
    ascending_N: Times = np.sort(stamps_N, kind="stable")
    kept_N: NDArray[np.bool_] = np.diff(ascending_N, append=np.iinfo(np.int64).max) != 0
    return ascending_N[kept_N]


def _runs(ts: pl.Series, *, ticks: bool) -> tuple[Times, NDArray[np.int64]]:
    """Return the stamps, of ticks the minutes, and how many rows in a row have each."""
    if not ticks:
        return ts.to_physical().to_numpy(), np.ones(len(ts), np.int64)
    runs = ts.dt.truncate("1m").to_physical().rle().struct
    return runs.field("value").to_numpy(), runs.field("len").cast(pl.Int64).to_numpy()


def _within(stamps_N: Times, isolated: Sequence[tuple[int, int]], span: tuple[datetime, datetime]) -> Times:
    kept_N = np.ones(len(stamps_N), np.bool_)
    for first, last in isolated:
        kept_N &= (stamps_N < first) | (stamps_N > last)
    ts = pl.Series(stamps_N).cast(TS)
    kept_N &= ((ts >= span[0]) & (ts < span[1])).to_numpy()
    return stamps_N[kept_N]
