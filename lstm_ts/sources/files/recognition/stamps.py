"""Time stamps as vendors write them, recognised by their shape."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

UTC_NAMES = ("Z", "UTC", "GMT")
# Minutes ahead of UTC. CST names several zones: it is Chicago's beside CDT alone, see VAGUE.
ABBREVIATIONS = dict.fromkeys(UTC_NAMES, 0) | {
    "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
    "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "MSK": 180, "SGT": 480,
    "HKT": 480, "JST": 540,
    "KST": 540, "AWST": 480, "ACST": 570, "ACDT": 630, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780,
}  # fmt: skip

VAGUE = ("CST",)
CLOCK_AND_OFFSET = re.compile(r":\d\d[\d.]*([+-]\d{1,2}:\d\d)$")
HOUR_AND_MINUTE = re.compile(r"\d{1,2}-\d\d?")  # as 15-30, which is no hour beside an offset
MOST_OFFSETS = 2  # of one file's first rows: summer's and winter's

YEAR, ANY_YEAR = r"(?P<y>[12]\d{3})", r"(?P<y>[12]\d{3}|\d\d)"
TWO, MONTH = r"\d{1,2}", "(?P<m>[A-Za-z]{3,9})"
DATE_PARTS = {
    "ymd": rf"{YEAR}[-./](?P<m>{TWO})[-./](?P<d>{TWO})",
    "compact": rf"{YEAR}(?P<m>\d\d)(?P<d>\d\d)",
    "dmy": rf"(?P<d>{TWO})[-./](?P<m>{TWO})[-./]{ANY_YEAR}",
    "mdy": rf"(?P<m>{TWO})[-./](?P<d>{TWO})[-./]{ANY_YEAR}",
    "dby": rf"(?P<d>{TWO})[-./ ]{MONTH}[-./ ]{ANY_YEAR}",
    "bdy": rf"{MONTH}[. ](?P<d>{TWO}),? {YEAR}",
}
BLANKS = " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
NOON = rf"[AaPp](?:\.?[{BLANKS}]?[Mm])?\b\.?"
CLOCK = (
    rf"(?P<H>{TWO})(?P<sep>[:.])(?P<M>\d\d)(?:[:.](?P<S>\d\d)(?:(?P<point>[.,:])(?P<f>\d{{1,9}}))?)?"
    rf"(?P<gap>[{BLANKS}]?)(?P<p>{NOON})?"
)
DIGITS = r"(?P<c>\d{1,9})(?: (?P<f>\d{7}))?"  # f: of NinjaTrader
OFFSET = (
    r"(?P<space> ?)(?:(?P<o>(?:UTC|GMT)?[+-](?:\d{1,2}(?::\d\d)?|\d{4})|[A-Z]{1,5}|[A-Z][A-Za-z]+/[A-Za-z_/]+)"
    r"(?:\[[\w/+-]+\])?)?"
)
JOINT = rf"(?P<joint>T|[_-]|[{BLANKS}]{{1,3}}|, ?| T)"
CLOCK_REST, DIGITS_REST = rf"(?:{JOINT}{CLOCK}{OFFSET})?", rf"{JOINT}{DIGITS}{OFFSET}"
GLUED_DIGITS = r"(?P<c>\d\d|\d{4}|\d{6}|\d{9})"
DATED = r"^\s*\d+[-./]\d+[-./]\d+[T ]"
DATE_FORMATS = {"ymd": "%Y{0}%m{0}%d", "dmy": "%d{0}%m{0}%Y", "mdy": "%m{0}%d{0}%Y", "dby": "%d{0}%b{0}%Y", "bdy": ""}
HALF_DAYS = ("AM", "PM", "A", "P")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DIGIT_CLOCKS = {4: "%H%M", 6: "%H%M%S", 9: "%H%M%S%3f"}

# Digits of an epoch → factor and divisor that make it microseconds.
EPOCHS = {(9, 10): (1_000_000, 1), (12, 13): (1_000, 1), (15, 16): (1, 1), (18, 19): (1, 1_000)}
EPOCH = re.compile(r"(\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19})(\.\d*)?")
# Counts of 100 ns → seconds from their start to 1970: .NET's ticks since the year 1, Windows' FILETIME since 1601.
TICKS = {(6.2e17, 6.5e17): 62_135_596_800, (1.2e17, 1.4e17): 11_644_473_600}
DOTNET = re.compile(r"6[2-4]\d{16}")  # these are of any zone
SCIENTIFIC = re.compile(r"\d\.\d+[Ee]\+?\d\d")
EXCEL = re.compile(r"[2-7]\d{4}[.,]\d+")  # days since 1899-12-30
FORMS = "2025-01-07 14:00, 7.1.2025 14:00:00, 20250107 140000, Jan 7, 2025 2:00 PM, seconds since 1970, a date of Excel"


@dataclass(frozen=True)
class Stamp:
    """Format of the stamps of one file."""

    date: str  # a key of DATE_PARTS, or epoch; dmy if day and month are ambiguous
    usual: str | None = None  # strptime format; null: every row is read by its parts
    excel: bool = False  # an epoch that counts days from 1899-12-30
    digits: int = 0  # of a clock without colons
    clock: bool = True  # with a time of day
    utc: bool = False  # with an offset, or counted from 1970
    label: str = ""  # the name of a zone, which is no offset


def recognise_stamp(stamps: Sequence[str]) -> Stamp | None:
    """Return the format of most stamps, one with a time of day before one without; None if none is recognised.

    What would be several offsets, as in 09:00-10:00 before 10:00-11:00, are the ends of bars.
    """
    found = Counter(shape for shape in map(_shape, stamps) if shape)
    offsets = {offset[1] for text in stamps if (offset := CLOCK_AND_OFFSET.search(text))}
    if not found or len(offsets) > MOST_OFFSETS:
        return None
    return max(found, key=lambda shape: (shape.clock, shape.digits, found[shape]))


def _shape(text: str) -> Stamp | None:
    if EXCEL.fullmatch(text):
        return Stamp("epoch", excel=True)
    if epoch := EPOCH.fullmatch(f"{float(text):.0f}" if SCIENTIFIC.fullmatch(text) else text):
        return _shape_of_digits(epoch[1])
    for kind in ("ymd", "dmy", "compact", "dby", "bdy"):
        if parts := _parts(kind, text):
            return _written(kind, text, parts)
    return None


def _shape_of_digits(text: str) -> Stamp:
    """Return the format of digits: a date if they form one (10 only if an epoch after 2030), else an epoch."""
    parts = _parts("compact", text)
    if parts and len(text) == 12:
        return Stamp("compact", digits=4, usual="%Y%m%d%H%M")
    if parts and len(text) == 10 and text >= "19" and int(parts["c"]) < 24:
        return Stamp("compact", digits=2)
    return Stamp("epoch", utc=not DOTNET.fullmatch(text))


def _parts(kind: str, text: str) -> dict[str, str] | None:
    rests = (CLOCK_REST, DIGITS_REST, GLUED_DIGITS) if kind == "compact" else (CLOCK_REST, DIGITS_REST)
    for rest in rests:
        found = re.fullmatch(DATE_PARTS[kind] + rest, text)
        if found and _is_day(kind, found["d"], found["m"]):
            parts = {name: value or "" for name, value in found.groupdict().items()}
            if parts.get("o") not in HALF_DAYS and not HOUR_AND_MINUTE.fullmatch(
                parts.get("c", "") + parts.get("o", "")
            ):
                return parts
    return None


def _is_day(kind: str, day: str, month: str) -> bool:
    if kind in ("dby", "bdy"):
        return month[:3].lower() in MONTHS and 1 <= int(day) <= 31
    first, second = int(day), int(month)
    swapped = kind == "dmy" and 1 <= second <= 31 and 1 <= first <= 12
    return swapped or (1 <= second <= 12 and 1 <= first <= 31)


def _written(kind: str, text: str, parts: dict[str, str]) -> Stamp:
    day = _day_format(kind, text, parts)
    if not parts.get("H") and not parts.get("c"):
        return Stamp(kind, usual=day, clock=False)
    clock, digits = _clock_format(parts)
    offset, label = _offset_format(parts), _label(parts.get("o", ""))
    usual = None if None in (day, clock, offset) else f"{day}{parts.get('joint', '')}{clock}{offset}"
    return Stamp(kind, usual=usual, digits=digits, utc=bool(parts.get("o")) and not label, label=label)


def _day_format(kind: str, text: str, parts: dict[str, str]) -> str | None:
    """Return the strptime format of the day; None where there is none."""
    if kind == "compact":
        return "%Y%m%d"
    if kind == "bdy" or len(parts["m"]) > 3:
        return None
    separator = re.search(r"\d(\D)", text)
    day = DATE_FORMATS[kind].format(separator[1] if separator else "")
    return day if len(parts["y"]) == 4 else day.replace("%Y", "%y")


def _clock_format(parts: dict[str, str]) -> tuple[str | None, int]:
    """Return the strptime format of the clock, None where there is none, and its digits, 0 with colons.

    One or two digits are the hour as ISO 8601 has it, in 20260105T14Z, else minutes whose leading zeros are lost.
    """
    if digits := parts.get("c"):
        if len(digits) <= 2 and (parts["o"] or parts["joint"].endswith("T")):
            return None, 2
        width = next(width for width in DIGIT_CLOCKS if len(digits) <= width)
        return None if parts.get("f") else DIGIT_CLOCKS[width], width
    if len(parts["p"]) not in (0, 2) or not parts["gap"].isascii() or parts["point"] not in ("", "."):
        return None, 0
    hours, noon = ("%I", f"{parts['gap']}%p") if parts["p"] else ("%H", "")
    sep = parts["sep"]
    return f"{hours}{sep}%M" + (f"{sep}%S" if parts["S"] else "") + ("%.f" if parts["f"] else "") + noon, 0


def _label(offset: str) -> str:
    known = offset in ABBREVIATIONS and offset not in VAGUE
    return "" if known or re.search(r"[+-]", offset) else offset


def _offset_format(parts: dict[str, str]) -> str | None:
    """Return the strptime format of the offset; None for an abbreviation of one, which strptime does not support."""
    offset = parts.get("o", "")
    space = parts.get("space", "") or ("" if parts.get("p") else parts.get("gap", ""))
    if not offset:
        return ""
    if offset in UTC_NAMES or _label(offset):
        return space + offset
    return space + re.split(r"[+-]", offset)[0] + "%z" if re.search(r"[+-]", offset) else None


def join_clock(columns: Sequence[pl.Series], *, noon: bool) -> pl.Series:
    """Join texts to stamps: days without their midnight, whose offset stays, times without a day such as 1970-01-01.

    columns   whole stamps; or days, clocks, and minutes and seconds of a clock that is an hour
    noon      AM or PM comes last; a row without it is null
    """
    day, *clocks = columns[:-1] if noon else columns
    half = " " + columns[-1].str.strip_chars().replace("", None) if noon else ""
    if not clocks:
        return day + half if noon else day
    clock = clocks[0]
    for part in clocks[1:]:
        clock += ":" + part.str.strip_chars().str.zfill(2)
    clock += half
    if day.str.contains(":", literal=True).any():
        parts = day.str.extract_groups(r"^(.+?)[T ]\s*(?:00?:00|12:00)[^+-]*?((?: ?(?:UTC|GMT))?[+-]\d\d:?\d\d)?$")
        clock = clock + parts.struct.field("2").fill_null("")
        day = parts.struct.field("1").fill_null(day)
    if clock.str.contains(DATED).any():
        clock = clock.str.replace(DATED, "")
    return day + " " + clock.str.strip_chars()


def with_seconds(stamp: Stamp) -> Stamp:
    """Read a clock of four digits as one of six whose leading zeros are lost."""
    return replace(stamp, digits=6, usual=stamp.usual and stamp.usual.replace("%H%M", "%H%M%S"))
