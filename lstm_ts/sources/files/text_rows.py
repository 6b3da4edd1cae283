"""Lines of a text file of a known layout → rows."""

import polars as pl

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES
from lstm_ts.sources.files.recognition.cells import join_stamps, split_cells, split_line
from lstm_ts.sources.files.recognition.columns import normalise
from lstm_ts.sources.files.recognition.headers import is_header
from lstm_ts.sources.files.recognition.layout import SHOWN_CHARS, TICK_PRICES, Layout
from lstm_ts.sources.files.recognition.numbers import (
    NO_NUMBER,
    NO_PRICES,
    find_no_prices,
    only_spreads,
    parse_nanos,
    parse_numbers,
    parse_volumes,
    split_missing,
)
from lstm_ts.sources.files.recognition.stamp_parsing import parse_stamps

LIKE_HEADER = r"(?i)open|bid|(^|[^a-z])o(price)?([^a-z]|$)"  # each header has one of them, see columns.PRICE_NAMES


def parse(lines: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Columns of one block of lines, null where a cell is unparseable.

    lines     frame `line, text`
    Returns   `line, text, stamp` (naive local, or UTC where layout.utc) `open, high, low, close, volume, spread,
              reason`, and `symbol`, `period`, `complete`, `side` where the file has them; a tick has its bid as open
              and low, its ask as high and close, each null where its cell has none; reason is a wrong column count,
              NO_PRICES, a price of a tick or a volume that is no number, or null
    Raises    UnknownFormat: another header within the file
    """
    cells, comma = split_cells(lines["text"], layout), bool(layout.comma)
    columns, count = layout.columns, len(layout.names)
    price_cells = [cells[i] for i in columns.prices]
    prices = [parse_nanos(cell) if columns.nanos else parse_numbers(cell, comma=comma) for cell in price_cells]
    stamp = parse_stamps(join_stamps(cells, layout), columns.stamps)
    if layout.utc and not columns.stamps.utc:
        stamp = stamp.dt.replace_time_zone("UTC")
    volume, bad_volume = pl.Series([None], dtype=pl.Float64), pl.Series([False])
    if columns.volume is not None and not layout.ticks:
        volume, bad_volume = parse_volumes(cells[columns.volume], comma=comma)
    spread = None
    if columns.spread is not None and not layout.ticks:
        spread = only_spreads(parse_numbers(cells[columns.spread], comma=comma), prices[3])
    empty = bad_price = pl.Series([False])
    if layout.ticks:
        prices, bad_price = split_missing(prices, price_cells)
    else:
        empty = find_no_prices(prices, price_cells)
    found = {NO_PRICES: empty, NO_NUMBER: bad_price, "unparseable volume": bad_volume}
    wrong = cells[count - 1].is_null() | cells[count].is_not_null()
    rows = lines.select("line", "text").with_columns(
        stamp.alias("stamp"),
        *(prices[i].alias(name) for name, i in zip(PRICES, TICK_PRICES if layout.ticks else range(4), strict=True)),
        volume=pl.lit(volume) if len(volume) == len(lines) else pl.lit(None, pl.Float64),
        spread=pl.lit(None, pl.Float64) if spread is None else pl.lit(spread),
        reason=_reason(wrong, found, lines["text"], layout),
        **{name: cells[i].str.strip_chars() for name, i in columns.extras.items()},
    )
    return _without_headers(rows, layout)


def _reason(wrong: pl.Series, found: dict[str, pl.Series], text: pl.Series, layout: Layout) -> pl.Series:
    """found   which rows have a reason; the first of a row counts"""
    reason = pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    for why, rows in reversed(found.items()):
        if rows.any():
            reason = reason.scatter(rows.arg_true(), why)
    if wrong.any():
        rows, expected = wrong.arg_true(), len(layout.names)
        widths = [len(split_line(line, layout.separator)) for line in text.gather(rows).to_list()]
        reason = reason.scatter(rows, pl.Series([f"expected {expected} columns, got {width}" for width in widths]))
    return reason


def _without_headers(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Drop the lines that precede the rows, wherever they recur."""
    if not rows["stamp"].null_count():
        return rows
    text, odd = pl.col("text"), pl.col("stamp").is_null() & ~pl.col("text").str.contains(r"^\W*\d")
    skipped = pl.Series([*layout.skipped], dtype=pl.String).implode()
    found = rows.filter(odd & text.str.contains(LIKE_HEADER) & ~text.is_in(skipped)).unique("text", maintain_order=True)
    header = [normalise(name) for name in split_line(layout.first, layout.separator)] if layout.header else []
    again = []
    for line, written in found.select("line", "text").rows():
        names = [normalise(name) for name in split_line(written, layout.separator)]
        if names == header:
            again.append(written)
        elif is_header(names):
            raise UnknownFormat(
                f"Expected one layout in {layout.file}, got another header in line {line}: {written[:SHOWN_CHARS]!r}; "
                "cut the file there"
            )
    dropped = pl.Series([*layout.skipped, *again], dtype=pl.String).implode()
    return rows.filter(~(odd & text.is_in(dropped)))
