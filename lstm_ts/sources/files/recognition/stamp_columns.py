"""Find the columns of time stamps: one, or a day and a time of day."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time

import polars as pl

from lstm_ts.market.bars import PRICES
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps
from lstm_ts.sources.files.recognition.stamps import BLANKS, NOON, Stamp, join_clock, recognise_stamp

STAMP_NAMES = (
    "gmt time", "utc time", "time utc", "datetime utc", "timestamp utc", "open time", "opentime", "open timestamp",
    "candle time", "bar time", "start time", "datetime", "date time", "dateandtime", "date and time", "timestamp",
    "time stamp", "ts", "unix timestamp", "unix time", "unixtime", "unix", "epoch", "local time", "time", "date", "dt",
    "index level 0", "index", "", "t",
)  # fmt: skip
EPOCHS = re.compile(
    r"(event |unix |epoch )?(time ?stamp|time|date|ts|unix|epoch)"
    r"( (unix|event|key|[mun]?s|sec(onds)?|millis|micros|nanos))*|mts"
)
EPOCH_LIKE = re.compile(r"time|stamp|date|epoch|unix|\b(ts|t|at)\b")  # where no other column holds stamps
OPENING = re.compile(
    r"(?!.*\b(int|interest|oi|contracts?|balance|positions?)\b)(.+ )?(open|start|begin)(ing)?( .+)?|starts?"
    r"|((date|time|period|zeit) )?(from|von)"
)
CLOSING = re.compile(
    r"(.+ )?(closed?|closing|end|ending|until)( .+)?|(close|end)time|((date|time|period|zeit) )?(to|bis)"
)
NO_STAMP = re.compile(r"(.+ )?(expiry|expiration|maturity|settlement)( .+)?")
HOUR_NAMES = ("hour", "hr", "hour of day", "hour utc", "hh", "stunde")
OF_AN_HOUR = (re.compile(r"min(ute)?s?|minuten?|mm|mi"), re.compile(r"sec(ond)?s?|ss|sekunden?"))  # beside an hour's
NOON_NAME = re.compile(r"(am?\W?pm?|meridiem)?")
NO_NOON = re.compile(r"(.+ )?(settle\w*|sessions?|expir\w+)( .+)?")  # AM or PM there is no half of a clock
CLOCK_NAMES = ("time", "hhmm", "hhmmss", "timestamp", "time of day", "clock", "zeit")

CLOCK_LIKE = re.compile(r"\b(time(?! zone)|clock|hour|zeit|stunde|of day)\b|^(minute|second)s?$")

CLOCK_CELL = re.compile(
    r"(\d{1,2}:\d\d(:\d\d([.,:]\d+)?)?|\d{1,2}\.\d\d\.\d\d)"
    rf"[{BLANKS}]?({NOON})?( ?[A-Z]{{1,5}})?"
)
HOUR_CELL, MINUTE_CELL = re.compile(r"[01]?\d|2[0-4]"), re.compile(r"[0-5]?\d")
NOON_CELL, ENDS_IN_NOON = re.compile(NOON), re.compile(rf".*\d[{BLANKS}]?{NOON}")
DIGITS_CELL = re.compile(r"\d{1,6}|\d{9}")
DATED_CLOCK = re.compile(r"(?=.*\b(1899|1900|1904|1970)\b).*\d:\d\d.*")  # what a time is where it needs a date
MIDNIGHT = re.compile(rf"[^:]+[T{BLANKS}](0?0:00(:00([.,]0*)?)?|12:00(:00)? ?[Aa][Mm])(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class StampColumns:
    at: tuple[int, ...]  # of the stamps, or of the day and of the time; then of the time's parts: see join_clock
    stamps: Stamp
    noon: bool = False  # the last of them is AM or PM
    closing: bool = False  # the column's name marks closing times
    utc: bool = False  # the column's name says UTC, beside another column of stamps


def find_unread(names: Sequence[str], plain: Sequence[str], row: Sequence[str]) -> tuple[str, str] | None:
    """Return a column that is named like stamps, and one of its cells."""
    known = (i for i, name in enumerate(plain) if name and _rank(name) is not None and name not in PRICES)
    return next(((names[i], row[i]) for i in known), None)


def find_unread_clock(
    plain: Sequence[str], cells: Mapping[int, Sequence[str]], found: StampColumns
) -> tuple[int, str] | None:
    """Return a column named like a clock, and one of its cells, where the stamps are days or midnights alone."""
    text = _join(cells, found.at, noon=found.noon)
    if found.stamps.clock and not (len(text) > 1 and _are_midnights(text, found.stamps)):
        return None
    named = (i for i in cells if i not in found.at and CLOCK_LIKE.search(plain[i]))
    filled = ((i, next(filter(None, reversed(cells[i])), "")) for i in named)
    return next(((i, cell) for i, cell in filled if cell), None)


def _are_midnights(text: pl.Series, stamps: Stamp) -> bool:
    times = parse_stamps(text, stamps).dt.time().drop_nulls()
    return (len(times) > 0 and bool((times == time()).all())) or _all(MIDNIGHT, text)


def are_on_minutes(cells: Mapping[int, Sequence[str]], found: StampColumns) -> bool:
    """Test whether all stamps are whole minutes, each once, as those of bars."""
    times = parse_stamps(_join(cells, found.at, noon=found.noon), found.stamps).drop_nulls()
    return bool((times == times.dt.truncate("1m")).all()) and times.n_unique() == len(times)


def has_stamps(plain: Iterable[str]) -> bool:
    """Test whether a column that holds no prices is named like stamps."""
    return any(_rank(name) is not None for name in plain)


def find_stamps(
    plain: Sequence[str], cells: Mapping[int, Sequence[str]], utc: Collection[int] = ()
) -> StampColumns | None:
    """Prefer whole stamps of a known name, first those in UTC; then a named day and time; then columns of other names.

    plain   normalised names; cells   of the columns that may hold stamps; utc   which names say that they are in UTC
    """
    opening = {i: column for i, column in cells.items() if not _closes(plain[i]) and not NO_STAMP.fullmatch(plain[i])}
    return _find(plain, opening, utc) or _find_closing(plain, cells)


def _find_closing(plain: Sequence[str], cells: Mapping[int, Sequence[str]]) -> StampColumns | None:
    """Find stamps in a column whose name says that they are the closes of bars."""
    shapes = {i: shape for i in cells if _closes(plain[i]) and (shape := _shape(cells[i]))}
    return next((StampColumns((i,), shape, closing=True) for i, shape in shapes.items() if shape.clock), None)


def _closes(name: str) -> bool:
    return CLOSING.fullmatch(name) is not None and OPENING.fullmatch(name) is None


def _find(plain: Sequence[str], cells: Mapping[int, Sequence[str]], utc: Collection[int]) -> StampColumns | None:
    known = sorted((i for i in cells if _rank(plain[i]) is not None), key=lambda i: _rank(plain[i]) or 0)
    others = [i for i in cells if i not in known]
    clocks = _varied([i for i in cells if _is_clock(plain[i], cells[i])], cells)
    clocks.sort(key=lambda i: plain[i] not in CLOCK_NAMES)
    hours, parts = ([], []) if clocks else _find_hours(plain, cells)
    clocks = clocks or hours
    shapes = {i: shape for i in known + others if (shape := _shape(cells[i]))}
    days = [i for i in shapes if i not in clocks and (not shapes[i].clock or (clocks and _all(MIDNIGHT, cells[i])))]
    days.sort(key=lambda i: OPENING.fullmatch(plain[i]) is not None)
    whole = [i for i in shapes if i not in days and i not in clocks and (i in known or shapes[i].date != "epoch")]
    whole = _varied(whole, cells)
    named = [i for i in whole if i in known]
    if named or (whole and not any(i in known for i in days if clocks)):
        utc_twins = [i for i in whole if i in utc and _is_twin(plain[i], [plain[j] for j in whole if j != i])]
        best = next((i for i in named if shapes[i].utc), (utc_twins or named or whole)[0])
        column = StampColumns((best,), shapes[best], utc=best in utc_twins)
        return column if shapes[best].utc else _with_noon(column, plain, cells)
    if days and clocks:
        combined = _combine(cells, (days[0], clocks[0], *parts), hours_only=bool(hours) and not parts)
        if found := combined and _with_noon(combined, plain, cells):
            return found
    epochs = [i for i in shapes if shapes[i].date == "epoch"]
    if len(epochs) == 1 and EPOCH_LIKE.search(plain[epochs[0]]) and _is_in_order(cells[epochs[0]]):
        return StampColumns((epochs[0],), shapes[epochs[0]])
    return next((StampColumns((i,), shapes[i]) for i in days if i in known), None)


def _is_in_order(epochs: Sequence[str]) -> bool:
    numbers = pl.Series([cell for cell in epochs if cell]).cast(pl.Float64, strict=False)
    return numbers.is_sorted() or numbers.is_sorted(descending=True)


def _find_hours(plain: Sequence[str], cells: Mapping[int, Sequence[str]]) -> tuple[list[int], list[int]]:
    """Return columns of hours, and those of the minutes and seconds beside them; none if these are unreadable."""
    named = [[i for i, name in enumerate(plain) if pattern.fullmatch(name)][:1] for pattern in OF_AN_HOUR]
    parts = [i for column in named for i in column]
    if parts and not (named[0] and all(i in cells and _all(MINUTE_CELL, cells[i]) for i in parts)):
        return [], []
    return [i for i in cells if _is_hour(plain[i], cells[i])], parts


def _is_twin(name: str, others: Sequence[str]) -> bool:
    """Test whether a name such as `snapshot time utc` is that of stamps, or another one's but for its zone."""
    base = re.sub(r"\b(utc|gmt)|(utc|gmt)\b", "", name).strip()
    return bool(others) and (_rank(base) is not None or base in others)


