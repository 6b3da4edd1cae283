"""Bars and ticks from files, a block at a time, so one may be larger than memory.

A file's rows are spooled to find what they are (`scan.py`), then delivered. Ticks become minute bars of the mid
price and of their spread. Rows that are refused are delivered beside the bars, with file, line and reason.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from lstm_ts.errors import ConfigError, UnknownFormat, WrongZone
from lstm_ts.market.bars import BAR_SCHEMA, PRICES, BarBatch
from lstm_ts.market.revisions import keep_last
from lstm_ts.market.spacing import MINUTE_US, Times
from lstm_ts.sources.files.checks import check_sides, make_rejects
from lstm_ts.sources.files.chunks import Chunks, describe_left_out, open_chunks
from lstm_ts.sources.files.containers import OnRead
from lstm_ts.sources.files.file_evidence import FileEvidence, with_answers
from lstm_ts.sources.files.overlap import Overlap
from lstm_ts.sources.files.paths import check_paths, find_files
from lstm_ts.sources.files.recognition.columns import printable
from lstm_ts.sources.files.recognition.formats import DATES
from lstm_ts.sources.files.recognition.numbers import check_decimal
from lstm_ts.sources.files.recognition.zones import Zone, parse_zone
from lstm_ts.sources.files.repeated_hour import either_pass
from lstm_ts.sources.files.scan import ScannedFile, scan_file
from lstm_ts.sources.files.seen import SeenBars
from lstm_ts.sources.files.spool import Spool
from lstm_ts.sources.files.symbols import OtherSymbol
from lstm_ts.sources.files.ticks import (
    PARTIAL,
    Borders,
    RunCounter,
    find_minutes_of_several_runs,
    join_partials,
    make_partials,
    to_bars,
    without_repeats,
)

STAMPS = ("open", "close")


class Files:
    """Bars of the files that `paths` names: files, globs or URLs, in the order given, a glob's matches by name."""

    def __init__(
        self,
        *,
        paths: str | Sequence[str],
        symbol: str,
        zone: str | None,
        dates: str | None,
        decimal: str | None,
        price_factor: float,
        batch_rows: int,
        stamps: str,
        keep_spikes: bool,
    ) -> None:
        """symbol   rows of other symbols are left out; dates   one of DATES, for dates that a file leaves open
        decimal   comma or point, the decimal sign of prices that leave it open
        stamps   one of STAMPS: the edge of a bar that its stamp marks
        keep_spikes   keep rows whose prices jump away and back
        """
        self.on_rows: Callable[[int], None] = lambda rows: None  # called with the number of rows of each block
        self.on_read: OnRead = lambda rows: None  # see open_chunks
        self.stored: Callable[[Times], int | None] = lambda stamps_N: None  # spacing of the stored bars around
        if not (isinstance(price_factor, float | int | np.number) and price_factor > 0 and math.isfinite(price_factor)):
            raise ConfigError(f"Expected a positive number, got source.price_factor={price_factor!r}")
        if batch_rows < 1:
            raise ConfigError(f"Expected at least one row, got source.batch_rows={batch_rows}")
        self.patterns = check_paths(paths)
        if dates not in (None, *DATES):
            raise ConfigError(f"Expected source.dates as one of {', '.join(DATES)} or null, got {dates}")
        if stamps not in STAMPS:
            raise ConfigError(f"Expected source.stamps={' or '.join(STAMPS)}, got {stamps}")
        self.at_close = stamps == "close"
        self.symbol = symbol
        check_decimal(decimal)
        self.dates, self.decimal = dates, decimal
        self.zone = parse_zone(zone) if zone else None
        self.utc_is_local = False  # stamps in UTC are clock times of the zone
        self.zone_is_unread = False  # for stamps in UTC
        self.price_factor = price_factor
        self.batch_rows = batch_rows
        self.keep_spikes = keep_spikes
        self._borders = Borders()

    @property
    def name(self) -> str:
        return f"files {', '.join(self.patterns)}"

    def read_batches(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[BarBatch]:
        """start, end   rows at other times are ignored

        Raises    NoRows, UnknownFormat, WrongZone; DataError for a damaged gzip or Parquet file
        """
        first, last = start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC)
        overlaps: defaultdict[int, Overlap] = defaultdict(Overlap)
        self._borders = Borders()
        before: tuple[int, int] | None = None
        sides: set[str] = set()
        for path in self._find():
            parts, others = self._open(path), list[OtherSymbol]()
            for part in parts:
                with Spool() as spool:
                    try:
                        file = self._scan(part, spool, (first, last), before)
                    except OtherSymbol as error:
                        others.append(error)
                        continue
                    before = file.spacing, file.last + file.shift
                    sides |= part.sides
                    check_sides(sides, path)
                    yield from self._read_part(file, overlaps[file.spacing])
            if len(others) == len(parts):
                raise others[0]
            if others:
                notes = tuple(map(describe_left_out, others))
                yield BarBatch(
                    pl.DataFrame(schema=BAR_SCHEMA),
                    minutes=(before[0] if before else MINUTE_US) // MINUTE_US,
                    notes=notes,
                )

    def _read_part(self, file: ScannedFile, overlap: Overlap) -> Iterator[BarBatch]:
        evidence = FileEvidence()
        batches = (self._tick_batches if file.ticks else self._bar_batches)(file, overlap, evidence)
        yield from with_answers(batches, evidence, file, overlap)

    def _find(self) -> Iterable[Path]:
        return dict.fromkeys(path for pattern in self.patterns for path in find_files(pattern))

    def _open(self, path: Path) -> list[Chunks]:
        return open_chunks(
            path, self.batch_rows, symbol=self.symbol, dates=self.dates, decimal=self.decimal, on_read=self.on_read
        )

    def _scan(
        self, opened: Chunks, spool: Spool, span: tuple[datetime, datetime], before: tuple[int, int] | None
    ) -> ScannedFile:
        path = Path(opened.name)
        if opened.ticks and self.at_close:
            raise ConfigError(f"Expected source.stamps=open for ticks, which do not close, got close for {path}")
        self._check_names(opened, path)
        return scan_file(
            path,
            opened,
            spool,
            zone=self._zone_of(opened, path),
            span=span,
            before=before,
            stored=self.stored,
            at_close=self.at_close,
            keep_spikes=self.keep_spikes,
            on_rows=self.on_rows,
        )

    def _check_names(self, opened: Chunks, path: Path) -> None:
        """Raises    UnknownFormat: the names of columns require an option that is not set"""
        if opened.closing and not (self.at_close or opened.ticks):
            raise UnknownFormat(
                f"Expected stamps of when bars open, got column {printable([opened.closing])} in {path}; "
                "set source.stamps=close"
            )
        if opened.unit and self.price_factor == 1:
            raise UnknownFormat(
                f"Expected prices in a currency, got column {printable([opened.unit])} in {path}; set "
                "source.price_factor=0.01 if they are hundredths of it, or take the unit out of the header"
            )

    def _zone_of(self, opened: Chunks, path: Path) -> Zone | None:
        """Return source.zone, or else the zone that the file names; None of stamps in UTC. Note what is not obvious."""
        zone = self.zone or opened.zone
        if opened.utc:
            self.zone_is_unread |= self.zone is not None and str(self.zone) != "UTC"
            if not self.utc_is_local or self.zone is None:
                return None
            opened.notes.append(f"Stamps of {path} are taken as {zone} (source.zone): in UTC they fit no session")
        if zone is None:
            raise WrongZone(
                f"Expected source.zone for {path}, whose stamps carry no time zone, got null; set it to an IANA name "
                "such as Europe/London, or America/New_York+7h for a MetaTrader server on GMT+2/+3"
            )
        if opened.zone and self.zone and self.zone != opened.zone:
            opened.notes.append(f"Stamps of {path} are taken as {zone}, as source.zone says; it names {opened.zone}")
        elif opened.zone and not self.zone and zone.name != "UTC":
            opened.notes.append(f"Stamps of {path} are taken as {zone}, which it names")
        return zone

    def _bar_batches(self, file: ScannedFile, overlap: Overlap, evidence: FileEvidence) -> Iterator[BarBatch]:
        """Yield the bars of each block; of several rows with one stamp the last counts, if newest first the first."""
        seen, (descends, newest_first) = SeenBars(), file.find_order()
        for rows in file.read_rows():
            valid = rows.filter(pl.col("reason").is_null()).with_columns(pl.col(*PRICES, "spread") * self.price_factor)
            bars = valid.select(BAR_SCHEMA.names()).sort("ts", maintain_order=True)
            new = seen.add(bars)
            evidence.add(bars["ts"].filter(new))
            evidence.add_refused(either_pass(rows))
            if not new.all():
                bars = bars.filter(new) if descends and newest_first else keep_last(bars)
            bars = overlap.take(bars, file.last)
            minutes, rejects = file.spacing // MINUTE_US, make_rejects(rows, file.path)
            yield BarBatch(bars, minutes=minutes, rejects=rejects, volumes=file.volumes)
        file.notes.extend(seen.describe(file.path))

    def _tick_batches(self, file: ScannedFile, overlap: Overlap, evidence: FileEvidence) -> Iterator[BarBatch]:
        """Yield the rejects of each block, then all minutes, since any block may have ticks of them."""
        partials, runs = [pl.DataFrame(schema=PARTIAL)], RunCounter()
        descends, _ = file.find_order()
        for rows in file.read_rows():
            partials.append(make_partials(runs.number(self._ticks(rows)), descends=descends))
            evidence.add_refused(either_pass(rows))
            yield BarBatch(pl.DataFrame(schema=BAR_SCHEMA), rejects=make_rejects(rows, file.path))
        in_time = partials[::-1] if descends else partials
        found = join_partials(self._without_repeats(file, pl.concat(in_time), descends=descends))
        bars = to_bars(found)
        evidence.add(bars["ts"])
        joined = to_bars(self._borders.join(found))
        yield BarBatch(joined)
        yield BarBatch(overlap.take(bars.join(joined, on="ts", how="anti", maintain_order="left"), file.last))

    def _ticks(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the valid ticks as `ts, mid, spread`; of a tick the bid is the low, the ask the high."""
        bid, ask = pl.col("low"), pl.col("high")
        mid, spread = (bid + ask) / 2 * self.price_factor, (ask - bid) * self.price_factor
        return rows.filter(pl.col("reason").is_null()).select("ts", mid=mid, spread=spread)

    def _without_repeats(self, file: ScannedFile, partials: pl.DataFrame, *, descends: bool) -> pl.DataFrame:
        """Remove repeated ticks of the minutes of several runs, a group of minutes at a time, from the disk."""
        again = find_minutes_of_several_runs(partials)
        if again.is_empty():
            return partials
        runs, minute = RunCounter(), pl.col("ts").dt.truncate("1m")
        whole = [partials.join(again, left_on="ts", right_on="minute", how="anti", maintain_order="left")]
        with ExitStack() as stack:
            groups = [stack.enter_context(Spool()) for _ in range(again["group"].n_unique())]
            for rows in file.read_rows():
                ticks = runs.number(self._ticks(rows)).with_columns(minute=minute)
                ticks = ticks.join(again, on="minute", maintain_order="left").drop("minute")
                for (group,), some in ticks.partition_by("group", as_dict=True, include_key=False).items():
                    groups[group].add(some)
            whole.extend(make_partials(without_repeats(pl.concat(spool.read())), descends=descends) for spool in groups)
        return pl.concat(whole)
