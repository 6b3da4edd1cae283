"""Rows that a person has typed or pasted, read as hourly bars; each bad cell has a reason."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from statistics import median

import polars as pl

from lstm_ts.http_schema import EARLIEST, LONGEST_SPAN, Input, Problem, wrong_prices
from lstm_ts.market.bars import HOURLY_SCHEMA, PRICES
from lstm_ts.market.session import HOUR, Session
from lstm_ts.sources.files.recognition.day_order import date_pairs, day_first, with_order
from lstm_ts.sources.files.recognition.numbers import LIKE_THOUSANDS, decimal_comma, parse_numbers
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps
from lstm_ts.sources.files.recognition.stamps import Stamp, recognise_stamp

HOUR_UTC = "Hour (UTC)"
COLUMNS = (HOUR_UTC, *(price.capitalize() for price in PRICES))
NEAR = 10  # factor between prices of one symbol
EXAMPLE = "2026-01-05 14:00"
DAY_AND_HOUR = re.compile(r"(.*\d)[T ]\d{1,2}")


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


def to_rows(bars: pl.DataFrame, decimals: int) -> list[list[str]]:
    return [[f"{ts:%Y-%m-%d %H:%M}", *(_shown(price, decimals) for price in prices)]
            for ts, *prices in bars.select("ts", *PRICES).iter_rows()]  # fmt: skip


def _shown(price: float, decimals: int) -> str:
    """Format with `decimals` places, or with all places of the price if it has more; never with an exponent."""
    text = f"{price:.{decimals}f}"
    return text if float(text) == price else f"{Decimal(repr(price)):f}"


def check(
    rows: Sequence[Sequence[str]], session: Session, needs: Input, now: datetime, *, known: float | None = None
) -> Checked:
    """Check rows as hourly bars of the session; empty rows are ignored.

    known   a recent price, which tells the decimals of 18,460 from thousands; None: there is none
    """
    good: list[tuple[int, datetime, list[float]]] = []
    bad: list[Cell] = []
    stripped = [[cell.strip() for cell in row] for row in rows]
    filled = [number for number, row in enumerate(stripped) if any(row)]
    cells = [cell for number in filled for cell in stripped[number][1:]]
    comma = decimal_comma(cells, points_tell=False)
    if comma is None and known and (ambiguous := [cell for cell in cells if "," in cell]):
        comma = _is_comma_decimal(ambiguous, known)
    stamps, read = _stamps([stripped[number][0] for number in filled]), iter(_prices(cells, comma))
    for number, ts, *row in zip(filled, stamps, read, read, read, read, strict=True):
        prices, found = _read(number, stripped[number], ts, row)
        bad += found
        if not found and isinstance(ts, datetime):
            good.append((number, ts, prices))
    bad += _check_hours([(number, ts) for number, ts, _ in good], session, now)
    wrong = {cell.row for cell in bad}
    kept = [(number, ts, prices) for number, ts, prices in good if number not in wrong]
    columns = [(ts, *prices, None, None, 1.0) for _, ts, prices in kept]
    bars = pl.DataFrame(columns, schema=HOURLY_SCHEMA, orient="row")
    hours, missing = _count(bars, session, needs)
    return Checked(bars, tuple(number for number, *_ in kept), tuple(sorted(bad, key=_place)), hours, missing)


def _is_comma_decimal(prices: Sequence[str], known: float) -> bool | None:
    """Return whether prices such as 18,460 are near the known one by their decimals; None: neither way."""
    ratio = median(float(price.replace(",", ".")) / known for price in prices)
    return next((comma for comma, size in ((True, ratio), (False, 1000 * ratio)) if 1 / NEAR < size < NEAR), None)


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


def _read(
    number: int, row: Sequence[str], ts: datetime | str, read: Sequence[float | str]
) -> tuple[list[float], list[Cell]]:
    """Return the prices of a row and its bad cells; `ts` and `read`: what its cells say, or why they are bad."""
    prices = dict(zip(COLUMNS[1:], read, strict=True))
    bad = [Cell(number, column, why) for column, why in {HOUR_UTC: ts, **prices}.items() if isinstance(why, str)]
    if isinstance(ts, datetime) and ts < EARLIEST:
        bad.append(Cell(number, HOUR_UTC, f"hours before {EARLIEST.year} are not taken; leave it out"))
    known = [price for price in prices.values() if isinstance(price, float)]
    if not bad:
        bar = dict(zip(PRICES, row[1:], strict=True))
        bad += [Cell(number, field.capitalize(), _contradiction(field, bar)) for field in wrong_prices(*known)]
    return known, bad


def _contradiction(field: str, bar: Mapping[str, str]) -> str:
    if field == "high":
        return f"{bar['high']} is below the low, {bar['low']}"
    return f"{bar[field]} lies outside low to high, {bar['low']} to {bar['high']}"


def _stamps(texts: Sequence[str]) -> list[datetime | str]:
    """Return the times in UTC, which is also assumed where no offset is written, or why a text is none."""
    found: list[datetime | str] = [f"{text or 'nothing'} is no time; write {EXAMPLE}" for text in texts]
    places: dict[Stamp, list[int]] = {}
    written = [_with_minutes(text) for text in texts]
    for place, text in enumerate(written):
        if (form := recognise_stamp([text])) and not form.label:
            places.setdefault(form, []).append(place)
    for form, those in places.items():
        for place, ts in zip(those, _parse(pl.Series([written[place] for place in those]), form), strict=True):
            found[place] = ts or found[place]
    return found


def _with_minutes(text: str) -> str:
    """Complete a day and an hour, whose one or two digits would be read as minutes."""
    found = DAY_AND_HOUR.fullmatch(text)
    day = recognise_stamp([found[1]]) if found else None
    return f"{text}:00" if day and not day.clock else text


def _parse(texts: pl.Series, form: Stamp) -> Iterable[datetime | str | None]:
    """Day and month are not guessed, except that with points, as in 06.01.2026, the day comes first."""
    first = day_first(date_pairs(texts)) if form.date == "dmy" else True
    if first is None and not (form.usual or "").startswith("%d.%m.%Y"):
        return [f"{text} may begin with the day or the month; write {EXAMPLE}" for text in texts]
    return [ts and ts.replace(tzinfo=UTC) for ts in parse_stamps(texts, with_order(form, first is not False))]


def _prices(texts: Sequence[str], comma: bool | None) -> Iterator[float | str]:
    """Yield the prices, or why a text is none.

    comma   whether the comma of a price such as 1,234 is its decimal sign; None: unknown
    """
    series = pl.Series(texts, dtype=pl.String)
    by_point, by_comma = (parse_numbers(series, comma=is_decimal).to_list() for is_decimal in (False, True))
    for text, *numbers in zip(texts, by_point, by_comma, strict=True):
        ambiguous = "," in text and LIKE_THOUSANDS.fullmatch(text)
        if ambiguous and comma is None:
            yield f"{text} may hold thousands or decimals; write {text.replace(',', '')} or {text.replace(',', '.')}"
        else:
            yield _price(text, numbers[bool(comma if ambiguous else decimal_comma([text]))])


def _price(text: str, price: float | None) -> float | str:
    if price is None or not isfinite(price):
        return f"{text or 'nothing'} is no number"
    return price if price > 0 else f"{text} is no price: it must be above 0"


def _check_hours(stamps: Sequence[tuple[int, datetime]], session: Session, now: datetime) -> Iterator[Cell]:
    closed = [ts for _, ts in stamps if ts <= now - HOUR]
    newest = max(closed, default=now)
    oldest = max(min(closed, default=now), newest - LONGEST_SPAN)
    hours = set(session.hours(oldest, newest + HOUR)["ts"])
    seen: dict[datetime, int] = {}
    before = datetime.min.replace(tzinfo=UTC)
    for number, ts in stamps:
        if reason := _wrong_hour(ts, hours, session, now, newest) or _wrong_order(ts, seen, before):
            yield Cell(number, HOUR_UTC, reason)
        seen.setdefault(ts, number)
        before = max(before, ts)


def _wrong_hour(ts: datetime, hours: set[datetime], session: Session, now: datetime, newest: datetime) -> str:
    if ts > now - HOUR:
        return f"this hour has not closed yet; it is {now:%Y-%m-%d %H:%M} UTC"
    if ts.minute or ts.second or ts.microsecond:
        return "an hourly bar opens on the full hour"
    if ts < newest - LONGEST_SPAN:
        return f"this is more than {LONGEST_SPAN.days} days before the last row; leave it out"
    if ts not in hours:
        return f"the market is closed at this hour ({session.calendar}); leave it out"
    return ""


def _wrong_order(ts: datetime, seen: Mapping[datetime, int], before: datetime) -> str:
    if ts in seen:
        return f"this hour stands in row {seen[ts] + 1} already"
    return "hours must ascend; sort the rows" if ts < before else ""


def _count(bars: pl.DataFrame, session: Session, needs: Input) -> tuple[int, int]:
    if bars.is_empty():
        return 0, 0
    stamps = bars["ts"].sort()
    hours = session.hours(stamps[0], stamps[-1] + HOUR)["ts"]
    return len(hours), len(set(hours.tail(needs.tsteps)) - set(stamps))
