"""Bars and ticks from files, a block at a time, so one may be larger than memory.

A file is read twice: once to learn the spacing of its bars and which stamps are damaged, from the file's own rows, and
once, as those rows were spooled, to deliver them. So neither the size of a block nor the order of rows decides
anything. Ticks become minute bars of the mid price. Rows that are refused are delivered beside the bars, with file,
line and reason.
"""

import glob
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.bars import BAR_SCHEMA, PRICES, TS, BarBatch
from lstm_ts.errors import ConfigError, NoSuchFile, UnknownFormat, WrongZone
from lstm_ts.sources.blocks import open_blocks
from lstm_ts.sources.checks import check_rows, find_lonely, make_rejects, refuse
from lstm_ts.sources.formats import DATES
from lstm_ts.sources.overlap import Overlap
from lstm_ts.sources.repeated_hour import AMBIGUOUS, RepeatedHour
from lstm_ts.sources.spool import Spool
from lstm_ts.sources.testimony import Testimony
from lstm_ts.sources.ticks import join_partials, make_partials
from lstm_ts.sources.zones import Zone, parse_zone
from lstm_ts.spacing import HOUR, MINUTE, Times, at_minute, find_stretches, in_words

DUPLICATE = "duplicate time stamp"
LONELY = "far from the rest of its file"
UNCLOSED = "not closed yet"
STAMPS = ("open", "close")


class _SeenStamps:
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


@dataclass(frozen=True)
class _File:
    """What the first pass has learnt of one file."""

    path: Path
    rows: Iterator[pl.DataFrame]
    ticks: bool
    spacing: int
    last: int  # stamp within the span
    span: tuple[datetime, datetime]
    now: datetime
    lonely: Sequence[tuple[int, int]] = ()
    shift: int = 0  # from a bar's open to its stamp
    notes: list[str] = field(default_factory=list)


