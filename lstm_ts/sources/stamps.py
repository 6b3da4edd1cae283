"""Time stamps as vendors write them, recognised by their shape."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
DATED = r"^\s*\d+[-./]\d+[-./]\d+[T ]"
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


def join_clock(day: pl.Series, clock: pl.Series) -> pl.Series:
    """The text of stamps: a day without its midnight, a time without a day such as 1970-01-01."""
    if day.str.contains(":", literal=True).any():
        day = day.str.replace(r"[T ]\s*(00?:00|12:00)[^+-]*$", "")
    if clock.str.contains(DATED).any():
        clock = clock.str.replace(DATED, "")
    return day + " " + clock.str.strip_chars()


def with_seconds(stamp: Stamp) -> Stamp:
    """Read a clock of four digits as one of six whose leading zeros are lost."""
    return replace(stamp, digits=6, usual=stamp.usual and stamp.usual.replace("%H%M", "%H%M%S"))
