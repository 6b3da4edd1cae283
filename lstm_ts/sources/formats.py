"""Text formats of bars and ticks, recognised by their first lines, and the zones their stamps are in.

A file with a header is read by its column names (`columns.py`), one without by the look of its rows. What the first
lines leave open, such as which number of 07/01/2025 is the month, is settled by reading the whole file.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from lstm_ts.bars import PRICES
from lstm_ts.errors import NoRows, UnknownFormat, WrongZone
from lstm_ts.sources.columns import (
    CLOCK_CELL,
    DIGITS_CELL,
    PRICE_NAMES,
    TICK_NAMES,
    Columns,
    find_columns,
    find_prices,
    named_zone,
    normalise,
    printable,
)
from lstm_ts.sources.numbers import ambiguous_commas, decimal_comma, parse_numbers, parse_volumes
from lstm_ts.sources.stamps import date_pairs, day_first, parse_stamps, recognise_stamp, with_order, with_seconds
from lstm_ts.sources.zones import Zone, parse_zone

KNOWN_FORMATS = (
    "HistData ASCII M1, Dukascopy (web, node, ticks), MetaTrader 4, MetaTrader 5, Parquet, xlsx, or a header that "
    "names time, open, high, low, close, separated by comma, semicolon, tab or bar"
)
SAMPLE_LINES = 200
HEADER_LINES = 20  # a vendor's own lines stand above a header
SHOWN_CHARS = 200
DATES = ("dayfirst", "monthfirst")
SEPARATORS = ("\t", ";", ",", "|", " ")

TICK_PRICES = (0, 1, 0, 1)  # a tick as a bar: low is the bid, high the ask
# Zones that vendors name in a header, where the name follows the summer time of a region.
HEADER_ZONES = {"EET": "Europe/Athens", "CET": "Europe/Berlin", "MSK": "Europe/Moscow"}
DAY_FIRST_NAMES = ("gmt time", "local time")  # Dukascopy's


@dataclass(frozen=True)
class Layout:
    """How to read one text file."""

    separator: str
    names: tuple[str, ...]  # of every column, as written
    columns: Columns
    file: str
    header: bool = False
    first: str = ""  # the header's line
    skipped: frozenset[str] = frozenset()  # lines that are no rows: the header, and a vendor's lines beside it
    comma: bool = False  # the decimal sign
    zone: Zone | None = None  # of stamps without an offset, where the file names it
    utc: bool = False  # stamps carry their offset, or the format is documented as UTC
    settled: bool = True  # the first lines leave nothing open

    @property
    def ticks(self) -> bool:
        return self.columns.ticks


def recognise(lines: Sequence[str], *, file: str) -> Layout:
    """The layout of a file from its first lines that are not blank.

    Raises   NoRows: nothing below a header; UnknownFormat
    """
    sample = lines[:SAMPLE_LINES]
    if not sample:
        raise NoRows(f"Expected rows, got an empty file: {file}; leave it out of source.paths")
    layout = _with_header(sample, file=file) or _without_header(sample, file=file)
    if layout is None:
        raise UnknownFormat(_explain(sample, file))
    return layout


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


def split_line(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def _with_header(sample: Sequence[str], *, file: str) -> Layout | None:
    for at, line in enumerate(sample[:HEADER_LINES]):
        for separator in SEPARATORS:
            names = split_line(line, separator)
            try:
                known = find_prices([normalise(name) for name in names])
            except UnknownFormat as error:
                raise UnknownFormat(f"{error} in {file}; leave one of them") from None
            if known is not None:
                return _below_header(sample, at, separator, names, file=file)
    return None


def _below_header(sample: Sequence[str], at: int, separator: str, names: Sequence[str], *, file: str) -> Layout:
    below = [split_line(line, separator) for line in sample[at + 1 :] if line != sample[at]]
    notes = [row for row in below if not re.search(r"\d", "".join(row)) and not _is_header(row)]
    rows = [row for row in below if re.search(r"\d", "".join(row))]
    if not rows:
        raise NoRows(f"Expected rows, got only a header in {file}; leave it out of source.paths")
    names = _fit(names, rows, file=file)
    rows = [row for row in rows if len(row) == len(names)]
    columns = find_columns(names, rows)
    if columns is None:
        raise UnknownFormat(
            f"Expected a column of time stamps such as 2025-01-07 14:00:00, got columns {printable(names)} with "
            f"{separator.join(rows[0])[:SHOWN_CHARS]!r} in {file}; name one of them time"
        )
    above = [line for line in sample[:at] if len(split_line(line, separator)) != len(names)]
    skipped = {sample[at], *above, *(line for line in sample[at + 1 :] if split_line(line, separator) in notes)}
    return _finish(
        Layout(separator, tuple(names), columns, file, header=True, first=sample[at], skipped=frozenset(skipped)), rows
    )


def _is_header(cells: Sequence[str]) -> bool:
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
    raise UnknownFormat(
        f"Expected {len(names)} columns as the header names them, got rows of {width} in {file}; correct the header"
    )


def _is_day(cell: str) -> bool:
    shape = recognise_stamp([cell.strip()])
    return shape is not None and not shape.clock


def _finish(layout: Layout, rows: Sequence[Sequence[str]]) -> Layout:
    """With the decimal sign, the zone, and whether the rows leave something open."""
    columns, stamps = layout.columns, layout.columns.stamps
    prices = [row[i] for row in rows for i in columns.prices]
    commas = [cell for cell in prices if "," in cell]
    if commas and layout.separator == "," and ambiguous_commas([cell for cell in prices if cell.strip()]):
        raise UnknownFormat(
            f"Expected prices with a decimal point, got {commas[0]!r} in {layout.file}, which may be a decimal comma "
            "or one of thousands; export with a point, or separated by semicolons"
        )
    utc, zone = stamps.utc, None
    said = named_zone(layout.names[columns.stamp[0]]) if layout.header and not utc else None
    if said:
        utc, zone = said.upper() in ("UTC", "GMT"), _header_zone(said)
    settled = stamps.clock and stamps.digits != 4 and stamps.date != "dmy"
    return replace(layout, comma=decimal_comma(prices), zone=zone, utc=utc, settled=settled)


def _header_zone(said: str) -> Zone | None:
    shifted = re.fullmatch(r"(?:UTC|GMT)\s*([+-])0?(\d{1,2})(?::?00)?", said.upper())
    try:
        if shifted:
            return parse_zone(f"Etc/GMT{'-' if shifted[1] == '+' else '+'}{int(shifted[2])}")
        known = HEADER_ZONES.get(said.upper(), said)
        return parse_zone(known) if "/" in known else None
    except WrongZone:
        return None


def _without_header(sample: Sequence[str], *, file: str) -> Layout | None:
    for separator in SEPARATORS:
        split = [split_line(line, separator) for line in sample]
        # Names in words that are not known: which price is which cannot be told by the look of the rows.
        if any(len(row) >= 5 and not re.search(r"\d", "".join(row)) for row in split[:HEADER_LINES]):
            return None
        widths = Counter(len(row) for row in split if len(row) >= 4)
        for width, _ in widths.most_common(2):
            rows = [row for row in split if len(row) == width]
            if layout := _by_look(separator, rows, file=file):
                return layout
    return None


def _by_look(separator: str, rows: Sequence[Sequence[str]], *, file: str) -> Layout | None:
    """A stamp, or a day and its time, before them perhaps a symbol, behind them numbers."""
    columns = list(zip(*rows, strict=True))
    for at in range(min(3, len(columns) - 3)):
        days = recognise_stamp([cell.strip() for cell in columns[at]])
        if days is None:
            continue
        stamp: tuple[int, ...] = (at,)
        if not days.clock and all(_is_clock(cell.strip()) for cell in columns[at + 1]):
            stamp = (at, at + 1)
            days = recognise_stamp([f"{a.strip()} {b.strip()}" for a, b in zip(*columns[at : at + 2], strict=True)])
        if days is None:
            continue
        names = _names_by_look(columns, stamp)
        if names is None:
            return None
        found = find_columns(names, rows)
        if found is None:
            return None
        layout = _finish(Layout(separator, names, replace(found, stamp=stamp, stamps=days), file), rows)
        # Dukascopy's ticks are documented as UTC.
        duka = layout.ticks and len(columns) - len(stamp) == 4 and days.date == "ymd"
        return replace(layout, utc=layout.utc or duka)
    return None


def _is_clock(cell: str) -> bool:
    return bool(CLOCK_CELL.fullmatch(cell) or DIGITS_CELL.fullmatch(cell))


def _names_by_look(columns: Sequence[Sequence[str]], stamp: tuple[int, ...]) -> tuple[str, ...] | None:
    """Names for the columns of a file without a header; null where the numbers are neither bars nor ticks."""
    before = [
        "symbol" if all(re.search("[A-Za-z]", cell) for cell in column) else "x" for column in columns[: stamp[0]]
    ]
    behind = columns[stamp[-1] + 1 :]
    comma = decimal_comma(cell for column in behind[:4] for cell in column)
    numbers = pl.DataFrame(
        {
            str(i): parse_numbers(pl.Series(list(column), dtype=pl.String), comma=comma)
            for i, column in enumerate(behind[:4])
        }
    )
    a, b, c, d = (pl.col(str(i)) for i in range(4))
    kinds: tuple[str, ...]
    if len(behind) >= 4 and _mostly(numbers, (b >= pl.max_horizontal(a, d)) & (c <= pl.min_horizontal(a, d))):
        within_seconds = any(
            re.search(r":\d\d:(?!00(?:[.,]0*)?\b)\d\d|\.\d*[1-9]\d*$", cell) for cell in columns[stamp[-1]]
        )
        tick = len(behind) == 4 and (within_seconds or not _mostly(numbers, c > b / 2))
        kinds = ("bid", "ask", "bid volume", "ask volume") if tick else (*PRICES, "volume")
    elif len(behind) in (3, 4) and _mostly(numbers, (a <= b) & (a > b / 2)):
        kinds = ("bid", "ask", "volume") if len(behind) == 3 else ("bid", "ask", "bid volume", "ask volume")
    else:
        return None
    stamps = ("date", "time")[: len(stamp)] if len(stamp) == 2 else ("time",)
    named = [*before, *stamps, *kinds[: len(behind)]]
    return (*named, *(f"x{i}" for i in range(len(columns) - len(named))))


def _mostly(numbers: pl.DataFrame, true: pl.Expr) -> bool:
    share = numbers.select(true.fill_null(False).mean()).item()
    return share is not None and share > 0.5


def settle(layout: Layout, blocks: Iterable[pl.DataFrame], *, dates: str | None) -> Layout:
    """Of a layout that its first lines leave open, by all lines.

    blocks   frames `text` of the whole file
    Raises   UnknownFormat: nor do all lines tell
    """
    pairs: set[tuple[int, int, int]] = set()
    longest, clock = 0, layout.columns.stamps.clock
    stamps = layout.columns.stamps
    for block in blocks:
        cells = split_cells(block["text"], layout)
        text = _joined(cells, layout)
        if stamps.date == "dmy":
            pairs |= date_pairs(text)
        if stamps.digits == 4:
            length = text.str.extract(r"[ T_](\d{1,6})$").str.len_bytes().max()
            longest = max(longest, length if isinstance(length, int) else 0)
        if not clock:
            timed = text.filter(text.str.contains(r"\d[ T_,]+\d{1,2}:\d\d|\d[ T_]\d{4,6}$")).head(SAMPLE_LINES)
            found = recognise_stamp([cell.strip() for cell in timed.to_list()])
            if found and found.clock and found.date == stamps.date:
                stamps, clock = found, True
    if not clock:
        raise UnknownFormat(
            f"Expected bars of an hour or less, got stamps without a time of day in {layout.file}; export M1 or H1"
        )
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


def is_day_first(pairs: set[tuple[int, int, int]], name: str, dates: str | None, *, file: str) -> bool:
    """Of a column of dates such as 07/01/2025.

    Raises   UnknownFormat: neither the dates tell, nor the column's name, nor `dates`
    """
    told = day_first(pairs)
    if told is None and normalise(name) in DAY_FIRST_NAMES:
        return True
    if told is None and dates is None:
        a, b, year = min(pairs, default=(0, 0, 0))
        raise UnknownFormat(
            f"Expected dates that tell the day from the month, got such as {a:02}/{b:02}/{year} in {file}; "
            "set source.dates=dayfirst or source.dates=monthfirst"
        )
    return told if told is not None else dates == DATES[0]


class Sides:
    """Bid and ask of the last tick: a tick that names one side leaves the other as it was."""

    def __init__(self) -> None:
        self._last: list[float | None] = [None, None]

    def carry(self, prices: list[pl.Series], cells: list[pl.Series]) -> list[pl.Series]:
        return [self._carry(side, prices[side], cells[side]) for side in (0, 1)]

    def _carry(self, side: int, prices: pl.Series, cells: pl.Series) -> pl.Series:
        blank = (cells.str.strip_chars() == "").fill_null(False)
        known = pl.concat([pl.Series([self._last[side]], dtype=pl.Float64), prices]).forward_fill()
        self._last[side] = known[-1]
        return pl.select(pl.when(blank).then(known[1:]).otherwise(prices)).to_series()


def parse(lines: pl.DataFrame, layout: Layout, sides: Sides | None = None) -> pl.DataFrame:
    """Columns of one block of lines, null where a cell is unparseable.

    lines     frame `line, text`
    sides     of the ticks before these lines
    Returns   `line, text, stamp` (naive local, or UTC where layout.utc) `open, high, low, close, volume, reason`, and
              `symbol`, `period` where the file has them; a tick has its bid as open and low, its ask as high and
              close; reason is a wrong column count, a volume that is no number, or null
    Raises    UnknownFormat: another header within the file
    """
    cells = split_cells(lines["text"], layout)
    columns, count = layout.columns, len(layout.names)
    prices = [parse_numbers(cells[i], comma=layout.comma) for i in columns.prices]
    if layout.ticks:
        prices = (sides or Sides()).carry(prices, [cells[i] for i in columns.prices])
    stamp = parse_stamps(_joined(cells, layout), columns.stamps)
    if layout.utc and not columns.stamps.utc:
        stamp = stamp.dt.replace_time_zone("UTC")
    volume, bad_volume = pl.Series([None], dtype=pl.Float64), pl.Series([False])
    if columns.volume is not None and not layout.ticks:
        volume, bad_volume = parse_volumes(cells[columns.volume], comma=layout.comma)
    wrong = cells[count - 1].is_null() | cells[count].is_not_null()
    rows = lines.select("line", "text").with_columns(
        stamp.alias("stamp"),
        *(prices[i].alias(name) for name, i in zip(PRICES, TICK_PRICES if layout.ticks else range(4), strict=True)),
        volume=pl.lit(volume) if len(volume) == len(lines) else pl.lit(None, pl.Float64),
        reason=_reason(wrong, bad_volume, lines["text"], layout),
        **{name: cells[i].str.strip_chars() for name, i in _extras(columns).items()},
    )
    return _without_headers(rows, layout)


def _extras(columns: Columns) -> dict[str, int]:
    found = {"symbol": columns.symbol, "period": columns.period}
    return {name: i for name, i in found.items() if i is not None}


def _reason(wrong: pl.Series, bad_volume: pl.Series, text: pl.Series, layout: Layout) -> pl.Series:
    reason = pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    if bad_volume.any():
        reason = reason.scatter(bad_volume.arg_true(), "unparseable volume")
    if wrong.any():
        rows, expected = wrong.arg_true(), len(layout.names)
        found = [len(split_line(line, layout.separator)) for line in text.gather(rows).to_list()]
        reason = reason.scatter(rows, pl.Series([f"expected {expected} columns, got {count}" for count in found]))
    return reason


def _without_headers(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Without the lines that stand above the rows, wherever they come again."""
    odd = rows.filter(pl.col("stamp").is_null()).filter(~pl.col("text").str.contains(r"^\W*\d"))
    dropped = []
    for line, text in odd.select("line", "text").rows():
        names = [normalise(name) for name in split_line(text, layout.separator)]
        again = layout.header and names == [normalise(name) for name in split_line(layout.first, layout.separator)]
        if again or text in layout.skipped:
            dropped.append(line)
        elif _is_header(names):
            raise UnknownFormat(
                f"Expected one layout in {layout.file}, got another header in line {line}: {text[:SHOWN_CHARS]!r}; "
                "cut the file there"
            )
    return rows.filter(~pl.col("line").is_in(dropped)) if dropped else rows


