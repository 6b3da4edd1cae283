"""Rows that a person has typed or pasted, read as hourly bars; each bad cell has a reason."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite

import polars as pl

from lstm_ts.http_schema import EARLIEST, LONGEST_SPAN, Input, Problem, wrong_prices
from lstm_ts.market.bars import HOURLY_SCHEMA, PRICES
from lstm_ts.market.session import HOUR, Session

HOUR_UTC = "Hour (UTC)"
COLUMNS = (HOUR_UTC, *(price.capitalize() for price in PRICES))
DAY_FIRST = ("%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%Y.%m.%d %H:%M")


@dataclass(frozen=True)
class Cell:
    """Bad cell; `column` is one of COLUMNS."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True)
class Checked:
    bars: pl.DataFrame  # HOURLY_SCHEMA, of the rows without a bad cell
    rows: tuple[int, ...]  # of the table, by bar
    bad: tuple[Cell, ...]
    hours: int  # of the session, from the first bar to the last
    missing: int  # of the last `tsteps` of them

    def lacks(self, needs: Input) -> str:
        """Return why the rows together are not a window; empty if they are one."""
        if self.hours < needs.tsteps:
            return f"{needs.tsteps} session hours are needed, these rows span {self.hours}: add earlier ones."
        if self.missing > needs.max_missing:
            return f"{self.missing} of the last {needs.tsteps} hours have no row, {needs.max_missing} may: add some."
        return ""


def split(text: str) -> list[list[str]]:
    """Return rows of five cells from a spreadsheet's clipboard or a CSV, without header, with date and time joined."""
    rows = []
    for line in filter(str.strip, text.splitlines()):
        separator = next((mark for mark in "\t;" if mark in line), ",")
        cells = [cell.strip().strip('"') for cell in line.split(separator)]
        if len(cells) > 1 and re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", cells[1]):
            cells = [f"{cells[0]} {cells[1]}", *cells[2:]]
        rows.append((cells + [""] * len(COLUMNS))[: len(COLUMNS)])
    return rows[1:] if rows and not re.search(r"\d", "".join(rows[0])) else rows


def to_rows(bars: pl.DataFrame, decimals: int) -> list[list[str]]:
    return [[f"{ts:%Y-%m-%d %H:%M}", *(_shown(price, decimals) for price in prices)]
            for ts, *prices in bars.select("ts", *PRICES).iter_rows()]  # fmt: skip


def _shown(price: float, decimals: int) -> str:
    """Format with `decimals` places, or with all places of the price if it has more; never with an exponent."""
    text = f"{price:.{decimals}f}"
    return text if float(text) == price else f"{Decimal(repr(price)):f}"


def check(rows: Sequence[Sequence[str]], session: Session, needs: Input, now: datetime) -> Checked:
    """Check rows as hourly bars of the session; empty rows are ignored."""
    good: list[tuple[int, datetime, list[float]]] = []
    bad: list[Cell] = []
    for number, row in enumerate(rows):
        if not any(cell.strip() for cell in row):
            continue
        ts, prices, found = _read(number, row)
        bad += found
        if not found and ts is not None:
            good.append((number, ts, prices))
    bad += _check_hours([(number, ts) for number, ts, _ in good], session, now)
    wrong = {cell.row for cell in bad}
    kept = [(number, ts, prices) for number, ts, prices in good if number not in wrong]
    columns = [(ts, *prices, None, None, 1.0) for _, ts, prices in kept]
    bars = pl.DataFrame(columns, schema=HOURLY_SCHEMA, orient="row")
    hours, missing = _count(bars, session, needs)
    return Checked(bars, tuple(number for number, *_ in kept), tuple(sorted(bad, key=_place)), hours, missing)


def cells_of(problems: Sequence[Problem], checked: Checked, left_out: int) -> tuple[list[Cell], list[str]]:
    """Return the service's problems as bad cells, and those of no cell; the first `left_out` bars were not sent."""
    cells, whole = [], []
    for problem in problems:
        found = re.fullmatch(r"bars\[(\d+)\]\.(\w+)", problem.path)
        if found and left_out + int(found[1]) < len(checked.rows):
            column = HOUR_UTC if found[2] == "ts" else found[2].capitalize()
            cells.append(Cell(checked.rows[left_out + int(found[1])], column, problem.problem))
        else:
            whole.append(problem.problem)
    return cells, whole


