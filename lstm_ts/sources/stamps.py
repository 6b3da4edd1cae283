"""Time stamps as vendors write them: recognised by their shape, read a column at a time.

The usual row of a file is read by one strptime format. Rows that it does not fit (24:00, a midnight whose time was
dropped, a missing zero) are read by their parts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

import polars as pl

UTC_NAMES = ("Z", "UTC", "GMT")
# Minutes ahead of UTC. CST and IST are left out: each names several zones.
ABBREVIATIONS = dict.fromkeys(UTC_NAMES, 0) | {
    "EST": -300, "EDT": -240, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "WET": 0, "WEST": 60,
    "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "MSK": 180, "SGT": 480, "HKT": 480, "JST": 540,
}  # fmt: skip

YEAR, TWO = r"(?P<y>[12]\d{3})", r"\d{1,2}"
DATE_PARTS = {
    "ymd": rf"{YEAR}[-./](?P<m>{TWO})[-./](?P<d>{TWO})",
    "compact": rf"{YEAR}(?P<m>\d\d)(?P<d>\d\d)",
    "dmy": rf"(?P<d>{TWO})[-./](?P<m>{TWO})[-./]{YEAR}",
    "mdy": rf"(?P<m>{TWO})[-./](?P<d>{TWO})[-./]{YEAR}",
    "dby": rf"(?P<d>{TWO})[-./ ](?P<m>[A-Za-z]{{3}})[-./ ]{YEAR}",
}
CLOCK = rf"(?P<H>{TWO}):(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<f>\d{{1,9}}))?)?(?P<gap> ?)(?P<p>[AaPp][Mm])?"
DIGITS = r"(?P<c>\d{1,9})"
OFFSET = r"(?P<space> ?)(?P<o>(?:UTC|GMT)?[+-]\d{1,2}(?::?\d\d)?|[A-Z]{1,4})?(?:\[[\w/+-]+\])?"
JOINT = r"(?P<joint>T|[ _]|, ?| T)"
CLOCK_REST, DIGITS_REST = rf"(?:{JOINT}{CLOCK}{OFFSET})?", rf"{JOINT}{DIGITS}{OFFSET}"
GLUED_DIGITS = r"(?P<c>\d{4}|\d{6}|\d{9})"
DATE_FORMATS = {"ymd": "%Y{0}%m{0}%d", "dmy": "%d{0}%m{0}%Y", "mdy": "%m{0}%d{0}%Y", "dby": "%d{0}%b{0}%Y"}
DIGIT_CLOCKS = {4: "%H%M", 6: "%H%M%S", 9: "%H%M%S%3f"}

EPOCH_DIGITS = {"s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}
PER_MICROSECOND = {"s": 1_000_000, "ms": 1_000, "us": 1}
EPOCH = re.compile(r"(\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19})(\.0*)?")


@dataclass(frozen=True)
class Stamp:
    """How the stamps of one file are written."""

    date: str  # a key of DATE_PARTS, or epoch; dmy where day and month are not told apart
    usual: str | None = None  # strptime format; null: every row is read by its parts
    unit: str = ""  # of an epoch
    digits: int = 0  # of a clock without colons
    clock: bool = True  # with a time of day
    utc: bool = False  # with an offset, or counted from 1970


def recognise_stamp(stamps: Sequence[str]) -> Stamp | None:
    """The shape that most of them have; one with a time of day before one without."""
    found = Counter(shape for shape in map(_shape, stamps) if shape)
    if not found:
        return None
    return max(found, key=lambda shape: (shape.clock, shape.digits, found[shape]))


def _shape(text: str) -> Stamp | None:
    if epoch := EPOCH.fullmatch(text):
        if len(epoch[1]) == 12 and _parts("compact", text):
            return Stamp("compact", digits=4, usual="%Y%m%d%H%M")
        unit = next(unit for unit, digits in EPOCH_DIGITS.items() if len(epoch[1]) in digits)
        return Stamp("epoch", unit=unit, utc=True)
    for kind in ("ymd", "dmy", "compact", "dby"):
        if parts := _parts(kind, text):
            return _written(kind, text, parts)
    return None


def _parts(kind: str, text: str) -> dict[str, str] | None:
    rests = (CLOCK_REST, DIGITS_REST, GLUED_DIGITS) if kind == "compact" else (CLOCK_REST, DIGITS_REST)
    for rest in rests:
        found = re.fullmatch(DATE_PARTS[kind] + rest, text)
        if found and (kind != "compact" or (1 <= int(found["m"]) <= 12 and 1 <= int(found["d"]) <= 31)):
            return {name: value or "" for name, value in found.groupdict().items()}
    return None


def _written(kind: str, text: str, parts: dict[str, str]) -> Stamp:
    separator = re.search(r"\d(\D)", text)
    day = "%Y%m%d" if kind == "compact" else DATE_FORMATS[kind].format(separator[1] if separator else "")
    if not parts.get("H") and not parts.get("c"):
        return Stamp(kind, usual=day, clock=False)
    clock, digits = _clock_format(parts)
    offset = _offset_format(parts)
    usual = None if offset is None else day + parts.get("joint", "") + clock + offset
    return Stamp(kind, usual=usual, digits=digits, utc=bool(parts.get("o")))


def _clock_format(parts: dict[str, str]) -> tuple[str, int]:
    """And how many digits it has without colons, 0 with them."""
    if digits := parts.get("c"):
        width = next(width for width in DIGIT_CLOCKS if len(digits) <= width)
        return DIGIT_CLOCKS[width], width
    hours, noon = ("%I", f"{parts['gap']}%p") if parts["p"] else ("%H", "")
    return f"{hours}:%M" + (":%S" if parts["S"] else "") + ("%.f" if parts["f"] else "") + noon, 0


def _offset_format(parts: dict[str, str]) -> str | None:
    """Null for a name of a zone, which strptime does not know."""
    offset = parts.get("o", "")
    space = parts.get("space", "") or ("" if parts.get("p") else parts.get("gap", ""))
    if not offset:
        return ""
    if offset in UTC_NAMES:
        return space + offset
    return space + re.split(r"[+-]", offset)[0] + "%z" if re.search(r"[+-]", offset) else None


def parse_stamps(text: pl.Series, stamp: Stamp) -> pl.Series:
    """Datetimes in microseconds, naive or in UTC where stamp.utc; null where a text is not of that kind."""
    if stamp.date == "epoch":
        return _parse_epoch(text, stamp.unit)
    usual = _parse_usual(text, stamp)
    odd = usual.is_null() & text.is_not_null()
    if odd.any():
        rows = odd.arg_true()
        usual = usual.scatter(rows, _parse_by_parts(text.gather(rows), stamp))
    return usual


def _parse_epoch(text: pl.Series, unit: str) -> pl.Series:
    shortest, longest = EPOCH_DIGITS[unit]
    digits = text.str.strip_chars().str.extract(rf"^(\d{{{shortest},{longest}}})(?:\.0*)?$").cast(pl.Int64)
    microseconds = digits // 1000 if unit == "ns" else digits * PER_MICROSECOND[unit]
    return microseconds.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _parse_usual(text: pl.Series, stamp: Stamp) -> pl.Series:
    if stamp.usual is None:
        return pl.Series([None], dtype=pl.Datetime("us", "UTC" if stamp.utc else None)).new_from_index(0, len(text))
    if stamp.date == "compact":  # %Y and %H would take fewer digits, or more
        width = 8 + stamp.digits + stamp.usual.count(" ") if stamp.digits else None
        if width:
            text = text.set(text.str.len_bytes() != width, None)
    if stamp.usual.endswith("%z"):
        return text.str.to_datetime(stamp.usual, time_unit="us", strict=False)
    parsed = text.str.to_datetime(stamp.usual, time_unit="us", strict=False)
    return parsed.dt.replace_time_zone("UTC") if stamp.utc else parsed


def _parse_by_parts(text: pl.Series, stamp: Stamp) -> pl.Series:
    if stamp.digits:
        clock = rf"(?:{JOINT}?{DIGITS})?" if stamp.date == "compact" else rf"(?:{JOINT}{DIGITS})?"
    else:
        clock = rf"(?:{JOINT}{CLOCK})?"
    pattern = rf"^{DATE_PARTS[stamp.date]}{clock}{OFFSET}$"
    parts = text.str.strip_chars().str.replace_all(r" +", " ").str.extract_groups(pattern).struct.unnest()
    if stamp.digits:
        digits = pl.col("c").fill_null("").str.zfill(stamp.digits)
        fits = pl.col("c").is_null() | (pl.col("c").str.len_bytes() <= stamp.digits)
        parts = parts.with_columns(
            H=digits.str.slice(0, 2), M=digits.str.slice(2, 2), S=digits.str.slice(4, 2), f=digits.str.slice(6)
        ).with_columns(pl.when(fits).then(pl.col("y")).alias("y"), p=pl.lit(None, pl.String))
    return parts.select(_assemble(stamp)).to_series()


def _assemble(stamp: Stamp) -> pl.Expr:
    month = "%b" if stamp.date == "dby" else "%m"
    day = pl.concat_str("y", "m", "d", separator="-").str.to_date(f"%Y-{month}-%d", strict=False)

    def number(name: str) -> pl.Expr:
        return pl.col(name).replace("", None).cast(pl.Int64, strict=False).fill_null(0)

    noon = pl.col("p").str.to_uppercase()
    hour = (
        pl.when(noon.is_null())
        .then(number("H"))
        .when(number("H").is_between(1, 12))
        .then(number("H") % 12 + 12 * (noon == "PM"))
    )
    micro = pl.col("f").replace("", None).str.head(6).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)
    valid = (hour <= 24) & (number("M") < 60) & (number("S") < 60)
    time = pl.duration(hours=hour, minutes=number("M"), seconds=number("S"), microseconds=micro)
    local = pl.when(valid).then(day.cast(pl.Datetime("us")) + time)
    if not stamp.utc:
        return pl.when(pl.col("o").is_null()).then(local)
    return (local - pl.duration(minutes=_offset_minutes())).dt.replace_time_zone("UTC")


def _offset_minutes() -> pl.Expr:
    """Null where there is none, or none that is known."""
    offset = pl.col("o").str.to_uppercase()
    sign = pl.when(offset.str.contains("-", literal=True)).then(-1).otherwise(1)
    hours = offset.str.extract(r"[+-](\d{1,2})").cast(pl.Int64)
    minutes = offset.str.extract(r"[+-]\d{1,2}:?(\d\d)$").cast(pl.Int64).fill_null(0)
    shift = pl.when((hours <= 14) & (minutes < 60)).then(sign * (hours * 60 + minutes))
    return pl.coalesce(shift, offset.replace_strict(ABBREVIATIONS, default=None, return_dtype=pl.Int64))


def date_pairs(text: pl.Series) -> set[tuple[int, int, int]]:
    """The first two numbers of dates such as 07/01/2025, and their year."""
    groups = (
        text.str.extract_groups(r"^\s*(\d{1,2})[-./](\d{1,2})[-./]([12]\d{3})").struct.unnest().unique().drop_nulls()
    )
    return set(groups.cast(pl.Int64).rows())


def day_first(pairs: Iterable[tuple[int, int, int]]) -> bool | None:
    """Whether the first number is the day; null where the dates do not tell.

    A number above 12 is a day. Where there is none, days that follow one another tell, since the same dates read the
    other way lie a month apart.
    """
    pairs = set(pairs)
    days = {True: sum(a > 12 >= b for a, b, _ in pairs), False: sum(b > 12 >= a for a, b, _ in pairs)}
    if any(days.values()):
        likely = days[True] > days[False]
        return likely if days[likely] >= 10 * days[not likely] else None
    if all(a == b for a, b, _ in pairs):
        return True
    gaps = {first: _gaps(pairs, first) for first in (True, False)}
    for first in (True, False):
        if gaps[first] and max(gaps[first]) <= timedelta(days=10) and min(gaps[not first]) >= timedelta(days=28):
            return first
    return None


def _gaps(pairs: set[tuple[int, int, int]], first: bool) -> list[timedelta]:
    days = sorted(
        date(year, *((b, a) if first else (a, b))) for a, b, year in pairs if min(a, b) >= 1 and max(a, b) <= 12
    )
    return [later - earlier for earlier, later in pairwise(days)]


def with_order(stamp: Stamp, first: bool) -> Stamp:
    """The stamps of a file whose dates begin with the day, or with the month."""
    if first:
        return stamp
    usual = stamp.usual and re.sub("%[dm]", lambda found: "%m" if found[0] == "%d" else "%d", stamp.usual)
    return replace(stamp, date="mdy", usual=usual)


def with_seconds(stamp: Stamp) -> Stamp:
    """Read a clock of four digits as one of six whose leading zeros are lost."""
    return replace(stamp, digits=6, usual=stamp.usual and stamp.usual.replace("%H%M", "%H%M%S"))
