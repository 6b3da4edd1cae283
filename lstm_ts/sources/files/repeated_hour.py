"""Stamps without an offset in the hour that autumn repeats: which of its two passes each row belongs to.

The order of the rows of the whole file decides: where a file goes forward, the stamp that steps back begins the second
pass. A file with the newest row first is read backwards. In any other order the stamps are ambiguous. A file that
begins in the hour continues the file before it.

Legend: N rows, D steps from row to row.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.bars import TS
from lstm_ts.market.spacing import MINUTE_US, Times

AMBIGUOUS = "in the hour that autumn repeats, in a file whose rows are not in order"
IN_ORDER = 0.9  # of the steps; the others are damaged rows, or borders of joined exports


class RepeatedHour:
    """The repeated hour of one file: `add` each block, `resolve`, then `apply` to the blocks in order, once or more."""

    def __init__(self, *, ticks: bool) -> None:
        self._ticks = ticks
        self._steps = {within: np.zeros(2, np.int64) for within in (False, True)}  # forward, back; within the hour
        self._first: bool | None = None  # the first row is ambiguous
        self._last: tuple[int, bool] | None = None
        self._ambiguous = [pl.DataFrame(schema={"ts": TS, "late": TS})]
        self._resolved = pl.Series(dtype=TS)
        self.begun = ""  # which pass a file that begins in the hour begins with, if it has one alone

    def add(self, rows: pl.DataFrame) -> pl.Series:
        """Stamps of the good rows that are not ambiguous.

        rows   `stamp, ts, late, reason`; `late` is null but for ambiguous stamps, of which `ts` is the first pass
        """
        good = rows.filter(pl.col("reason").is_null())
        ambiguous = good["late"].is_not_null()
        if self._first is None and len(ambiguous):
            self._first = bool(ambiguous[0])
        self._count_steps(good["stamp"].to_physical().to_numpy(), ambiguous.to_numpy())
        self._ambiguous.append(good.filter(ambiguous).select("ts", "late"))
        return good["ts"].filter(~ambiguous)

    def resolve(self, before: int) -> pl.Series:
        """Stamps of the ambiguous rows that the order distinguishes.

        before   the last stamp of the file before, microseconds
        """
        forward, back = self._steps[False] if self._steps[False].any() else self._steps[True]
        share = forward / (forward + back) if forward + back else 1.0
        rows = pl.concat(self._ambiguous)
        forwards = share > 1 - IN_ORDER
        rows = rows if forwards else rows.reverse()
        resolved = _resolve(rows, ticks=self._ticks)
        ordered = share >= IN_ORDER or share <= 1 - IN_ORDER
        if ordered and (self._first if forwards else self._last and self._last[1]):
            resolved = self._go_on(rows, resolved, before)
        resolved = resolved if forwards else resolved.reverse()
        self._resolved = resolved if ordered else pl.Series([None], dtype=TS).new_from_index(0, rows.height)
        return self._resolved.drop_nulls()

    def notes(self, file: Path) -> list[str]:
        told = f"{file} begins in the hour that autumn repeats, taken as its {self.begun} pass"
        alone = ": give it together with the file before it if it is the second"
        return [told + alone * (self.begun == "first")] if self.begun else []

    def _go_on(self, rows: pl.DataFrame, resolved: pl.Series, before: int) -> pl.Series:
        """Take the night in which a file begins for the second pass, if the file before ends after it begins."""
        night = rows["ts"].dt.truncate("1d")
        first = night == night[0]
        if not resolved.filter(first).eq_missing(rows["ts"].filter(first)).all():
            return resolved
        early, late = (rows[name].to_physical()[0] for name in ("ts", "late"))
        self.begun = "second" if early <= before < late else "first"
        return resolved.zip_with(~first, rows["late"]) if self.begun == "second" else resolved

    def apply(self, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The blocks with the `ts` and the `reason` of their ambiguous rows."""
        applied = 0
        for rows in blocks:
            at = (rows["reason"].is_null() & rows["late"].is_not_null()).arg_true()
            yield self._apply(rows, at, applied) if len(at) else rows
            applied += len(at)

    def _apply(self, rows: pl.DataFrame, at: pl.Series, applied: int) -> pl.DataFrame:
        ts = self._resolved.slice(applied, len(at))
        known = ts.is_not_null()
        kept = ts.zip_with(known, rows["ts"].gather(at))
        reasons = pl.select(pl.when(~known).then(pl.lit(AMBIGUOUS))).to_series()
        return rows.with_columns(rows["ts"].scatter(at, kept), rows["reason"].scatter(at, reasons))

    def _count_steps(self, stamps_N: Times, ambiguous_N: NDArray[np.bool_]) -> None:
        if self._last is not None:
            stamps_N, ambiguous_N = np.append(self._last[0], stamps_N), np.append(self._last[1], ambiguous_N)
        if not len(stamps_N):
            return
        self._last = int(stamps_N[-1]), bool(ambiguous_N[-1])
        steps_D, within_D = np.diff(stamps_N), ambiguous_N[1:] & ambiguous_N[:-1]
        for within in (False, True):
            of_D = steps_D[within_D == within]
            self._steps[within] += ((of_D > 0).sum(), (of_D < 0).sum())


def _resolve(rows: pl.DataFrame, *, ticks: bool) -> pl.Series:
    """Null for all of a night that steps back more than once.

    Equal stamps are the two passes of thin or hourly bars, unless others of the night step back. Ticks of one moment
    are no bars, and some come a few seconds late.

    rows   `ts, late` of ambiguous rows in the order of a file that goes forward
    """
    night, step = pl.col("ts").dt.truncate("1d"), pl.col("ts").diff().dt.total_microseconds()
    back = (step.over(night) < (-MINUTE_US if ticks else 0)).fill_null(False)
    equal = pl.lit(False) if ticks else (step.over(night) == 0).fill_null(False)
    counted = rows.with_columns(night=night, back=back, equal=equal)
    turn = pl.when(pl.col("back").any().over("night")).then("back").otherwise("equal")
    second = turn.cast(pl.Int64).cum_sum().over("night") > 0
    once = pl.col("back").sum().over("night") <= 1
    return counted.select(pl.when(once).then(pl.when(second).then("late").otherwise("ts"))).to_series()


def either_pass(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows, and those with an ambiguous stamp again at the later moment."""
    ambiguous = rows.filter(pl.col("reason") == AMBIGUOUS)
    return pl.concat([rows, ambiguous.with_columns(ts="late")])
