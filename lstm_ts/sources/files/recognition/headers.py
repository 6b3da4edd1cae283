"""The layout of a text file by its header, which may follow a vendor's own lines."""

import re
from collections import Counter
from collections.abc import Sequence

from lstm_ts.errors import NoRows, UnknownFormat
from lstm_ts.sources.files.recognition.cells import split_line
from lstm_ts.sources.files.recognition.columns import (
    PRICE_NAMES,
    TICK_NAMES,
    Columns,
    find_columns,
    find_prices,
    normalise,
    printable,
)
from lstm_ts.sources.files.recognition.layout import HEADER_LINES, SEPARATORS, SHOWN_CHARS, Layout, finish_layout
from lstm_ts.sources.files.recognition.stamp_columns import CLOCK_CELL, find_unread, has_stamps
from lstm_ts.sources.files.recognition.stamps import FORMS, recognise_stamp


def with_header(sample: Sequence[str], *, file: str) -> Layout | None:
    """Read by the last header before the first row: comments above it may name the columns too."""
    found = None
    for at, line in enumerate(sample[:HEADER_LINES]):
        header = _split_header(line, file=file)
        if header is not None:
            found = at, *header
        elif found is not None and re.search(r"\d", line):
            break
    return _below_header(sample, *found, file=file) if found else None


def _split_header(line: str, *, file: str) -> tuple[str, list[str]] | None:
    """The separator and the names; null for another line."""
    for separator in SEPARATORS:
        names = split_line(line, separator)
        try:
            known = find_prices([normalise(name) for name in names])
        except UnknownFormat as error:
            raise UnknownFormat(f"{error} in {file}; leave one of them") from None
        if known is not None:
            return separator, names
    return None


def _below_header(sample: Sequence[str], at: int, separator: str, names: Sequence[str], *, file: str) -> Layout:
    below = [split_line(line, separator) for line in sample[at + 1 :] if line != sample[at]]
    notes = [row for row in below if not re.search(r"\d", "".join(row)) and not is_header(row)]
    rows = [row for row in below if re.search(r"\d", "".join(row))]
    if not rows:
        raise NoRows(f"Expected rows, got only a header in {file}; leave it out of source.paths")
    names = _fit(names, rows, file=file)
    rows = [row for row in rows if len(row) == len(names)]
    columns = find_columns(names, rows)
    if columns is None:
        if unread := find_unread(names, [normalise(name) for name in names], rows[0]):
            name, cell = printable([unread[0]]), unread[1][:SHOWN_CHARS]
            raise UnknownFormat(
                f"Expected stamps such as {FORMS}, got {cell!r} in column {name} of {file}; write them in such a form"
            )
        raise UnknownFormat(
            f"Expected a column of time stamps such as 2025-01-07 14:00:00, got columns {printable(names)} with "
            f"{separator.join(rows[0])[:SHOWN_CHARS]!r} in {file}; name one of them time"
        )
    lines = ((line, split_line(line, separator)) for line in sample[:at])
    above = [line for line, cells in lines if len(cells) != len(names) or not _is_row(cells, columns)]
    skipped = {sample[at], *above, *(line for line in sample[at + 1 :] if split_line(line, separator) in notes)}
    return finish_layout(
        Layout(separator, tuple(names), columns, file, header=True, first=sample[at], skipped=frozenset(skipped)), rows
    )


def _is_row(cells: Sequence[str], columns: Columns) -> bool:
    return recognise_stamp([cells[columns.stamp[0]].strip()]) is not None


def is_header(cells: Sequence[str]) -> bool:
    names = [normalise(cell) for cell in cells]
    return any(set(wanted) <= set(names) for wanted in (*PRICE_NAMES, *TICK_NAMES))


def _fit(names: Sequence[str], rows: Sequence[Sequence[str]], *, file: str) -> list[str]:
    """The names for the cells that the rows have; some exports name a column too few, or end each row with a comma."""
    (width, _), *_ = Counter(len(row) for row in rows).most_common()
    rows, names = [row for row in rows if len(row) == width], list(names)
    if width == len(names):
        return names
    if width == len(names) - 1 and not names[-1].strip():
        return names[:-1]
    if width == len(names) + 1:
        if all(not row[-1].strip() for row in rows):
            return [*names, "blank"]
        for i in range(len(names)):
            if all(_is_day(row[i]) and CLOCK_CELL.fullmatch(row[i + 1].strip()) for row in rows):
                return [*names[: i + 1], "time", *names[i + 1 :]]
        if all(re.fullmatch(r"\d{1,7}", row[0].strip()) for row in rows):
            return ["row", *names]
        plain = [normalise(name) for name in names]
        others = [name for i, name in enumerate(plain) if i not in (find_prices(plain) or ())]
        if recognise_stamp([row[0].strip() for row in rows]) and not has_stamps(others):
            return ["time", *names]
    raise UnknownFormat(
        f"Expected {len(names)} columns as the header names them, got rows of {width} in {file}; correct the header"
    )


def _is_day(cell: str) -> bool:
    shape = recognise_stamp([cell.strip()])
    return shape is not None and not shape.clock
