"""Text that a person has pasted → rows of the table of hours."""

import re
from collections import Counter
from collections.abc import Sequence

import polars as pl

from dashboard.forecast.rows import COLUMNS, EXAMPLE
from lstm_ts.errors import UnknownFormat
from lstm_ts.sources.files.recognition.cells import split_line
from lstm_ts.sources.files.recognition.columns import (
    FLAGS,
    Columns,
    find_columns,
    find_prices,
    named_zone,
    normalise,
    printable,
)
from lstm_ts.sources.files.recognition.stamp_columns import CLOCK_CELL
from lstm_ts.sources.files.recognition.stamps import UTC_NAMES, join_clock
from lstm_ts.sources.files.symbols import same_symbol

ELSEWHERE = re.compile(r"\b(local|exchange|broker|server)\b")  # in the name of stamps


def split(text: str, symbol: str) -> tuple[list[list[str]], list[str]]:
    """Return rows of five cells from a spreadsheet's clipboard or a CSV, with date and time joined, without header.

    The second value holds notes on the rows that were left out.

    symbol    rows of others are left out, as are those of unfinished bars, where columns of a header tell
    Raises    UnknownFormat: a header that does not name the columns, no row of the symbol, none of a finished bar
    """
    notes: list[str] = []
    lines = list(filter(str.strip, text.splitlines()))
    rows = [
        [cell.strip() for cell in split_line(line, next((mark for mark in "\t;" if mark in line), ","))]
        for line in lines
    ]
    named = bool(rows) and find_prices([normalise(name) for name in rows[0]]) is not None
    if rows and (named or not re.search(r"\d", lines[0])):
        rows, notes = ([], []) if named and not rows[1:] else _in_order(rows[0], rows[1:], symbol)
    joined = ([" ".join(row[:2]), *row[2:]] if len(row) > 1 and CLOCK_CELL.fullmatch(row[1]) else row for row in rows)
    return [(row + [""] * len(COLUMNS))[: len(COLUMNS)] for row in joined], notes


def _in_order(names: Sequence[str], rows: Sequence[list[str]], symbol: str) -> tuple[list[list[str]], list[str]]:
    """Return the cells of the columns that the header names, in the order of COLUMNS, and notes as `split` does."""
    cells = [(row + [""] * len(names))[: len(names)] for row in rows]
    columns = find_columns(names, cells)
    if not columns or columns.ticks or columns.closing or columns.unit or _in_other_zone(names, columns):
        raise UnknownFormat(
            f"Expected a header that names open, high, low and close, and the UTC time when an hour opens, as "
            f"{EXAMPLE}, got {printable(names)}; correct it, or paste hour, open, high, low, close without a header"
        )
    ours, notes = (cells, []) if columns.symbol is None else _of_symbol(cells, columns.symbol, names, symbol)
    kept = [row for row in ours if columns.complete is None or FLAGS.get(row[columns.complete].lower(), True)]
    unfinished = len(ours) - len(kept)
    if not kept:
        raise UnknownFormat(
            f"Expected finished bars of {symbol}, got {unfinished:,} unfinished ones; paste them once their hours have "
            f"closed"
        )
    notes += [f"{unfinished:,} rows are of unfinished bars and are left out"] * bool(unfinished)
    texts = [pl.Series([row[i] for row in kept], dtype=pl.String) for i in columns.stamp]
    stamps = join_clock(texts, noon=columns.noon).fill_null("")
    return [[stamp, *(row[i] for i in columns.prices)] for stamp, row in zip(stamps, kept, strict=True)], notes


def _of_symbol(
    rows: Sequence[list[str]], at: int, names: Sequence[str], symbol: str
) -> tuple[Sequence[list[str]], list[str]]:
    """Return the rows whose cell `at` names the symbol, and a note on others.    Raises    UnknownFormat: none does"""
    ours = [row for row in rows if same_symbol(row[at], symbol)]
    others = Counter(row[at] or "no symbol" for row in rows if not same_symbol(row[at], symbol))
    told = printable([f"{count:,} of {name}" for name, count in others.most_common(5)])
    if not ours:
        raise UnknownFormat(
            f"Expected rows of {symbol}, got {told} in column {printable([names[at]])}; paste those of {symbol}, or "
            f"leave out that column if it names no symbol"
        )
    return ours, [f"Rows of other symbols are left out: {told}"] * bool(others)


def _in_other_zone(names: Sequence[str], columns: Columns) -> bool:
    """Test whether a header says that stamps without an offset are, or may be, in another zone than UTC."""
    said = [zone for i in columns.stamp if (zone := named_zone(names[i]))]
    elsewhere = columns.zone or any(ELSEWHERE.search(normalise(names[i])) for i in columns.stamp)
    told = columns.stamps.utc or columns.utc
    return not told and bool(elsewhere or any(zone.upper() not in UTC_NAMES for zone in said))
