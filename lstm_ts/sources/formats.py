"""Text formats of bars and ticks, recognised by their first lines, and the zones their stamps are in.

A file with a header is read by its column names: a stamp (or MetaTrader's date and time), and open, high, low,
close or bid, ask; other columns are ignored. HistData, MetaTrader 4 and Dukascopy's ticks have no header and are
known by the shape of a row. Samples of each are in tests/test_files.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from lstm_ts.bars import PRICES
from lstm_ts.errors import NoRows, UnknownFormat, WrongZone

KNOWN_FORMATS = (
    "HistData ASCII M1, Dukascopy (web, node, ticks), MetaTrader 4, MetaTrader 5, Parquet, or a header that names "
    "time, open, high, low, close, separated by comma, semicolon or tab"
)
SAMPLE_LINES = 20  # the first may be damaged; twenty in a row mean another format
SHOWN_CHARS = 200
DATES = ("dayfirst", "monthfirst")

TICK_PRICES = ("bid", "ask", "bid", "ask")  # a tick as a bar: low is the bid, high the ask
STAMP_NAMES = ("gmt time", "time", "datetime", "timestamp", "date", "ts")
VOLUME_NAMES = ("volume", "tick_volume", "tickvol")

NO_VALUE = ("", "nan", "none", "null", "na", "n/a", "#n/a", "nil", "-", "--")  # of vendors, in lower case

EPOCH_MS = "epoch ms"
OFFSET = "%z"
# "%.f" also accepts no fraction.
STAMP_FORMATS = (
    (re.compile(r"\d{13}"), EPOCH_MS),
    (re.compile(r"\d{8} \d{6}"), "%Y%m%d %H%M%S"),
    (re.compile(r"\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d(\.\d+)?"), "%d.%m.%Y %H:%M:%S%.f"),
)
YEAR_FIRST = re.compile(r"\d{4}([-.])\d\d\1\d\d([ T])\d\d:\d\d(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class Layout:
    """How to read one text file."""

    separator: str
    names: tuple[str, ...]  # of every column, in lower case
    stamp_format: str  # of strptime, or EPOCH_MS
    utc: bool = False  # stamps carry their offset, or the format is documented as UTC
    header: bool = False

    @property
    def ticks(self) -> bool:
        return "bid" in self.names

    @property
    def stamp_names(self) -> tuple[str, ...]:
        if {"date", "time"} <= set(self.names):
            return ("date", "time")
        return tuple(name for name in STAMP_NAMES if name in self.names)[:1]


HEADERLESS = (
    # HistData: https://www.histdata.com/f-a-q/data-files-detailed-specification/
    (
        re.compile(r"\d{8} \d{6}(;[^;]*){5}"),
        Layout(";", ("time", *PRICES, "volume"), "%Y%m%d %H%M%S"),
    ),
    # MetaTrader 4
    (
        re.compile(r"\d{4}\.\d\d\.\d\d,\d\d:\d\d(,[^,]*){5}"),
        Layout(",", ("date", "time", *PRICES, "volume"), "%Y.%m.%d %H:%M"),
    ),
    # Dukascopy ticks
    (
        re.compile(r"\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d[.\d]*(,[^,]*){4}"),
        Layout(",", ("time", "bid", "ask", "bid volume", "ask volume"), "%Y.%m.%d %H:%M:%S%.f", utc=True),
    ),
)


def recognise(lines: Sequence[str], *, file: str) -> Layout:
    """The layout of a file from its first lines that are not blank.

    Raises   NoRows: nothing below a header; UnknownFormat
    """
    sample = lines[:SAMPLE_LINES]
    if not sample:
        raise NoRows(f"Expected rows, got an empty file: {file}; leave it out of source.paths")
    layout = _with_header(sample, file=file) or _without_header(sample)
    if layout is None:
        shown = ", ".join(repr(line[:SHOWN_CHARS]) for line in sample[:2])
        raise UnknownFormat(f"Expected {KNOWN_FORMATS}, got {file} that begins {shown}")
    return layout


def _without_header(sample: Sequence[str]) -> Layout | None:
    return next((layout for row, layout in HEADERLESS if any(row.fullmatch(line) for line in sample)), None)


def _with_header(sample: Sequence[str], *, file: str) -> Layout | None:
    for separator in "\t;,":
        names = tuple(name.strip(" <>").lower() for name in sample[0].split(separator))
        layout = Layout(separator, names, stamp_format="", header=True)
        if layout.stamp_names and ({"bid", "ask"} <= set(names) or set(PRICES) <= set(names)):
            if len(sample) == 1:
                raise NoRows(f"Expected rows, got only a header in {file}; leave it out of source.paths")
            return _with_stamp_format(layout, sample[1:])
    return None


def _with_stamp_format(layout: Layout, rows: Sequence[str]) -> Layout | None:
    cells = (row.split(layout.separator) for row in rows)
    at = [layout.names.index(name) for name in layout.stamp_names]
    stamps = (" ".join(row[i] for i in at) for row in cells if len(row) == len(layout.names))
    found = next(filter(None, map(_stamp_format, stamps)), None)
    if found is None:
        return None
    utc = found == EPOCH_MS or found.endswith(OFFSET) or layout.stamp_names == ("gmt time",)
    return replace(layout, stamp_format=found, utc=utc)


def _stamp_format(stamp: str) -> str | None:
    for shape, known in STAMP_FORMATS:
        if shape.fullmatch(stamp):
            return known
    found = YEAR_FIRST.fullmatch(stamp)
    if found is None:
        return None
    dash, joint, seconds, offset = found.groups()
    return f"%Y{dash}%m{dash}%d{joint}%H:%M" + (":%S%.f" if seconds else "") + (OFFSET if offset else "")


def parse(lines: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Columns of one block of lines, null where a cell is unparseable.

    lines     frame `line, text`
    Returns   `line, text, stamp` (naive local, or UTC where layout.utc) `open, high, low, close, volume, reason`;
              a tick has its bid as open and low, its ask as high and close; reason is a wrong column count, or null
    """
    cells = lines.with_columns(cells=pl.col("text").str.split(layout.separator))

    def cell(name: str) -> pl.Expr:
        return pl.col("cells").list.get(layout.names.index(name), null_on_oob=True)

    columns = TICK_PRICES if layout.ticks else PRICES
    found, expected = pl.col("cells").list.len(), len(layout.names)
    found_volume, bad_volume = _parse_volume(*(cell(name) for name in VOLUME_NAMES if name in layout.names))
    return cells.select(
        "line",
        "text",
        _parse_stamp(pl.concat_str([cell(name) for name in layout.stamp_names], separator=" "), layout).alias("stamp"),
        *(cell(name).cast(pl.Float64, strict=False).alias(price) for price, name in zip(PRICES, columns, strict=True)),
        volume=found_volume,
        reason=pl.when(found != expected)
        .then(pl.format("expected {} columns, got {}", pl.lit(expected), found))
        .when(bad_volume)
        .then(pl.lit("unparseable volume")),
    )


