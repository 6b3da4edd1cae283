"""Text that a person has pasted → rows of the table of hours."""

import re
from collections.abc import Sequence

from dashboard.forecast.rows import COLUMNS, EXAMPLE
from lstm_ts.errors import UnknownFormat
from lstm_ts.sources.cells import split_line
from lstm_ts.sources.columns import Columns, find_columns, find_prices, named_zone, normalise, printable
from lstm_ts.sources.stamp_columns import CLOCK_CELL
from lstm_ts.sources.stamps import UTC_NAMES


def split(text: str) -> list[list[str]]:
    """Return rows of five cells from a spreadsheet's clipboard or a CSV, with date and time joined, without header.

    Raises    UnknownFormat: a header that does not name the columns
    """
    lines = list(filter(str.strip, text.splitlines()))
    rows = [
        [cell.strip() for cell in split_line(line, next((mark for mark in "\t;" if mark in line), ","))]
        for line in lines
    ]
    named = bool(rows) and find_prices([normalise(name) for name in rows[0]]) is not None
    if rows and (named or not re.search(r"\d", lines[0])):
        rows = [] if named and not rows[1:] else _in_order(rows[0], rows[1:])
    joined = ([" ".join(row[:2]), *row[2:]] if len(row) > 1 and CLOCK_CELL.fullmatch(row[1]) else row for row in rows)
    return [(row + [""] * len(COLUMNS))[: len(COLUMNS)] for row in joined]


def _in_order(names: Sequence[str], rows: Sequence[list[str]]) -> list[list[str]]:
    """Return the cells of the columns that the header names, in the order of COLUMNS."""
    cells = [(row + [""] * len(names))[: len(names)] for row in rows]
    columns = find_columns(names, cells)
    if not columns or columns.ticks or columns.closing or columns.unit or _in_other_zone(names, columns):
        raise UnknownFormat(
            f"Expected a header that names open, high, low and close, and the UTC time when an hour opens, as "
            f"{EXAMPLE}, got {printable(names)}; correct it, or paste hour, open, high, low, close without a header"
        )
    return [[" ".join(row[i] for i in columns.stamp), *(row[i] for i in columns.prices)] for row in cells]


def _in_other_zone(names: Sequence[str], columns: Columns) -> bool:
    """Test whether a header says that stamps without an offset are, or may be, in another zone than UTC."""
    said = [zone for i in columns.stamp if (zone := named_zone(names[i]))]
    return not columns.stamps.utc and bool(columns.zone or any(zone.upper() not in UTC_NAMES for zone in said))