def split_cells(text: pl.Series, layout: Layout) -> list[pl.Series]:
    """A series for each name, null where a row ends before; and one that is null but in rows with cells beyond."""
    separator, count = layout.separator, len(layout.names)
    if separator == " ":
        text = text.str.replace_all(" +", " ")
    quoted = text.str.contains('"', literal=True)
    if not quoted.any():
        return text.str.splitn(separator, count + 1).struct.unnest().get_columns()
    plain = text.str.replace_all(rf'"([^"{separator}]*)"', "$1")
    cells = plain.str.splitn(separator, count + 1).struct.unnest().get_columns()
    rows = plain.str.contains('"', literal=True).arg_true()
    if rows.is_empty():
        return cells
    found = (
        (separator + text.gather(rows))
        .to_frame("row")
        .with_columns(
            cells=pl.col("row").str.extract_all(
                rf'{re.escape(separator)}(?: *"(?:[^"]|"")*" *|[^"{re.escape(separator)}]*)'
            )
        )
    )
    whole = (found["cells"].list.join("") == found["row"]).arg_true()
    rows, found = rows.gather(whole), found[whole]
    width = pl.col("cells").list.len()
    unquoted = [
        pl.col("cells").list.get(i, null_on_oob=True).str.slice(1).str.strip_chars(' "').alias(str(i))
        for i in range(count)
    ]
    parts = found.select(*unquoted, pl.when(width > count).then(pl.lit("")).alias(str(count))).get_columns()
    return [cell.scatter(rows, part) for cell, part in zip(cells, parts, strict=True)]


def _joined(cells: Sequence[pl.Series], layout: Layout) -> pl.Series:
    """The text of the stamps."""
    day, *clock = (cells[i] for i in layout.columns.stamp)
    return day + " " + clock[0].str.strip_chars() if clock else day