def _parse_stamp(text: pl.Expr, layout: Layout) -> pl.Expr:
    if layout.stamp_format == EPOCH_MS:
        # Thirteen digits reach to 2286; more would overflow into some other date.
        epoch = text.str.extract(r"^(\d{13})$").cast(pl.Int64)
        return epoch.cast(pl.Datetime("ms")).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if layout.stamp_format.endswith(OFFSET):
        return text.str.replace("Z$", "+00:00").str.to_datetime(layout.stamp_format, time_unit="us", strict=False)
    stamp = text.str.to_datetime(layout.stamp_format, time_unit="us", strict=False)
    return stamp.dt.replace_time_zone("UTC") if layout.utc else stamp


def _parse_volume(*cells: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Volume, null where the file has none; and where a cell is neither a number nor a vendor's word for none."""
    if not cells:
        return pl.lit(None, pl.Float64), pl.lit(False)
    volume = cells[0].cast(pl.Float64, strict=False)
    none = cells[0].str.strip_chars().str.to_lowercase().is_in(NO_VALUE)
    return pl.when(volume.is_finite()).then(volume), ~volume.is_finite().fill_null(False) & ~none


@dataclass(frozen=True)
class Zone:
    """An IANA zone, and by how much the file's clock runs ahead of it.

    `America/New_York+7h` is the clock of most MetaTrader servers: GMT+2, GMT+3 on US DST dates, so that the
    trading day ends at its midnight.
    """

    name: str
    ahead: timedelta

    def __str__(self) -> str:
        return self.name + (f"{self.ahead // timedelta(hours=1):+d}h" if self.ahead else "")

    def to_utc(self, local: pl.Expr) -> pl.Expr:
        """UTC of naive local stamps in file order; null for those that the spring change skips.

        The hour that autumn repeats is taken as the earlier one until an ambiguous stamp steps back to, or below,
        an ambiguous one before it in the same block; from there it is the later one. This presumes ascending rows.
        """
        wall = local - self.ahead
        early, late = (
            wall.dt.replace_time_zone(self.name, ambiguous=side, non_existent="null") for side in ("earliest", "latest")
        )
        ambiguous = pl.when(early != late).then(wall)
        step = ambiguous - ambiguous.cum_max().shift(1)
        second_pass = step.is_between(timedelta(hours=-1), timedelta(0))
        return pl.when(second_pass).then(late).otherwise(early).dt.convert_time_zone("UTC")


def parse_zone(text: str) -> Zone:
    """Raises   WrongZone: not a name of the time zone database, with or without a shift such as +7h"""
    shifted = re.fullmatch(r"(.+)([+-]\d{1,2})h", text)
    name, hours = (shifted[1], int(shifted[2])) if shifted else (text, 0)
    try:
        pl.Series([datetime(2000, 1, 1)]).dt.replace_time_zone(name)
    except pl.exceptions.ComputeError:
        raise WrongZone(
            f"Expected an IANA zone such as Europe/London or America/New_York+7h, got source.zone={text}"
        ) from None
    return Zone(name, timedelta(hours=hours))
