"""Lines of a text file of a known layout → rows."""

import polars as pl

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES
from lstm_ts.sources.cells import join_stamps, split_cells, split_line
from lstm_ts.sources.columns import Columns, normalise
from lstm_ts.sources.headers import is_header
from lstm_ts.sources.layout import SHOWN_CHARS, TICK_PRICES, Layout
from lstm_ts.sources.numbers import NO_PRICES, find_no_prices, only_spreads, parse_numbers, parse_volumes
from lstm_ts.sources.stamp_parsing import parse_stamps


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
    Returns   `line, text, stamp` (naive local, or UTC where layout.utc) `open, high, low, close, volume, spread,
              reason`, and `symbol`, `period` where the file has them; a tick has its bid as open and low, its ask as
              high and close; reason is a wrong column count, NO_PRICES, a volume that is no number, or null
    Raises    UnknownFormat: another header within the file
    """
    cells = split_cells(lines["text"], layout)
    columns, count = layout.columns, len(layout.names)
    prices = [parse_numbers(cells[i], comma=layout.comma) for i in columns.prices]
    if layout.ticks:
        prices = (sides or Sides()).carry(prices, [cells[i] for i in columns.prices])
    stamp = parse_stamps(join_stamps(cells, layout), columns.stamps)
    if layout.utc and not columns.stamps.utc:
        stamp = stamp.dt.replace_time_zone("UTC")
    volume, bad_volume = pl.Series([None], dtype=pl.Float64), pl.Series([False])
    if columns.volume is not None and not layout.ticks:
        volume, bad_volume = parse_volumes(cells[columns.volume], comma=layout.comma)
    spread = None
    if columns.spread is not None and not layout.ticks:
        spread = only_spreads(parse_numbers(cells[columns.spread], comma=layout.comma), prices[3])
    empty = pl.Series([False])
    if not layout.ticks:
        empty = find_no_prices(prices, [cells[i] for i in columns.prices])
    wrong = cells[count - 1].is_null() | cells[count].is_not_null()
    rows = lines.select("line", "text").with_columns(
        stamp.alias("stamp"),
        *(prices[i].alias(name) for name, i in zip(PRICES, TICK_PRICES if layout.ticks else range(4), strict=True)),
        volume=pl.lit(volume) if len(volume) == len(lines) else pl.lit(None, pl.Float64),
        spread=pl.lit(None, pl.Float64) if spread is None else pl.lit(spread),
        reason=_reason(wrong, empty, bad_volume, lines["text"], layout),
        **{name: cells[i].str.strip_chars() for name, i in _extras(columns).items()},
    )
    return _without_headers(rows, layout)


def _extras(columns: Columns) -> dict[str, int]:
    found = {"symbol": columns.symbol, "period": columns.period, "complete": columns.complete}
    return {name: i for name, i in found.items() if i is not None}


def _reason(wrong: pl.Series, empty: pl.Series, bad_volume: pl.Series, text: pl.Series, layout: Layout) -> pl.Series:
    reason = pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    if bad_volume.any():
        reason = reason.scatter(bad_volume.arg_true(), "unparseable volume")
    if empty.any():
        reason = reason.scatter(empty.arg_true(), NO_PRICES)
    if wrong.any():
        rows, expected = wrong.arg_true(), len(layout.names)
        found = [len(split_line(line, layout.separator)) for line in text.gather(rows).to_list()]
        reason = reason.scatter(rows, pl.Series([f"expected {expected} columns, got {count}" for count in found]))
    return reason


def _without_headers(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Drop the lines that stand above the rows, wherever they come again."""
    odd = rows.filter(pl.col("stamp").is_null()).filter(~pl.col("text").str.contains(r"^\W*\d"))
    dropped = []
    for line, text in odd.select("line", "text").rows():
        names = [normalise(name) for name in split_line(text, layout.separator)]
        again = layout.header and names == [normalise(name) for name in split_line(layout.first, layout.separator)]
        if again or text in layout.skipped:
            dropped.append(line)
        elif is_header(names):
            raise UnknownFormat(
                f"Expected one layout in {layout.file}, got another header in line {line}: {text[:SHOWN_CHARS]!r}; "
                "cut the file there"
            )
    return rows.filter(~pl.col("line").is_in(dropped)) if dropped else rows
