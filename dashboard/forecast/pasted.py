"""Text that a person has pasted → rows of the table of hours."""

import re
from collections.abc import Sequence

import polars as pl

from dashboard.forecast.rows import COLUMNS, EXAMPLE
from lstm_ts.errors import UnknownFormat
from lstm_ts.sources.cells import split_line
from lstm_ts.sources.columns import FLAGS, Columns, find_columns, find_prices, named_zone, normalise, printable
from lstm_ts.sources.stamp_columns import CLOCK_CELL
from lstm_ts.sources.stamps import UTC_NAMES, join_clock
from lstm_ts.sources.symbols import same_symbol

ELSEWHERE = re.compile(r"\b(local|exchange|broker|server)\b")  # in the name of stamps


def split(text: str, symbol: str) -> list[list[str]]:
    """Return rows of five cells from a spreadsheet's clipboard or a CSV, with date and time joined, without header.

    symbol    rows of others are left out, as are those of unfinished bars, where columns of a header tell
    Raises    UnknownFormat: a header that does not name the columns, no row of the symbol
    """
    lines = list(filter(str.strip, text.splitlines()))
    rows = [
        [cell.strip() for cell in split_line(line, next((mark for mark in "\t;" if mark in line), ","))]
        for line in lines
    ]
    named = bool(rows) and find_prices([normalise(name) for name in rows[0]]) is not None
    if rows and (named or not re.search(r"\d", lines[0])):
        rows = [] if named and not rows[1:] else _in_order(rows[0], rows[1:], symbol)
    joined = ([" ".join(row[:2]), *row[2:]] if len(row) > 1 and CLOCK_CELL.fullmatch(row[1]) else row for row in rows)
    return [(row + [""] * len(COLUMNS))[: len(COLUMNS)] for row in joined]


def _in_order(names: Sequence[str], rows: Sequence[list[str]], symbol: str) -> list[list[str]]:
    """Return the cells of the columns that the header names, in the order of COLUMNS."""
    cells = [(row + [""] * len(names))[: len(names)] for row in rows]
    columns = find_columns(names, cells)
    if not columns or columns.ticks or columns.closing or columns.unit or _in_other_zone(names, columns):
        raise UnknownFormat(
            f"Expected a header that names open, high, low and close, and the UTC time when an hour opens, as "
            f"{EXAMPLE}, got {printable(names)}; correct it, or paste hour, open, high, low, close without a header"
        )
    kept = [row for row in cells if _counts(row, columns, symbol)]
    if not kept:
        raise UnknownFormat(f"Expected rows of finished bars of {symbol}, got others only; paste those of {symbol}")
    texts = [pl.Series([row[i] for row in kept], dtype=pl.String) for i in columns.stamp]
    stamps = join_clock(texts, noon=columns.noon).fill_null("")
    return [[stamp, *(row[i] for i in columns.prices)] for stamp, row in zip(stamps, kept, strict=True)]


def _counts(row: Sequence[str], columns: Columns, symbol: str) -> bool:
    """Test whether a row is of a finished bar of the symbol."""
    finished = columns.complete is None or FLAGS.get(row[columns.complete].lower(), True)
    return finished and (columns.symbol is None or same_symbol(row[columns.symbol], symbol))


def _in_other_zone(names: Sequence[str], columns: Columns) -> bool:
    """Test whether a header says that stamps without an offset are, or may be, in another zone than UTC."""
    said = [zone for i in columns.stamp if (zone := named_zone(names[i]))]
    elsewhere = columns.zone or any(ELSEWHERE.search(normalise(names[i])) for i in columns.stamp)
    told = columns.stamps.utc or columns.utc
    return not told and bool(elsewhere or any(zone.upper() not in UTC_NAMES for zone in said))
