"""Bars and ticks from files, a block at a time, so one may be larger than memory.

Ticks become minute bars of the mid price. Rows that are refused are delivered beside the bars, with file, line and
reason.
"""

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from lstm_ts.bars import BAR_SCHEMA, PRICES, TS, BarBatch, reject_reason
from lstm_ts.errors import ConfigError, NoSuchFile, UnknownFormat, WrongZone
from lstm_ts.sources.blocks import open_blocks
from lstm_ts.sources.formats import DATES, SHOWN_CHARS
from lstm_ts.sources.testimony import Testimony
from lstm_ts.sources.zones import Zone, parse_zone

MIN_HOURLY_ROWS = 12  # a thin minute file may have a few stamps that are all full hours
ALREADY_READ = (DUPLICATE, LATE_TICK) = "duplicate time stamp", "tick of a minute already read"


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
    ) -> None:
        """symbol   rows of other symbols are left out; dates   one of DATES, for dates that a file leaves open"""
        if not (price_factor > 0 and math.isfinite(price_factor)):
            raise ConfigError(f"Expected a positive factor, got source.price_factor={price_factor}")
        if batch_rows < 1:
            raise ConfigError(f"Expected at least one row, got source.batch_rows={batch_rows}")
        self.patterns = [paths] if isinstance(paths, str) else list(paths)
        if dates not in (None, *DATES):
            raise ConfigError(f"Expected source.dates as one of {', '.join(DATES)} or null, got {dates}")
        self.symbol = symbol
        self.dates = dates
        self.zone = parse_zone(zone) if zone else None
        self.price_factor = price_factor
        self.batch_rows = batch_rows

    @property
    def name(self) -> str:
        return f"files {', '.join(self.patterns)}"

    def read_batches(self) -> Iterator[BarBatch]:
        """Raises   NoSuchFile, NoRows, UnknownFormat, WrongZone; DataError for a damaged gzip or Parquet file"""
        # An hour and its first minute share a stamp without being duplicates.
        seen = {False: _SeenStamps(), True: _SeenStamps()}
        for file in dict.fromkeys(file for pattern in self.patterns for file in _find(pattern)):
            opened = open_blocks(file, self.batch_rows, symbol=self.symbol, dates=self.dates)
            zone = None if opened.utc else opened.zone or self._zone_for(file)
            blocks = (_check(block, zone, ticks=opened.ticks) for block in opened.rows)
            testimony = Testimony(already_read=ALREADY_READ)
            if opened.ticks:
                batches = self._tick_batches(blocks, file, seen[False], testimony)
            else:
                batches = self._bar_batches(blocks, file, seen, testimony)
            yield from _with_answers(batches, testimony, opened.notes)

    def _zone_for(self, file: Path) -> Zone:
        if self.zone is None:
            raise WrongZone(
                f"Expected source.zone for {file}, whose stamps carry no time zone, got null; set it to an IANA name "
                "such as Europe/London, or America/New_York+7h for a MetaTrader server on GMT+2/+3"
            )
        return self.zone

    def _bar_batches(
        self, blocks: Iterator[pl.DataFrame], file: Path, seen: dict[bool, _SeenStamps], testimony: Testimony
    ) -> Iterator[BarBatch]:
        hourly = None
        for block in blocks:
            if hourly is None:  # the first block decides for the file
                hourly = _is_hourly(block.filter(pl.col("reason").is_null())["ts"], file)
            rows = _refuse(block, hourly & (pl.col("ts") != pl.col("ts").dt.truncate("1h")), "not on a whole hour")
            good = pl.when(pl.col("reason").is_null()).then(pl.col("ts"))
            rows = _refuse(rows, seen[hourly].contains(rows["ts"]) | ~good.is_first_distinct(), DUPLICATE)
            valid = rows.filter(pl.col("reason").is_null()).with_columns(pl.col(PRICES) * self.price_factor)
            bars = valid.select(BAR_SCHEMA.names()).sort("ts")
            seen[hourly].add(bars["ts"])
            testimony.add(bars["ts"], rows)
            yield BarBatch(bars, hourly=hourly, rejects=_rejects(rows, file))

    def _tick_batches(
        self, blocks: Iterator[pl.DataFrame], file: Path, seen: _SeenStamps, testimony: Testimony
    ) -> Iterator[BarBatch]:
        """A minute is delivered once a tick of a later one has come; the last of each block is held until then."""
        minute = pl.col("ts").dt.truncate("1m")
        held = pl.DataFrame(schema={"ts": TS, "mid": pl.Float64()})
        for block in blocks:
            rows = _refuse(block, seen.contains(block["ts"].dt.truncate("1m")), LATE_TICK)
            mid = (pl.col("low") + pl.col("high")) / 2 * self.price_factor
            ticks = pl.concat([held, rows.filter(pl.col("reason").is_null()).select("ts", mid=mid)])
            held = ticks.filter(minute == minute.max())
            bars = _minute_bars(ticks.filter(minute < minute.max()))
            seen.add(bars["ts"])
            testimony.add(bars["ts"], rows)
            yield BarBatch(bars, rejects=_rejects(rows, file))
        bars = _minute_bars(held)
        seen.add(bars["ts"])
        testimony.add(bars["ts"])
        yield BarBatch(bars)


