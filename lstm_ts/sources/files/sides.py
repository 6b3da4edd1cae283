"""Fill the blank side of one-sided ticks with its last earlier value, in the order of the file. Pure."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from lstm_ts.market.bars import TS

SIDES = (("open", "low"), ("high", "close"))  # columns of the bid and of the ask, as text_rows.parse gives them
ORDER_ROWS = 200  # from which the order of a file is inferred
IN_ORDER = 0.9  # of the steps from row to row
LATE = pl.duration(minutes=1)  # by which a tick may follow a later one
CARRIED = pl.duration(days=1)  # by which it may follow the last price of a side: a market gaps over a weekend
HELD_ROWS = 1 << 20
NO_ORDER = "one side of the quote, in a file whose rows are not in order"


def carry_sides(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Fill null sides in order of time, in a file whose rows ascend or descend in time; reject them in any other file.

    frames   ticks of one symbol as from text_rows.parse
    """
    frames = iter(frames)
    first = _read_first(frames)
    if not first:
        return
    rows = pl.concat(first)
    carry = {1: _forward, -1: _backward, 0: _refuse}[_find_order(rows["stamp"])]
    yield from carry(_chain(rows, frames))


def find_file_order(frames: Iterator[pl.DataFrame]) -> tuple[bool, int]:
    """Return whether the rows of a file descend in time, and its first stamp; 0 if it has none.

    frames   of a column `ts`
    """
    first = pl.concat([pl.Series("ts", [], TS), *(frame["ts"] for frame in _read_first(frames))]).drop_nulls()
    return _find_order(first) < 0, int(first.to_physical()[0]) if len(first) else 0


def _read_first(frames: Iterator[pl.DataFrame]) -> list[pl.DataFrame]:
    """Return the first frames, with the rows from which the order of a file is inferred."""
    first: list[pl.DataFrame] = []
    for frame in frames:
        first.append(frame)
        if sum(frame.height for frame in first) >= ORDER_ROWS:
            break
    return first


def _find_order(stamps: pl.Series) -> int:
    """Return 1 if stamps in the order of a file ascend, -1 if they descend, 0 if they do neither."""
    steps = np.diff(stamps.head(ORDER_ROWS).drop_nulls().to_physical().to_numpy())
    forward, back = int((steps > 0).sum()), int((steps < 0).sum())
    if max(forward, back) < IN_ORDER * (forward + back):
        return 0
    return 1 if forward >= back else -1


def _chain(first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield first
    yield from rest


def _refuse(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    blank = pl.any_horizontal(pl.col(side).is_null() for side, _ in SIDES)
    for frame in frames:
        yield frame.with_columns(reason=pl.coalesce("reason", pl.when(blank).then(pl.lit(NO_ORDER))))


def _forward(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    known = None
    for frame in frames:
        rows = frame if known is None else pl.concat([known, frame])
        yield _fill(rows)[rows.height - frame.height :]
        known = rows[sorted({at for at in _last_known(rows) if at is not None})]


def _backward(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Hold rows back until later rows of the file, which are earlier in time, have both sides."""
    held = None
    for frame in frames:
        rows = frame if held is None else pl.concat([held, frame])
        settled = min(-1 if at is None else at for at in _last_known(rows)) + 1
        settled = max(settled, rows.height - HELD_ROWS)
        yield _fill(rows.reverse()).reverse()[:settled]
        held = rows[settled:]
    if held is not None:
        yield _fill(held.reverse()).reverse()


def _known(side: str) -> pl.Expr:
    price = pl.col(side)
    return pl.col("reason").is_null() & pl.col("stamp").is_not_null() & price.is_finite() & (price > 0)


def _last_known(rows: pl.DataFrame) -> list[int | None]:
    """Return the numbers of the last row with a bid and of the last with an ask; None: there is none."""
    return [rows.select(_known(side).fill_null(False).arg_true().last()).item() for side, _ in SIDES]


def _fill(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill forward; `rows` ascend in time."""
    filled = []
    for names in SIDES:
        side, known = pl.col(names[0]), _known(names[0])
        since = pl.when(known).then("stamp").forward_fill()
        last = pl.when(known).then(side).forward_fill()
        recent = since.is_between(pl.col("stamp") - CARRIED, pl.col("stamp") + LATE)
        blank = side.is_null() & pl.col("reason").is_null() & recent
        filled += [pl.when(blank).then(last).otherwise(side).alias(name) for name in names]
    return rows.with_columns(filled)