def _place(cell: Cell) -> tuple[int, int]:
    return cell.row, COLUMNS.index(cell.column)


def _read(number: int, row: Sequence[str]) -> tuple[datetime | None, list[float], list[Cell]]:
    ts, prices = _stamp(row[0]), [_price(cell) for cell in row[1:]]
    bad = []
    if ts is None:
        bad.append(Cell(number, HOUR_UTC, f"{row[0].strip() or 'nothing'} is no time; write 2026-01-05 14:00"))
    elif ts < EARLIEST:
        bad.append(Cell(number, HOUR_UTC, f"hours before {EARLIEST.year} are not taken; leave it out"))
    for column, cell, price in zip(COLUMNS[1:], row[1:], prices, strict=True):
        if price is None:
            bad.append(Cell(number, column, f"{cell.strip() or 'nothing'} is no number"))
        elif not price > 0:
            bad.append(Cell(number, column, f"{price:g} is no price: it must be above 0"))
    known = [price for price in prices if price is not None]
    if not bad:
        bar = dict(zip(PRICES, known, strict=True))
        bad += [Cell(number, field.capitalize(), _contradiction(field, bar)) for field in wrong_prices(*known)]
    return ts, known, bad


def _contradiction(field: str, bar: Mapping[str, float]) -> str:
    if field == "high":
        return f"{bar['high']:g} is below the low, {bar['low']:g}"
    return f"{bar[field]:g} lies outside low to high, {bar['low']:g} to {bar['high']:g}"


def _stamp(text: str) -> datetime | None:
    """Return the time in UTC, which is also assumed where no offset is written; None if the text is no time."""
    text = text.strip()
    try:
        ts = datetime.fromisoformat(text)
        return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    except (ValueError, OverflowError):
        return next((found.replace(tzinfo=UTC) for form in DAY_FIRST if (found := _strptime(text, form))), None)


def _strptime(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _price(text: str) -> float | None:
    """Return the price; its decimal sign may be a comma. None if the text is no finite number."""
    text = text.strip()
    try:
        price = float(text if "." in text else text.replace(",", "."))
    except ValueError:
        return None
    return price if isfinite(price) else None


def _check_hours(stamps: Sequence[tuple[int, datetime]], session: Session, now: datetime) -> Iterator[Cell]:
    closed = [ts for _, ts in stamps if ts <= now - HOUR]
    newest = max(closed, default=now)
    oldest = max(min(closed, default=now), newest - LONGEST_SPAN)
    hours = set(session.hours(oldest, newest + HOUR)["ts"])
    seen: dict[datetime, int] = {}
    for number, ts in stamps:
        if reason := _wrong_hour(ts, hours, session, now, seen, newest):
            yield Cell(number, HOUR_UTC, reason)
        seen.setdefault(ts, number)


def _wrong_hour(
    ts: datetime, hours: set[datetime], session: Session, now: datetime, seen: dict[datetime, int], newest: datetime
) -> str:
    if ts > now - HOUR:
        return f"this hour has not closed yet; it is {now:%Y-%m-%d %H:%M} UTC"
    if ts.minute or ts.second or ts.microsecond:
        return "an hourly bar opens on the full hour"
    if ts < newest - LONGEST_SPAN:
        return f"this is more than {LONGEST_SPAN.days} days before the last row; leave it out"
    if ts not in hours:
        return f"the market is closed at this hour ({session.calendar}); leave it out"
    if ts in seen:
        return f"this hour stands in row {seen[ts] + 1} already"
    if seen and ts < max(seen):
        return "hours must ascend; sort the rows"
    return ""


def _count(bars: pl.DataFrame, session: Session, needs: Input) -> tuple[int, int]:
    if bars.is_empty():
        return 0, 0
    stamps = bars["ts"].sort()
    hours = session.hours(stamps[0], stamps[-1] + HOUR)["ts"]
    return len(hours), len(set(hours.tail(needs.tsteps)) - set(stamps))
