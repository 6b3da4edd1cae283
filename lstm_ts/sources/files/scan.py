"""The first pass over a file, before its rows are delivered: find its spacing, damaged stamps and damaged prices.

All of it comes from all rows of the file, which are spooled, so the result depends neither on the size of a block nor
on the order of rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts import clock
from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.spacing import (
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    Times,
    at_minute,
    find_segments,
    format_duration,
    parse_period,
)
from lstm_ts.sources.files.checks import (
    check_clock,
    check_rows,
    find_isolated,
    find_out_of_order,
    kinds_of_bars,
    refuse,
)
from lstm_ts.sources.files.chunks import Chunks
from lstm_ts.sources.files.recognition.zones import Zone
from lstm_ts.sources.files.repeated_hour import RepeatedHour
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
        for block in self._refuse_out_of_order(self.repeated.apply(self.spool.read(columns))):
            rows = self._of_span(self._at_open(self._refuse_isolated(block)))
            rows = rows if self.ticks else self._refuse_off_grid(rows)
            yield rows if self.spikes is None else refuse(rows, self.spikes.find(rows), SPIKE)

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
        for first, last in self.isolated:
            rows = refuse(rows, pl.col("ts").to_physical().is_between(first, last), ISOLATED)
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
    stamps, kinds = [np.empty(0, np.int64)], set()
    for block in opened.rows:
        rows = check_rows(block, zone, ticks=opened.ticks, now=now)
        prices.add(rows)
        kinds |= kinds_of_bars(rows)
        stamps.append(_physical(repeated.add(rows), ticks=opened.ticks))
        spool.add(rows)
        on_rows(rows.height)
    in_order_N = np.concatenate(stamps)
    if not opened.ticks:
        check_clock(in_order_N, lambda: spool.read(["stamp"]), path)
    out_of_order = find_out_of_order(in_order_N) if not opened.ticks else np.empty(0, np.int64)
    resolved_N = _physical(repeated.resolve(before[1] if before else 0), ticks=opened.ticks)
    stamps_N = _unique(np.concatenate([np.delete(in_order_N, out_of_order), resolved_N]))
    isolated = find_isolated(stamps_N)
    stamps_N = _within(stamps_N, isolated, span)
    stamps_N = _at_whole_minutes(stamps_N, path, at_close=at_close) if not opened.ticks else stamps_N
    last = int(stamps_N[-1]) if len(stamps_N) else 0
    spacing = MINUTE_US
    if len(stamps_N) and not opened.ticks:
        named = next(iter(map(parse_period, opened.periods)), None)
        spacing = _spacing(stamps_N, path, named, lambda: before[0] if before else stored(stamps_N), opened.notes)
    shift = spacing if at_close else 0
    opened.notes.extend(repeated.notes(path))
    parts = (path, spool, repeated, opened.ticks, spacing, last - shift, span, now, opened.notes, isolated, shift)
    volumes = any(traded for traded, _ in kinds) or not any(moves for _, moves in kinds)
    file = ScannedFile(*parts, volumes, out_of_order=out_of_order)
    return replace(file, spikes=_find_spikes(file)) if prices.broken and not keep_spikes else file


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


def _physical(ts: pl.Series, *, ticks: bool) -> Times:
    return (ts.dt.truncate("1m").unique() if ticks else ts).to_physical().to_numpy()


def _within(stamps_N: Times, isolated: Sequence[tuple[int, int]], span: tuple[datetime, datetime]) -> Times:
    kept_N = np.ones(len(stamps_N), np.bool_)
    for first, last in isolated:
        kept_N &= (stamps_N < first) | (stamps_N > last)
    ts = pl.Series(stamps_N).cast(TS)
    kept_N &= ((ts >= span[0]) & (ts < span[1])).to_numpy()
    return stamps_N[kept_N]


def _at_whole_minutes(stamps_N: Times, file: Path, *, at_close: bool) -> Times:
    """Closes a second before a minute, as some vendors write them, become that minute.

    Raises    UnknownFormat: most stamps are so, and nothing says that they are closes
    """
    late_N = stamps_N % MINUTE_US >= MINUTE_US - SECOND_US
    if not at_close and 2 * late_N.sum() > len(stamps_N):
        raise UnknownFormat(
            f"Expected stamps of when bars open, got such as {at_minute(int(stamps_N[0]))}:59 in {file}, when they "
            "close; set source.stamps=close"
        )
    return np.where(late_N, stamps_N - stamps_N % MINUTE_US + MINUTE_US, stamps_N) if at_close else stamps_N


def _spacing(stamps_N: Times, file: Path, named: int | None, near: Callable[[], int | None], notes: list[str]) -> int:
    """named   spacing that the file names
    near    returns the spacing of the bars around, which too few bars have if their stamps allow it
    notes   gets another one where nothing shows the spacing of one bar

    Raises    UnknownFormat: bars of several spacings, or of another one than minutes that divide an hour
    """
    if named and _fits(stamps_N, named):
        return named
    segments = find_segments(stamps_N)
    unfit = format_duration(named) if named and HOUR_US % named else ""
    last = segments[-1]
    if len(segments) > 1:
        since, until = at_minute(last.first), at_minute(segments[-2].first)
        edge = "start" if last.usable else "end"
        part = "them from then on" if last.usable else "those before"
        raise UnknownFormat(
            f"Expected bars of one spacing in {file}, got {segments[-2]} from {until} and {last} from {since} UTC on; "
            f"add span.{edge}={since.replace(' ', 'T')} to take {part}"
        )
    if not last.usable or unfit:
        raise UnknownFormat(
            f"Expected bars of a minute or an hour, or of minutes that divide an hour, got "
            f"{f'bars of {unfit}' if unfit else last} in {file}; "
            f"export M1 or H1"
        )
    return last.spacing if last.certain else _spacing_of_few(stamps_N, file, last.likely, near(), notes)


def _fits(stamps_N: Times, spacing: int) -> bool:
    return HOUR_US % spacing == 0 and not (stamps_N % spacing).any()


def _spacing_of_few(stamps_N: Times, file: Path, likely: int, near: int | None, notes: list[str]) -> int:
    """Take one bar for a minute, with a note.

    Raises    UnknownFormat: nothing distinguishes bars of a longer spacing from a few minutes
    """
    if near and _fits(stamps_N, near):
        return near
    if likely == MINUTE_US:
        return MINUTE_US
    period = "H1" if likely >= HOUR_US else f"M{likely // MINUTE_US}"
    if len(stamps_N) == 1:
        notes.append(
            f"The one bar of {file.name} is taken for a minute; add a column timeframe with {period} if it is not"
        )
        return MINUTE_US
    raise UnknownFormat(
        f"Expected enough bars to distinguish minutes from longer ones, got {len(stamps_N)} bars "
        f"{format_duration(likely)} apart in {file}; "
        f"add a column timeframe with {period}, or with M1 if they are minutes"
    )
