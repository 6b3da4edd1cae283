"""Layout of a text file: its separator, columns, decimal sign, and the zone of its stamps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lstm_ts.errors import WrongZone
from lstm_ts.sources.files.recognition.columns import Columns, named_zone
from lstm_ts.sources.files.recognition.numbers import decimal_comma
from lstm_ts.sources.files.recognition.stamps import ABBREVIATIONS
from lstm_ts.sources.files.recognition.zones import Zone, parse_zone

HEADER_LINES = 100  # a vendor's own lines precede a header
SHOWN_CHARS = 200
SEPARATORS = ("\t", ";", ",", "|", " ")
TICK_PRICES = (0, 1, 0, 1)  # a tick as a bar: low is the bid, high the ask
# Zones that vendors name, where the name follows the summer time of a region.
HEADER_ZONES = dict.fromkeys(("UTC", "GMT", "Z"), "UTC") | {
    "EET": "Europe/Athens", "CET": "Europe/Berlin", "MSK": "Europe/Moscow",
    "ET": "America/New_York", "CT": "America/Chicago", "MT": "America/Denver", "PT": "America/Los_Angeles",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Parameters for reading one text file."""

    separator: str
    names: tuple[str, ...]  # of every column, as written
    columns: Columns
    file: str
    header: bool = False
    first: str = ""  # the header's line
    skipped: frozenset[str] = frozenset()  # lines that are no rows: the header, and a vendor's lines beside it
    comma: bool | None = False  # the decimal sign; None: the prices leave it open
    prices: tuple[str, ...] = ()  # of the first rows
    zone: Zone | None = None  # of stamps without an offset, where the file names it
    utc: bool = False  # stamps carry their offset, or the format is documented as UTC
    settled: bool = True  # the first lines leave nothing open

    @property
    def ticks(self) -> bool:
        return self.columns.ticks


def finish_layout(layout: Layout, rows: Sequence[Sequence[str]]) -> Layout:
    """Complete a layout: its decimal sign, its zone, and whether the rows leave something open."""
    columns, stamps = layout.columns, layout.columns.stamps
    prices = [row[i] for row in rows for i in columns.prices]
    # Where semicolons separate the cells, commas are the decimal sign of the country, but for formats without a header.
    comma = decimal_comma(prices, points_tell=not (layout.header and layout.separator == ";"))
    settled = stamps.clock and stamps.digits != 4 and stamps.date != "dmy" and not may_be_noon(stamps.label)
    zone = find_zone(layout.names, columns)
    return replace(layout, comma=comma, prices=tuple(prices), zone=zone, utc=stamps.utc or columns.utc, settled=settled)


def find_zone(names: Sequence[str], columns: Columns) -> Zone | None:
    """Return the zone of stamps without an offset, if they or their column's name contain it; else None."""
    if columns.stamps.utc:
        return None
    label = columns.stamps.label or next(filter(None, (named_zone(names[i]) for i in columns.stamp)), "")
    return _header_zone(label)


def may_be_noon(label: str) -> bool:
    """Test whether a label behind a clock, such as NM, may stand for AM or PM: it names no known zone."""
    return bool(label) and "/" not in label and label not in (*ABBREVIATIONS, *HEADER_ZONES)


def _header_zone(label: str) -> Zone | None:
    shifted = re.fullmatch(r"(?:UTC|GMT)\s*([+-])0?(\d{1,2})(?::?00)?", label.upper())
    try:
        if shifted:
            return parse_zone(f"Etc/GMT{'-' if shifted[1] == '+' else '+'}{int(shifted[2])}")
        known = HEADER_ZONES.get(label.upper(), label)
        return parse_zone(known) if "/" in known or known == "UTC" else None
    except WrongZone:
        return None