class Files:
    """Bars of the files that `paths` names: files or globs, in the order given, a glob's matches by name."""

    def __init__(
        self,
        *,
        paths: str | Sequence[str],
        symbol: str,
        zone: str | None,
        dates: str | None,
        price_factor: float,
        batch_rows: int,
        stamps: str,
    ) -> None:
        """symbol   rows of other symbols are left out; dates   one of DATES, for dates that a file leaves open
        stamps   one of STAMPS: what of a bar its stamp is
        """
        self.on_rows: Callable[[int], None] = lambda rows: None  # is told of each block how many it has
        if not (price_factor > 0 and math.isfinite(price_factor)):
            raise ConfigError(f"Expected a positive factor, got source.price_factor={price_factor}")
        if batch_rows < 1:
            raise ConfigError(f"Expected at least one row, got source.batch_rows={batch_rows}")
        self.patterns = [paths] if isinstance(paths, str) else list(paths)
        if dates not in (None, *DATES):
            raise ConfigError(f"Expected source.dates as one of {', '.join(DATES)} or null, got {dates}")
        if stamps not in STAMPS:
            raise ConfigError(f"Expected source.stamps={' or '.join(STAMPS)}, got {stamps}")
        self.at_close = stamps == "close"
        self.symbol = symbol
        self.dates = dates
        self.zone = parse_zone(zone) if zone else None
        self.price_factor = price_factor
        self.batch_rows = batch_rows

    @property
    def name(self) -> str:
        return f"files {', '.join(self.patterns)}"

    def read_batches(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[BarBatch]:
        """start, end   rows at other times are not looked at

        Raises    NoSuchFile, NoRows, UnknownFormat, WrongZone; DataError for a damaged gzip or Parquet file
        """
        first, last = start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC)
        overlaps: defaultdict[int, Overlap] = defaultdict(Overlap)
        before: int | None = None
        for path in dict.fromkeys(path for pattern in self.patterns for path in _find(pattern)):
            with Spool() as spool:
                file = self._learn(path, spool, (first, last), before)
                before = file.spacing
                testimony = Testimony(already_read=(DUPLICATE,))
                overlap = overlaps[file.spacing]
                batches = (self._tick_batches if file.ticks else self._bar_batches)(file, overlap, testimony)
                yield from _with_answers(batches, testimony, file, overlap)

    def _learn(self, path: Path, spool: Spool, span: tuple[datetime, datetime], before: int | None) -> _File:
        """before   spacing of the file before this one"""
        opened = open_blocks(path, self.batch_rows, symbol=self.symbol, dates=self.dates)
        if opened.ticks and self.at_close:
            raise ConfigError(f"Expected source.stamps=open for ticks, which do not close, got close for {path}")
        zone = None if opened.utc else opened.zone or self._zone_for(path)
        now, stamps, repeated = datetime.now(UTC), [np.empty(0, np.int64)], RepeatedHour(ticks=opened.ticks)
        for block in opened.rows:
            rows = check_rows(block, zone, ticks=opened.ticks, now=now)
            good = repeated.add(rows)
            stamps.append(_physical(good, ticks=opened.ticks))
            spool.add(rows)
            self.on_rows(rows.height)
        stamps.append(_physical(repeated.resolve(), ticks=opened.ticks))
        stamps_N = _unique(np.concatenate(stamps))
        lonely = find_lonely(stamps_N)
        stamps_N = _within(stamps_N, lonely, span)
        last = int(stamps_N[-1]) if len(stamps_N) else 0
        spacing = MINUTE if opened.ticks or not len(stamps_N) else _spacing(stamps_N, path, before)
        resolved = map(repeated.apply, spool)
        shift = spacing if self.at_close else 0
        return _File(path, resolved, opened.ticks, spacing, last - shift, span, now, lonely, shift, opened.notes)

    def _zone_for(self, file: Path) -> Zone:
        if self.zone is None:
            raise WrongZone(
                f"Expected source.zone for {file}, whose stamps carry no time zone, got null; set it to an IANA name "
                "such as Europe/London, or America/New_York+7h for a MetaTrader server on GMT+2/+3"
            )
        return self.zone

    def _bar_batches(self, file: _File, overlap: Overlap, testimony: Testimony) -> Iterator[BarBatch]:
        seen = _SeenStamps()
        every = f"{file.spacing // MINUTE}m"
        grid = {MINUTE: "minute", HOUR: "hour"}.get(file.spacing)
        off_grid = f"not on a whole {grid}" if grid else f"not on the grid of {in_words(file.spacing)}"
        for block in file.rows:
            rows = _of_span(_at_open(_refuse_lonely(block, file), file), file)
            rows = refuse(rows, pl.col("ts") != pl.col("ts").dt.truncate(every), off_grid)
            unclosed = pl.col("ts") > pl.lit(file.now) - pl.duration(microseconds=file.spacing)
            rows = refuse(rows, unclosed, UNCLOSED)
            good = rows.select(pl.when(pl.col("reason").is_null()).then(pl.col("ts"))).to_series()
            rows = refuse(rows, seen.contains(rows["ts"]) | _repeats(good), DUPLICATE)
            valid = rows.filter(pl.col("reason").is_null()).with_columns(pl.col(PRICES) * self.price_factor)
            bars = valid.select(BAR_SCHEMA.names()).sort("ts")
            seen.add(bars["ts"])
            testimony.add(bars["ts"])
            testimony.add_refused(_either_pass(rows))
            bars = overlap.take(bars, file.last)
            yield BarBatch(bars, minutes=file.spacing // MINUTE, rejects=make_rejects(rows, file.path))

    def _tick_batches(self, file: _File, overlap: Overlap, testimony: Testimony) -> Iterator[BarBatch]:
        """All minutes come with the last batch, since any block may have ticks of them."""
        partials = []
        for block in file.rows:
            rows = _refuse_lonely(_of_span(block, file), file)
            mid = (pl.col("low") + pl.col("high")) / 2 * self.price_factor
            partials.append(make_partials(rows.filter(pl.col("reason").is_null()).select("ts", mid=mid)))
            testimony.add_refused(_either_pass(rows))
            yield BarBatch(pl.DataFrame(schema=BAR_SCHEMA), rejects=make_rejects(rows, file.path))
        bars = join_partials(partials)
        testimony.add(bars["ts"])
        yield BarBatch(overlap.take(bars, file.last))


def _repeats(ts: pl.Series) -> pl.Series:
    """Which stamps stood before; null ones may be either."""
    ascending = (ts.drop_nulls().to_physical().diff() > 0).all()  # as in most files: needs no hash table
    return pl.Series([False]).new_from_index(0, len(ts)) if ascending else ~ts.is_first_distinct()


def _unique(stamps_N: Times) -> Times:
    """Ascending. np.unique hashes integers, which takes 3 s for 1.4 million stamps of whole minutes."""
    ascending_N: Times = np.sort(stamps_N, kind="stable")
    kept_N: NDArray[np.bool_] = np.diff(ascending_N, append=np.iinfo(np.int64).max) != 0
    return ascending_N[kept_N]


def _physical(ts: pl.Series, *, ticks: bool) -> Times:
    return (ts.dt.truncate("1m").unique() if ticks else ts).to_physical().to_numpy()


def _either_pass(rows: pl.DataFrame) -> pl.DataFrame:
    """With both moments of a stamp that is ambiguous."""
    ambiguous = rows.filter(pl.col("reason") == AMBIGUOUS)
    return pl.concat([rows, ambiguous.with_columns(ts="late")])


def _within(stamps_N: Times, lonely: Sequence[tuple[int, int]], span: tuple[datetime, datetime]) -> Times:
    kept_N = np.ones(len(stamps_N), np.bool_)
    for first, last in lonely:
        kept_N &= (stamps_N < first) | (stamps_N > last)
    ts = pl.Series(stamps_N).cast(TS)
    kept_N &= ((ts >= span[0]) & (ts < span[1])).to_numpy()
    return stamps_N[kept_N]


def _spacing(stamps_N: Times, file: Path, before: int | None) -> int:
    """before    spacing of the file before, which one of too few bars shares if it can

    Raises    UnknownFormat: bars of several spacings, or of one that neither is a minute nor makes hours
    """
    stretches = find_stretches(stamps_N)
    last = stretches[-1]
    if len(stretches) > 1:
        since, until = at_minute(last.first), at_minute(stretches[-2].first)
        edge = "start" if last.usable else "end"
        part = "them from then on" if last.usable else "those before"
        raise UnknownFormat(
            f"Expected bars of one spacing in {file}, got {stretches[-2]} from {until} and {last} from {since} UTC on; "
            f"add span.{edge}={since.replace(' ', 'T')} to take {part}"
        )
    if not last.usable:
        raise UnknownFormat(
            f"Expected bars of a minute or an hour, or of minutes that divide an hour, got {last} in {file}; "
            f"export M1 or H1"
        )
    return before if before and not last.certain and not (stamps_N % before).any() else last.spacing


def _of_span(rows: pl.DataFrame, file: _File) -> pl.DataFrame:
    start, end = file.span
    ts = pl.col("ts")
    return rows.filter(ts.is_null() | ((ts >= start) & (ts < end)))


def _at_open(rows: pl.DataFrame, file: _File) -> pl.DataFrame:
    return rows.with_columns(pl.col("ts", "late") - pl.duration(microseconds=file.shift)) if file.shift else rows


def _refuse_lonely(rows: pl.DataFrame, file: _File) -> pl.DataFrame:
    for first, last in file.lonely:
        rows = refuse(rows, pl.col("ts").to_physical().is_between(first, last), LONELY)
    return rows


def _with_answers(
    batches: Iterator[BarBatch], testimony: Testimony, file: _File, overlap: Overlap
) -> Iterator[BarBatch]:
    """The last batch carries what the file proves, and the notes; longer bars prove nothing about minutes."""
    held = None
    for batch in batches:
        if held is not None:
            yield held
        held = batch
    held = held or BarBatch(pl.DataFrame(schema=BAR_SCHEMA))
    notes = (*file.notes, *overlap.end_file(file.last, file.path))
    yield replace(held, answers=testimony.answers() if held.minutes == 1 else (), notes=notes)


def _find(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207
    found = sorted(path for path in map(Path, matches) if path.is_file())
    if not found:
        raise NoSuchFile(f"Expected a file, or a glob that matches one, got source.paths={pattern}; correct the path")
    return found
