"""Columns that mark the hours of scheduled announcements and of holidays, known for any hour ahead of time.

Legend: G hours, K columns (KINDS).
The dated table travels in the package (`announcements.csv`; its header names the sources). An announcement at 8:30
marks the hour that opens at 8:00.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError, NoSuchFile

Array = NDArray[np.float64]
TABLE = Path(__file__).with_name("announcements.csv")
FIELDS = ["date", "time", "zone", "kind"]
SHOWN = 60  # characters of a refused row
SATURDAY = 5


class MarkedHours(NamedTuple):
    """The hours that a row of the table marks."""

    kind: str  # of the row
    first: int  # hours after the row's own
    hours: int


# Beside each, the hour's move over that of the same hour of other weeks, in size: silver 2011-2015, 2018-2022.
COLUMNS = {
    "payrolls": [MarkedHours("payrolls", 0, 1)],  # 2.2, 1.7
    "payrolls_after": [MarkedHours("payrolls", 1, 1)],  # 1.4, 1.4
    "cpi": [MarkedHours("cpi", 0, 1)],  # 1.2, 1.6; NZD/USD 4.2
    "cpi_after": [MarkedHours("cpi", 1, 1)],  # 1.0, 1.2; NZD/USD 1.6
    "fomc": [MarkedHours("fomc", 0, 1)],  # 5.3, 5.9
    "fomc_after": [MarkedHours("fomc", 1, 2)],  # 2.2, 2.2
    "fomc_minutes": [MarkedHours("fomc_minutes", 0, 1)],  # 3.0, 2.2
    "us_holiday_morning": [MarkedHours("us_holiday", 3, 5)],  # 0.8, 0.7; only London is open
    "us_holiday": [MarkedHours("us_holiday", 8, 9), MarkedHours("us_early_close", 0, 4)],  # 0.4, 0.5
    "uk_holiday": [MarkedHours("uk_holiday", 8, 5)],  # 0.8, 0.8; until New York opens
}
KINDS = tuple(COLUMNS)
END = "end"  # the row before which the table is complete
ROW_KINDS = [*dict.fromkeys(span.kind for spans in COLUMNS.values() for span in spans), END]


@dataclass(frozen=True, eq=False)
class Announcements:
    """A table, read and checked."""

    hours_K: tuple[NDArray[np.datetime64], ...]  # bar opens that each column marks, microseconds, UTC
    known_from: datetime
    known_until: datetime


class _Row(NamedTuple):
    where: str
    day: date
    at: datetime  # UTC
    kind: str


def announcement_columns(ts_G: NDArray[np.datetime64], announcements: Announcements | None = None) -> Array:
    """Return columns (G, K), 1 where the hour bar that opens at `ts_G` (microseconds, UTC) is marked, else 0.

    announcements    the package's own table if None
    """
    known = announcements or load_announcements()
    return np.column_stack([np.isin(ts_G, hours) for hours in known.hours_K]).astype(np.float64)


def known_until(announcements: Announcements | None = None) -> datetime:
    """Return the moment (UTC) before which the table has every kind; later hours may lack announcements to come."""
    return (announcements or load_announcements()).known_until


def describe_unknown(first: datetime, last: datetime) -> list[str]:
    """Return a sentence for each end of the package's table that the hours from `first` to `last` go beyond."""
    start, end, found = load_announcements().known_from, known_until(), []
    if first < start:
        found.append(f"announcements are known from {start:%Y-%m-%d} on: earlier hours count as without any")
    if last > end:
        found.append(
            f"announcements are known until {end:%Y-%m-%d}: later hours are forecast as without any; upgrade "
            f"lstm_ts, or add rows to lstm_ts/market/announcements.csv and move its row `end`"
        )
    return found


@cache
def load_announcements(path: Path = TABLE) -> Announcements:
    """Raises    NoSuchFile; ConfigError: other columns, an unreadable row, dates out of order, doubled, at a weekend"""
    rows = [_parse(where, cells) for where, cells in _read(path)]
    _check_dates(rows)
    ends = [row.at for row in rows if row.kind == END]
    if len(ends) != 1:
        raise ConfigError(
            f"Expected one row of kind {END}, got {len(ends)} in {path}; add the date before which it is complete"
        )
    return Announcements(tuple(_marked_hours(rows, spans) for spans in COLUMNS.values()), rows[0].at, ends[0])


def _read(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the line number and the cells of each row; lines that begin with # are comments."""
    try:
        lines = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        rows = [(f"line {lines.line_num} of {path}", cells) for cells in lines]
    except (FileNotFoundError, IsADirectoryError):
        raise NoSuchFile(f"Expected a table of announcements, got no file at {path}; correct the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"Expected a CSV file in UTF-8, got {path} ({error}); save it as text") from None
    rows = [(where, cells) for where, cells in rows if any(cells) and not cells[0].startswith("#")]
    if not rows or rows[0][1] != FIELDS:
        got = ",".join(rows[0][1])[:SHOWN] if rows else "an empty table"
        raise ConfigError(f"Expected the columns {','.join(FIELDS)}, got {got} in {path}; correct its first line")
    yield from rows[1:]


def _parse(where: str, cells: list[str]) -> _Row:
    got = f"got {','.join(cells)[:SHOWN]} in {where}"
    if len(cells) != len(FIELDS):
        raise ConfigError(f"Expected {len(FIELDS)} cells ({','.join(FIELDS)}), {got}; correct the row")
    day, time, zone, kind = cells
    if kind not in ROW_KINDS:
        raise ConfigError(f"Expected a kind of {', '.join(ROW_KINDS)}, {got}; correct the row or leave it out")
    if zone not in _zones():
        raise ConfigError(f"Expected an IANA time zone such as America/New_York, {got}; correct the row")
    try:
        at = datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(zone))
        return _Row(where, at.date(), at.astimezone(UTC), kind)
    except (ValueError, OverflowError):
        raise ConfigError(f"Expected a date and a time such as 2015-03-06,08:30, {got}; correct the row") from None


@cache
def _zones() -> set[str]:
    return available_timezones()


def _check_dates(rows: list[_Row]) -> None:
    """Raises    ConfigError"""
    seen: set[tuple[date, str]] = set()
    last = date.min
    for row in rows:
        if row.day.weekday() >= SATURDAY and row.kind != END:
            raise ConfigError(f"Expected working days, got {row.day:%A %Y-%m-%d} in {row.where}; correct the date")
        if row.day < last:
            raise ConfigError(f"Expected dates in order, got {row.day} after {last} in {row.where}; correct or move it")
        if (row.day, row.kind) in seen:
            raise ConfigError(f"Expected one {row.kind} a day, got two on {row.day} in {row.where}; remove one")
        seen.add((row.day, row.kind))
        last = row.day


def _marked_hours(rows: list[_Row], spans: list[MarkedHours]) -> NDArray[np.datetime64]:
    hours = [
        np.datetime64(row.at.replace(tzinfo=None), "h") + np.arange(span.first, span.first + span.hours)
        for span in spans
        for row in rows
        if row.kind == span.kind
    ]
    return np.unique(np.concatenate([np.array([], "datetime64[h]"), *hours])).astype("datetime64[us]")