def _varied(columns: Sequence[int], cells: Mapping[int, Sequence[str]]) -> list[int]:
    """Leave out columns of much fewer different cells than another, such as the start of a session beside bars'."""
    most = max((len(set(cells[i])) for i in columns), default=0)
    return [i for i in columns if 2 * len(set(cells[i])) > most]


def _rank(name: str) -> int | None:
    """Return the rank among names of stamps; None: it is none of them."""
    if name in STAMP_NAMES:
        return STAMP_NAMES.index(name)
    if OPENING.fullmatch(name):
        return 0
    return STAMP_NAMES.index("unix timestamp") if EPOCHS.fullmatch(name) else None


def _shape(cells: Sequence[str]) -> Stamp | None:
    """Return the form of the stamps; None unless most filled cells are stamps."""
    filled = [cell for cell in cells if cell]
    stamps = [cell for cell in filled if recognise_stamp([cell])]
    return recognise_stamp(stamps) if 2 * len(stamps) > len(filled) else None


def _is_clock(name: str, cells: Sequence[str]) -> bool:
    patterns = (CLOCK_CELL, DATED_CLOCK, *((DIGITS_CELL,) if name in CLOCK_NAMES else ()))
    filled = [cell for cell in cells if cell]
    return 2 * sum(any(pattern.fullmatch(cell) for pattern in patterns) for cell in filled) > len(filled)


