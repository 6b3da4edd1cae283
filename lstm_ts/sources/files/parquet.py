"""Parquet files and frames: columns by name as in text, of whatever type they are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import polars as pl

from lstm_ts.errors import DataError, NoRows, UnknownFormat
from lstm_ts.market.bars import PRICES
from lstm_ts.sources.files.containers import OnRead
from lstm_ts.sources.files.recognition.columns import Columns, find_columns, printable
from lstm_ts.sources.files.recognition.day_order import date_pairs, with_order
from lstm_ts.sources.files.recognition.formats import check_quotes, is_day_first, is_past_noon, no_clock, no_noon
from lstm_ts.sources.files.recognition.layout import TICK_PRICES, may_be_noon
from lstm_ts.sources.files.recognition.numbers import (
    NO_NUMBER,
    NO_PRICES,
    choose_decimal,
    decimal_comma,
    find_no_prices,
    only_spreads,
    parse_nanos,
    parse_numbers,
    parse_volumes,
    split_missing,
)
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps
from lstm_ts.sources.files.recognition.stamps import join_clock

SAMPLE_ROWS = 200
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 to 9999
MAX_INT = 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Rows whose columns are known."""

    scan: pl.LazyFrame
    name: str
    rows: int
    names: tuple[str, ...]
    columns: Columns
    utc: bool
    comma: bool  # the decimal sign of prices that are text
    on_read: OnRead

    def blocks(self, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Frames `line` and the columns that are used."""
        columns = self.columns
        used = {*columns.stamp, *columns.prices, *columns.extras.values(), columns.volume, columns.spread}
        scan = self.scan.select(self.names[i] for i in sorted(i for i in used if i is not None))
        for offset in range(0, self.rows, batch_rows):
            self.on_read(self.rows)
            block = _read(self.name, scan.slice(offset, batch_rows).collect)
            yield block.rename({name: f"column {name}" for name in block.columns}).with_row_index("line", offset + 1)

    def cells(self, block: pl.DataFrame, column: int) -> pl.Series:
        return block[f"column {self.names[column]}"]

    def texts(self, block: pl.DataFrame) -> pl.Series:
        """The stamps as text."""
        return join_clock([_text(self.cells(block, i)) for i in self.columns.stamp], noon=self.columns.noon)


def open_parquet(
    file: Path, batch_rows: int, *, dates: str | None, decimal: str | None, on_read: OnRead
) -> tuple[Table, Iterator[pl.DataFrame]]:
    """The table, and frames as from text_rows.parse.

    Raises   NoRows, UnknownFormat; DataError: a damaged file
    """
    scan = pl.scan_parquet(file, glob=False)
    return open_table(scan, str(file), batch_rows, dates=dates, decimal=decimal, on_read=on_read)


def open_table(
    scan: pl.LazyFrame,
    name: str,
    batch_rows: int,
    *,
    dates: str | None,
    decimal: str | None,
    on_read: OnRead = lambda rows: None,
) -> tuple[Table, Iterator[pl.DataFrame]]:
    """The same of any rows.    name   of what holds them, in sentences"""
    schema = _read(name, scan.collect_schema)
    total = _read(name, lambda: scan.select(pl.len()).collect().item())
    if total == 0:
        raise NoRows(f"Expected rows, got none in {name}; leave it out of source.paths")
    on_read(total)
    sample = _read(name, scan.head(SAMPLE_ROWS).collect)
    columns = _recognise(name, schema, sample)
    names = tuple(schema.names())
    written = [sample[names[i]] for i in columns.prices if not schema[names[i]].is_numeric()]
    prices = [cell for column in written for cell in _text(column).drop_nulls()]
    comma = choose_decimal(decimal_comma(prices), decimal, prices, file=name)
    utc = columns.stamps.utc or columns.utc
    table = Table(scan, name, total, names, columns, utc=utc, comma=comma, on_read=on_read)
    texts = (table.texts(block) for block in table.blocks(batch_rows))
    if may_be_noon(columns.stamps.label) and not any(is_past_noon(text, columns.stamps) for text in texts):
        raise no_noon(columns.stamps.label, name)
    if columns.stamps.date == "dmy":
        pairs = {pair for block in table.blocks(batch_rows) for pair in date_pairs(table.texts(block))}
        first = is_day_first(pairs, names[columns.stamp[0]], dates, file=name)
        table = replace(table, columns=replace(columns, stamps=with_order(columns.stamps, first)))
    return table, (_parse(block, table) for block in table.blocks(batch_rows))


def _read(name: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise DataError(f"Expected a whole Parquet file, got a cut or damaged one: {name}; fetch it again") from None


def _recognise(name: str, schema: pl.Schema, sample: pl.DataFrame) -> Columns:
    texts = [_text(column).fill_null("").to_list() for column in sample.get_columns()]
    rows = [list(row) for row in zip(*texts, strict=True)]
    try:
        columns = find_columns(schema.names(), rows)
    except UnknownFormat as error:
        raise UnknownFormat(f"{error} in {name}; leave one of them") from None
    if columns is None:
        found = printable([f"{column} {dtype}" for column, dtype in schema.items()])
        raise UnknownFormat(
            f"Expected columns open, high, low, close and a column of time stamps, got {found} in {name}; rename them"
        )
    if columns.unread or not columns.stamps.clock:
        raise no_clock(columns, name)
    check_quotes(columns, name)
    return columns


def _text(column: pl.Series) -> pl.Series:
    if column.dtype.is_nested() or column.dtype == pl.Object:
        return pl.Series(column.name, [None], dtype=pl.String).new_from_index(0, len(column))
    if isinstance(column.dtype, pl.Datetime):
        column = _within_years(column)
    if isinstance(column.dtype, pl.Duration):  # a time of day, as pandas writes it
        outside = (column < timedelta()) | (column >= timedelta(days=1))
        column = (pl.Series([datetime(1970, 1, 1)]) + column.set(outside, None)).dt.time()
    if column.dtype == pl.Binary:
        return column.map_elements(lambda value: value.decode(errors="replace"), return_dtype=pl.String)
    return column.cast(pl.String, strict=False).str.strip_chars()


def _within_years(stamps: pl.Series) -> pl.Series:
    assert isinstance(stamps.dtype, pl.Datetime)
    count = PER_SECOND[stamps.dtype.time_unit]
    first, last = (max(min(second * count, MAX_INT), -MAX_INT) for second in (FIRST_SECOND, LAST_SECOND))
    inside = stamps.to_physical().is_between(first, last)
    return stamps.set(~inside.fill_null(False), None)


def _parse(block: pl.DataFrame, table: Table) -> pl.DataFrame:
    columns = table.columns
    prices = [_prices(table.cells(block, i), table) for i in columns.prices]
    volume, bad = pl.lit(None, pl.Float64), pl.lit(False)
    if columns.volume is not None and not columns.ticks:
        found, wrong = _volumes(table.cells(block, columns.volume), comma=table.comma)
        volume, bad = pl.lit(found), pl.lit(wrong)
    spread = pl.lit(None, pl.Float64)
    if columns.spread is not None and not columns.ticks:
        spread = pl.lit(only_spreads(_numbers(table.cells(block, columns.spread), comma=table.comma), prices[3]))
    texts = (_text(table.cells(block, i)).fill_null("") for i in columns.prices)
    empty = bad_price = pl.lit(False)
    if columns.ticks:
        prices, wrong_price = split_missing(prices, texts)
        bad_price = pl.lit(wrong_price)
    else:
        empty = pl.lit(find_no_prices(prices, texts))
    order = TICK_PRICES if columns.ticks else range(4)
    return block.select(
        "line",
        _stamps(block, table).alias("stamp"),
        *(prices[i].alias(name) for name, i in zip(PRICES, order, strict=True)),
        volume=volume,
        spread=spread,
        text=pl.lit(None, pl.String),
        reason=pl.when(empty)
        .then(pl.lit(NO_PRICES))
        .when(bad_price)
        .then(pl.lit(NO_NUMBER))
        .when(bad)
        .then(pl.lit("unparseable volume")),
        **{name: _text(table.cells(block, i)) for name, i in columns.extras.items()},
    )


def _stamps(block: pl.DataFrame, table: Table) -> pl.Series:
    stamps = table.cells(block, table.columns.stamp[0])
    if isinstance(stamps.dtype, pl.Datetime) and len(table.columns.stamp) == 1:
        found = _within_years(stamps).dt.cast_time_unit("us")
        found = found.dt.convert_time_zone("UTC") if stamps.dtype.time_zone else found
    else:
        found = parse_stamps(table.texts(block), table.columns.stamps)
    naive = isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone is None
    return found.dt.replace_time_zone("UTC") if table.utc and naive else found


def _prices(cells: pl.Series, table: Table) -> pl.Series:
    return parse_nanos(_text(cells)) if table.columns.nanos else _numbers(cells, comma=table.comma)


def _numbers(cells: pl.Series, *, comma: bool) -> pl.Series:
    if cells.dtype.is_numeric():
        return _to_float64(cells)
    return parse_numbers(_text(cells), comma=comma)


def _to_float64(cells: pl.Series) -> pl.Series:
    """Convert numbers; those of 32 bits as they are written, 21.015, rather than as 21.014999389648438."""
    return cells.cast(pl.String).cast(pl.Float64) if cells.dtype == pl.Float32 else cells.cast(pl.Float64)


def _volumes(cells: pl.Series, *, comma: bool) -> tuple[pl.Series, pl.Series]:
    if not cells.dtype.is_numeric():
        return parse_volumes(_text(cells), comma=comma)
    found = _to_float64(cells)
    return found.set((~found.is_finite() | (found < 0)).fill_null(True), None), found.is_infinite().fill_null(False)