def _with_answers(batches: Iterator[BarBatch], testimony: Testimony, notes: Sequence[str]) -> Iterator[BarBatch]:
    """The last batch carries what the file proves, and the notes; hours prove nothing about minutes."""
    held = None
    for batch in batches:
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield replace(held, answers=() if held.hourly else testimony.answers(), notes=tuple(notes))


def _find(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207
    found = sorted(path for path in map(Path, matches) if path.is_file())
    if not found:
        raise NoSuchFile(f"Expected a file, or a glob that matches one, got source.paths={pattern}; correct the path")
    return found


def _check(raw: pl.DataFrame, zone: Zone | None, *, ticks: bool) -> pl.DataFrame:
    """Adds `ts` (UTC), and to `reason` all that is wrong with a row by itself."""
    rows = raw.with_columns(ts=zone.to_utc(pl.col("stamp")) if zone else pl.col("stamp").dt.convert_time_zone("UTC"))
    if zone:
        rows = _refuse(rows, pl.col("stamp").is_not_null() & pl.col("ts").is_null(), f"does not exist in {zone}")
    if ticks:
        rows = _refuse(rows, pl.col("high") < pl.col("low"), "ask below bid")
    else:
        rows = _refuse(rows, pl.col("ts") != pl.col("ts").dt.truncate("1m"), "not on a whole minute")
    return rows.with_columns(reason=pl.coalesce("reason", reject_reason()))


def _refuse(rows: pl.DataFrame, bad: pl.Expr | pl.Series, reason: str) -> pl.DataFrame:
    """Rows whose `reason` is still null get this one where `bad` holds."""
    return rows.with_columns(reason=pl.coalesce("reason", pl.when(bad).then(pl.lit(reason))))


def _rejects(rows: pl.DataFrame, file: Path) -> pl.DataFrame:
    """REJECT_SCHEMA; a Parquet row is shown as its values."""
    values = [pl.col(column).cast(pl.String).fill_null("") for column in ("stamp", *PRICES)]
    return rows.filter(pl.col("reason").is_not_null()).select(
        file=pl.lit(str(file)),
        line=pl.col("line").cast(pl.Int64),
        reason=pl.col("reason"),
        text=pl.coalesce("text", pl.concat_str(values, separator=",")).str.head(SHOWN_CHARS),
    )


def _is_hourly(ts: pl.Series, file: Path) -> bool:
    """Whether all stamps are full hours, with rows enough that minutes would have shown.

    Raises   UnknownFormat: bars longer than an hour
    """
    stamps = ts.unique().sort()
    if len(stamps) < MIN_HOURLY_ROWS or (stamps != stamps.dt.truncate("1h")).any():
        return False
    spacing = stamps.diff().dt.total_hours().min()
    if spacing != 1:
        raise UnknownFormat(f"Expected minute or hourly bars, got bars {spacing!r} hours apart in {file}; export H1")
    return True


def _minute_bars(ticks: pl.DataFrame) -> pl.DataFrame:
    minutes = ticks.sort("ts", maintain_order=True).group_by_dynamic("ts", every="1m")
    mid = pl.col("mid")
    return minutes.agg(
        open=mid.first(), high=mid.max(), low=mid.min(), close=mid.last(), volume=pl.len().cast(pl.Float64)
    )