def _is_hour(name: str, cells: Sequence[str]) -> bool:
    return name in HOUR_NAMES and _all(HOUR_CELL, cells)


def _find_noon(clock: int, plain: Sequence[str], cells: Mapping[int, Sequence[str]]) -> int | None:
    """Return the column of AM and PM: by its name, or right of the clock, whatever its name."""
    halves = [i for i in cells if any(cells[i]) and _all(NOON_CELL, cells[i]) and not NO_NOON.fullmatch(plain[i])]
    return next((i for i in halves if NOON_NAME.fullmatch(plain[i])), clock + 1 if clock + 1 in halves else None)


def _all(pattern: re.Pattern[str], cells: Iterable[str]) -> bool:
    return all(pattern.fullmatch(cell) for cell in cells if cell)


def _with_noon(found: StampColumns, plain: Sequence[str], cells: Mapping[int, Sequence[str]]) -> StampColumns | None:
    """Add a column of AM and PM, unless the clock has them, or 24 hours; None if the stamps cannot be read with it."""
    noon = _find_noon(found.at[-1], plain, cells)
    if noon is None:
        return found
    text = _join(cells, found.at)
    hours = parse_stamps(text, found.stamps).dt.hour()
    if _all(ENDS_IN_NOON, text) or (hours > 12).any():
        return found
    stamps = recognise_stamp(_join(cells, (*found.at, noon), noon=True).drop_nulls().to_list())
    return replace(found, at=(*found.at, noon), stamps=stamps, noon=True) if stamps else None


def _combine(cells: Mapping[int, Sequence[str]], at: tuple[int, ...], *, hours_only: bool) -> StampColumns | None:
    stamps = recognise_stamp(_join(cells, at).to_list())
    if stamps and hours_only:
        stamps = replace(stamps, digits=2, usual=None)
    return StampColumns(at, stamps) if stamps else None


def _join(cells: Mapping[int, Sequence[str]], at: tuple[int, ...], *, noon: bool = False) -> pl.Series:
    return join_clock([pl.Series(list(cells[i]), dtype=pl.String) for i in at], noon=noon)
