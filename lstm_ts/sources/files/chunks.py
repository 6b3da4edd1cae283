"""A file or a frame as blocks of rows, whatever its kind: text in the formats of `formats.py`, or Parquet.

Its kind is recognised by its content, and a block is all that is ever in memory.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from lstm_ts.errors import DataError, NoRows, UnknownFormat
from lstm_ts.sources.files.containers import OnRead, Text, find_texts, first_lines, is_parquet, read_lines, state_of
from lstm_ts.sources.files.parquet import Table, open_parquet, open_table
from lstm_ts.sources.files.recognition.columns import SIDES, normalise, printable
from lstm_ts.sources.files.recognition.formats import SAMPLE_LINES, recognise, resolve_layout
from lstm_ts.sources.files.recognition.layout import Layout, find_zone
from lstm_ts.sources.files.recognition.numbers import NO_PRICES, choose_decimal
from lstm_ts.sources.files.recognition.zones import Zone
from lstm_ts.sources.files.sides import carry_sides
from lstm_ts.sources.files.symbols import SymbolFilter, check_name, check_titles
from lstm_ts.sources.files.text_rows import parse

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}

TRADE_DATE = re.compile(r"(trade|trading|session|business) ?(date|day)")


@dataclass(frozen=True)
class Chunks:
    rows: Iterator[pl.DataFrame]  # as from text_rows.parse
    utc: bool
    ticks: bool
    zone: Zone | None = None  # of stamps without an offset, where the file names it
    notes: list[str] = field(default_factory=list)  # whole once the rows have been read
    words: str = "Parquet"  # what was recognised
    closing: str = ""  # see Columns
    unit: str = ""  # see Columns
    periods: set[str] = field(default_factory=set)  # of the bars, from their column; complete once the rows are read
    sides: set[str] = field(default_factory=set)  # of the quotes that the bars are of; likewise
    name: str = ""  # of the file, or of the one within an archive


def open_chunks(
    file: Path,
    batch_rows: int,
    *,
    symbol: str,
    dates: str | None,
    decimal: str | None = None,
    on_read: OnRead = lambda rows: None,
) -> list[Chunks]:
    """Each file of an archive and each sheet of a workbook by itself, at least one; those that are no tables, or of
    another symbol by their name, are left out, and named in the notes of the first.

    on_read   called again and again while the file is read, with the number of its rows if it says so, else 0; what it
              raises ends the reading
    Raises    NoRows, UnknownFormat: of none; DataError: a damaged file, or, of the rows, one that is being written
    """
    before = state_of(file)
    parts = _open_parts(file, batch_rows, symbol, dates, decimal, on_read)
    return [replace(part, rows=_unchanged(part.rows, file, before)) for part in parts]


def _unchanged(rows: Iterator[pl.DataFrame], file: Path, before: tuple[int, int]) -> Iterator[pl.DataFrame]:
    yield from rows
    if state_of(file) != before:
        raise DataError(f"Expected a file that is not being written, got {file}, which has changed; try again later")


def _open_parts(
    file: Path, batch_rows: int, symbol: str, dates: str | None, decimal: str | None, on_read: OnRead
) -> list[Chunks]:
    if is_parquet(file):
        opened = open_parquet(file, batch_rows, dates=dates, decimal=decimal, on_read=on_read)
        return [_of_table(*opened, SymbolFilter(symbol, str(file)))]
    layouts: list[tuple[Text, Layout]] = []
    left_out: list[DataError] = []
    for text in find_texts(file, on_read):
        try:
            check_name(text.name, symbol, text.label)
            layout = recognise(first_lines(text, SAMPLE_LINES), file=text.label)
            check_titles(sorted(layout.skipped - {layout.first}), symbol, text.label)
            layouts.append((text, layout))
        except (NoRows, UnknownFormat) as error:
            left_out.append(error)
    if not layouts:
        raise left_out[0]
    parts = [
        _open_text(text, _settle(layout, text, batch_rows, dates, decimal), batch_rows, symbol)
        for text, layout in layouts
    ]
    parts[0].notes.extend(describe_left_out(error) for error in left_out)
    return parts


def describe_left_out(error: DataError) -> str:
    return f"A part of an archive or workbook is left out: {error}"


def open_frame(frame: pl.DataFrame, name: str, *, symbol: str, dates: str | None, decimal: str | None = None) -> Chunks:
    """The same of a frame, in one block.    Raises    NoRows, UnknownFormat"""
    rows = max(frame.height, 1)
    return _of_table(*open_table(frame.lazy(), name, rows, dates=dates, decimal=decimal), SymbolFilter(symbol, name))


def _of_table(table: Table, frames: Iterator[pl.DataFrame], kept: SymbolFilter) -> Chunks:
    zone = find_zone(table.names, table.columns)
    notes = _column_notes(table, zone, table.name)
    kept.column = _symbol_column(table)
    kept.sides |= _named_sides(table)
    return Chunks(
        _kept(frames, kept, notes, ticks=table.columns.ticks),
        utc=table.utc,
        ticks=table.columns.ticks,
        zone=zone,
        notes=notes,
        closing=table.columns.closing,
        unit=table.columns.unit,
        periods=kept.periods,
        sides=kept.sides,
        name=kept.file,
    )


def _open_text(text: Text, layout: Layout, batch_rows: int, symbol: str) -> Chunks:
    kept = SymbolFilter(symbol, text.label)
    kept.column = _symbol_column(layout)
    kept.sides |= _named_sides(layout)
    notes = _column_notes(layout, layout.zone, layout.file)
    price = normalise(layout.names[layout.columns.prices[0]])
    if layout.header and not layout.ticks and "bid" in price:
        notes.append(f"Bars of {layout.file} are those of the bid ({price})")
    return Chunks(
        _kept(_frames(text, layout, batch_rows), kept, notes, ticks=layout.ticks),
        utc=layout.utc,
        ticks=layout.ticks,
        zone=layout.zone,
        notes=notes,
        words=_words(layout),
        closing=layout.columns.closing,
        unit=layout.columns.unit,
        periods=kept.periods,
        sides=kept.sides,
        name=text.label,
    )


def _column_notes(known: Table | Layout, zone: Zone | None, file: str) -> list[str]:
    columns, day = known.columns, known.names[known.columns.stamp[0]]
    label = columns.stamps.label
    notes = [f"{label} of the stamps in {file} is no one zone: source.zone says theirs"] if label and not zone else []
    if columns.zone and not columns.stamps.utc:
        notes.append(
            f"Column {printable([columns.zone])} of {file} is not read: source.zone says the zone of its stamps"
        )
    if columns.nanos:
        notes.append(f"Prices of {file} are taken as Databento's whole numbers of 1e-9")
    if len(columns.stamp) > 1 and TRADE_DATE.fullmatch(normalise(day)):
        notes.append(
            f"Column {printable([day])} of {file} is taken as the day of each clock time: where it dates an evening as "
            "the next day, write the calendar day"
        )
    return notes


def _symbol_column(known: Table | Layout) -> str:
    at = known.columns.symbol
    if at is None:
        return "symbol"
    return known.names[at] if isinstance(known, Table) or known.header else str(at + 1)


def _named_sides(known: Table | Layout) -> set[str]:
    """Return the side that the names of the prices say, as `bidopen`."""
    name = normalise(known.names[known.columns.prices[0]])
    return set() if known.columns.ticks else {side for side in SIDES if side in name}


def _words(layout: Layout) -> str:
    what = "Ticks" if layout.ticks else "Bars"
    columns = ", ".join(layout.names) if layout.header else "no header: known by the shape of a row"
    return f"{what} as text, separated by {SEPARATORS[layout.separator]} ({columns})"


def _settle(layout: Layout, text: Text, batch_rows: int, dates: str | None, decimal: str | None) -> Layout:
    layout = replace(layout, comma=choose_decimal(layout.comma, decimal, layout.prices, file=layout.file))
    return layout if layout.settled else resolve_layout(layout, read_lines(text, batch_rows), dates=dates)


def _frames(text: Text, layout: Layout, batch_rows: int) -> Iterator[pl.DataFrame]:
    for lines in read_lines(text, batch_rows):
        rows = parse(lines, layout)
        if rows.height:
            yield rows


def _kept(
    frames: Iterator[pl.DataFrame], kept: SymbolFilter, notes: list[str], *, ticks: bool
) -> Iterator[pl.DataFrame]:
    rows = _of_symbol(frames, kept, notes)
    return carry_sides(rows) if ticks else rows


def _of_symbol(frames: Iterator[pl.DataFrame], kept: SymbolFilter, notes: list[str]) -> Iterator[pl.DataFrame]:
    empty = 0
    for frame in frames:
        rows = kept.keep(frame)
        bare = (rows["reason"] == NO_PRICES).fill_null(False)
        empty += int(bare.sum())
        yield rows.filter(~bare) if bare.any() else rows
    notes.extend(kept.notes())
    if empty:
        notes.append(f"{empty:,} rows of {kept.file} have no prices and are left out")
