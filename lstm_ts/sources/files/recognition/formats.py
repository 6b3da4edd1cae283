"""Text formats of bars and ticks, recognised by their first lines, and the zones their stamps are in.

A file with a header is read by its column names (`columns.py`), one without by the form of its rows. What the first
lines leave open, such as which number of 07/01/2025 is the month, is resolved by reading the whole file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from lstm_ts.errors import NoRows, UnknownFormat
from lstm_ts.sources.files.recognition.cells import join_stamps, split_cells, split_line
from lstm_ts.sources.files.recognition.columns import Columns, normalise, printable
from lstm_ts.sources.files.recognition.day_order import date_pairs, day_first, with_order, year_first
from lstm_ts.sources.files.recognition.headerless import without_header
from lstm_ts.sources.files.recognition.headers import with_header
from lstm_ts.sources.files.recognition.layout import HEADER_LINES, SEPARATORS, SHOWN_CHARS, Layout, may_be_noon
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps
from lstm_ts.sources.files.recognition.stamps import Stamp, recognise_stamp, with_seconds

KNOWN_FORMATS = (
    "HistData ASCII M1, Dukascopy (web, node, ticks), MetaTrader 4, MetaTrader 5, Parquet, xlsx, or a header that "
    "names time, open, high, low, close, separated by comma, semicolon, tab or bar"
)
SAMPLE_LINES = 200
DATES = ("dayfirst", "monthfirst")
DAY_FIRST_NAMES = ("gmt time", "local time")  # Dukascopy's


def recognise(lines: Sequence[str], *, file: str) -> Layout:
    """Return the layout of a file, by its first lines that are not blank.

    Raises   NoRows: nothing below a header; UnknownFormat
    """
    sample = lines[:SAMPLE_LINES]
    if not sample:
        raise NoRows(f"Expected rows, got an empty file: {file}; leave it out of source.paths")
    layout = with_header(sample, file=file) or without_header(sample, file=file)
    if layout is None:
        raise UnknownFormat(_explain(sample, file))
    if layout.columns.stamps.clock and layout.columns.unread:
        raise no_clock(layout.columns, file)
    check_quotes(layout.columns, file)
    return layout


def check_quotes(columns: Columns, file: str) -> None:
    """Raises    UnknownFormat: bid and ask stand beside the prices of bars"""
    if columns.more:
        raise UnknownFormat(
            f"Expected bars with columns open, high, low and close, or ticks, got bid and ask of each minute beside "
            f"prices in columns {columns.more} of {file}; export whole bars, or leave out the columns that are not of "
            "ticks"
        )


def _explain(sample: Sequence[str], file: str) -> str:
    for line in sample[:HEADER_LINES]:
        for separator in SEPARATORS[:-1]:
            names = [normalise(name) for name in split_line(line, separator)]
            if len(names) > 1 and {"close", "last", "price", "bid", "ask", "open"} & set(names):
                return (
                    f"Expected columns open, high, low and close, or bid and ask, and a time, got "
                    f"{printable(names)} in {file}; export whole bars"
                )
    shown = ", ".join(repr(line[:SHOWN_CHARS]) for line in sample[:2])
    return f"Expected {KNOWN_FORMATS}, got {file} that begins {shown}"


def resolve_layout(layout: Layout, blocks: Iterable[pl.DataFrame], *, dates: str | None) -> Layout:
    """Resolve a layout that its first lines leave open, by all lines.

    blocks   frames `text` of the whole file
    Raises   UnknownFormat: all lines leave it open too
    """
    pairs: set[tuple[int, int, int]] = set()
    longest, clock = 0, layout.columns.stamps.clock
    stamps = layout.columns.stamps
    late = not may_be_noon(stamps.label)
    for block in blocks:
        text = join_stamps(split_cells(block["text"], layout), layout)
        late = late or is_past_noon(text, stamps)
        if stamps.date == "dmy":
            pairs |= date_pairs(text)
        if stamps.digits == 4:
            length = text.str.extract(r"(?:[ T_]|^\d{8})(\d{1,6})$").str.len_bytes().max()
            longest = max(longest, length if isinstance(length, int) else 0)
        if not clock:
            timed = text.filter(text.str.contains(r"\d[ T_,]+\d{1,2}:\d\d|\d[ T_]\d{4,6}$")).head(SAMPLE_LINES)
            found = recognise_stamp([cell.strip() for cell in timed.to_list()])
            if found and found.clock and found.date == stamps.date:
                stamps, clock = found, True
    if not clock:
        raise no_clock(layout.columns, layout.file)
    if not late:
        raise no_noon(stamps.label, layout.file)
    if stamps.digits == 4 and longest <= 2:
        raise UnknownFormat(
            f"Expected a clock such as 1400 or 140000, got one or two digits in {layout.file}; export hours and minutes"
        )
    if longest > 4:
        stamps = with_seconds(stamps)
    if stamps.date == "dmy":
        first = is_day_first(pairs, layout.names[layout.columns.stamp[0]], dates, file=layout.file)
        stamps = with_order(stamps, first)
    return replace(layout, columns=replace(layout.columns, stamps=stamps), settled=True)


def no_clock(columns: Columns, file: str) -> UnknownFormat:
    return UnknownFormat(
        f"Expected bars of an hour or less, got stamps without a time of day in {file}{columns.unread}; "
        f"{'write that time into the stamps' if columns.unread else 'export M1 or H1'}"
    )


def is_past_noon(text: pl.Series, stamps: Stamp) -> bool:
    """Test whether stamps have an hour beyond 12."""
    return bool((parse_stamps(text, stamps).dt.hour() > 12).any())


def no_noon(label: str, file: str) -> UnknownFormat:
    return UnknownFormat(
        f"Expected a zone behind the time, or AM and PM, got {label!r} beside clocks up to 12 in {file}; write 24 "
        "hours, or AM and PM"
    )


def is_day_first(pairs: set[tuple[int, int, int]], name: str, dates: str | None, *, file: str) -> bool:
    """Return whether the day comes first in a column of dates such as 07/01/2025.

    Raises   UnknownFormat: neither the dates, nor the column's name, nor `dates` decide it
    """
    decided = day_first(pairs)
    if decided is None and normalise(name) in DAY_FIRST_NAMES:
        return True
    if year_first(pairs):
        a, b, year = min(pairs)
        raise UnknownFormat(
            f"Expected years of four digits, got dates such as {a:02}/{b:02}/{year:02} in {file}, which seem to begin "
            "with the year; write 2014/07/08"
        )
    if decided is None and dates is None:
        a, b, year = min(pairs, default=(0, 0, 0))
        raise UnknownFormat(
            f"Expected dates that distinguish the day from the month, got such as {a:02}/{b:02}/{year} in {file}; "
            "set source.dates=dayfirst or source.dates=monthfirst"
        )
    return decided if decided is not None else dates == DATES[0]
