"""The layout of a text file without a header, by the form of its rows."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from lstm_ts.market.bars import PRICES
from lstm_ts.sources.files.recognition.cells import split_line
from lstm_ts.sources.files.recognition.columns import find_columns
from lstm_ts.sources.files.recognition.day_order import date_pairs, day_first, with_order
from lstm_ts.sources.files.recognition.layout import HEADER_LINES, SEPARATORS, Layout, finish_layout
from lstm_ts.sources.files.recognition.numbers import decimal_comma, parse_numbers
from lstm_ts.sources.files.recognition.stamp_columns import CLOCK_CELL, DIGITS_CELL
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps
from lstm_ts.sources.files.recognition.stamps import recognise_stamp

WITHIN_MINUTE = re.compile(r":\d\d:(?!00(?:[.,]0*)?\b|000\b|59)\d\d|(?<!:59)[.,]\d*[1-9]\d*$")  # 59: a bar's close
WIDEST = 0.05  # spread of quotes, of the ask
PRICE_LIKE = 0.01  # relative distance from the close
ENOUGH_ROWS, REVERSED = 10, 3  # to compare the gaps between bars, which are so many times as large if read backwards


def without_header(sample: Sequence[str], *, file: str) -> Layout | None:
    for separator in SEPARATORS:
        split = [split_line(line, separator) for line in sample]
        # Unknown names in words: the rows do not show which price is which.
        if any(len(row) >= 5 and not re.search(r"\d", "".join(row)) for row in split[:HEADER_LINES]):
            return None
        widths = Counter(len(row) for row in split if len(row) >= 3)
        for width, _ in widths.most_common(2):
            rows = [row for row in split if len(row) == width]
            if layout := _infer_layout(separator, rows, file=file):
                return layout
    return None


def _infer_layout(separator: str, rows: Sequence[Sequence[str]], *, file: str) -> Layout | None:
    """A stamp, or a day and its time, before them perhaps a symbol, behind them numbers."""
    columns = list(zip(*rows, strict=True))
    for at in range(min(3, len(columns) - 2)):
        days = recognise_stamp([cell.strip() for cell in columns[at]])
        if days is None:
            continue
        stamp: tuple[int, ...] = (at,)
        if not days.clock and all(_is_clock(cell.strip()) for cell in columns[at + 1]):
            stamp = (at, at + 1)
            days = recognise_stamp([f"{a.strip()} {b.strip()}" for a, b in zip(*columns[at : at + 2], strict=True)])
        if days is None:
            continue
        names = _infer_names(columns, stamp)
        if names is None:
            return None
        found = find_columns(names, rows)
        if found is None:
            return None
        layout = finish_layout(Layout(separator, names, replace(found, stamp=stamp, stamps=days), file), rows)
        if not layout.ticks and _closes_come_first(columns, layout):
            return None
        # Dukascopy's ticks are documented as UTC.
        duka = layout.ticks and len(columns) - len(stamp) == 4 and days.date == "ymd"
        return replace(layout, utc=layout.utc or duka)
    return None


def _closes_come_first(columns: Sequence[Sequence[str]], layout: Layout) -> bool:
    """Test whether prices continue from a row's first price to the next row's last one: close, high, low, open."""
    text = pl.Series(
        [" ".join(columns[i][row].strip() for i in layout.columns.stamp) for row in range(len(columns[0]))]
    )
    order = with_order(layout.columns.stamps, day_first(date_pairs(text)) is not False)
    first, last = (
        parse_numbers(pl.Series(list(columns[layout.columns.prices[i]]), dtype=pl.String), comma=bool(layout.comma))
        for i in (0, 3)
    )
    rows = pl.DataFrame({"ts": parse_stamps(text, order), "first": first, "last": last}).drop_nulls().sort("ts")
    forth, back = (
        rows.select((pl.col(a) - pl.col(b).shift()).abs().sum()).item()
        for a, b in (("first", "last"), ("last", "first"))
    )
    return rows.height >= ENOUGH_ROWS and bool(REVERSED * back < forth)


def _is_clock(cell: str) -> bool:
    return bool(CLOCK_CELL.fullmatch(cell) or DIGITS_CELL.fullmatch(cell))


def _infer_names(columns: Sequence[Sequence[str]], stamp: tuple[int, ...]) -> tuple[str, ...] | None:
    """Names for the columns of a file without a header; null where the numbers are neither bars nor ticks."""
    before = [
        "symbol" if all(re.search("[A-Za-z]", cell) for cell in column) else "x" for column in columns[: stamp[0]]
    ]
    behind = columns[stamp[-1] + 1 :]
    comma = decimal_comma(cell for column in behind[:4] for cell in column) is not False
    numbers = pl.DataFrame(
        {
            str(i): parse_numbers(pl.Series(list(column), dtype=pl.String), comma=comma)
            for i, column in enumerate(behind[:5])
        }
    )
    a, b, c, d = (pl.col(str(i)) for i in range(4))
    clocks = columns[stamp[-1]]
    within_minutes = 2 * sum(WITHIN_MINUTE.search(cell) is not None for cell in clocks) > len(clocks)
    kinds: tuple[str, ...]
    if len(behind) >= 4 and _mostly(numbers, (b >= pl.max_horizontal(a, d)) & (c <= pl.min_horizontal(a, d))):
        tick = len(behind) == 4 and (within_minutes or not _mostly(numbers, c > b / 2))
        is_price = len(behind) > 4 and _mostly(numbers, (pl.col("4") / d - 1).abs() < PRICE_LIKE)
        kinds = ("bid", "ask", "bid volume", "ask volume") if tick else (*PRICES, "x" if is_price else "volume")
    elif len(behind) in (3, 4) and _mostly(numbers, (b <= a) & (a <= c) & (b > c * (1 - WIDEST))):
        kinds = ("x", "bid", "ask", "volume")
    elif len(behind) == 4 and not within_minutes and _mostly(numbers, c.is_between(a, b) & d.is_between(a, b)):
        return None  # low and high before open and close, or after
    elif len(behind) in (3, 4) and _mostly(numbers, (a <= b) & (a > b / 2)):
        kinds = ("bid", "ask", "volume") if len(behind) == 3 else ("bid", "ask", "bid volume", "ask volume")
    elif len(behind) == 2 and _mostly(numbers, (a <= b) & (a > b * (1 - WIDEST))):
        kinds = ("bid", "ask")
    else:
        return None
    stamps = ("date", "time")[: len(stamp)] if len(stamp) == 2 else ("time",)
    named = [*before, *stamps, *kinds[: len(behind)]]
    return (*named, *(f"x{i}" for i in range(len(columns) - len(named))))


def _mostly(numbers: pl.DataFrame, true: pl.Expr) -> bool:
    share = numbers.select(true.fill_null(False).mean()).item()
    return share is not None and share > 0.5
