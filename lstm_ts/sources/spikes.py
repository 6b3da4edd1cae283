"""Rows whose prices jump away and come back, as a misplaced decimal point makes them. Pure.

Rows in order of time are cut wherever a price moves by a factor that no market makes. More than a few rows in a row are
a steady stretch. What lies between two stretches of one level, and off it, is damaged; so is what lies off the level
before the first stretch and after the last. Stretches of two levels prove nothing damaged: `levels.check_levels`
compares them.

Legend: N rows, S stretches, D spans that are disturbed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.bars import PRICES, TS, BarBatch, make_answers, make_rejects
from lstm_ts.market.levels import SESSION, TORN, largest_move
from lstm_ts.market.spacing import MINUTE_US, SECOND_US, Times

MAX_ROWS = 5  # of a spike; more stay, as another unit would
NO_STAMPS = pl.Series("ts", [], TS)
SPIKE = "far from the prices before and after"
ROWS = pl.Schema({"ts": pl.Int64()} | dict.fromkeys(PRICES, pl.Float32()))  # prices as logs
OF_A_MINUTE = pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last()
Logs = NDArray[np.float32]


@dataclass(frozen=True)
class Spikes:
    """Spans of one file in which rows off the level are damaged, ascending and apart."""

    first_D: Times
    last_D: Times
    level_D: NDArray[np.float64]  # log
    limit_D: NDArray[np.float64]  # log, from the level

    def find(self, rows: pl.DataFrame) -> pl.Series:
        """Return which rows are damaged.

        rows   `ts` and PRICES
        """
        stamps_N = rows["ts"].to_physical().fill_null(np.iinfo(np.int64).max).to_numpy()
        at_N = np.searchsorted(self.first_D, stamps_N, side="right") - 1
        found_N = (at_N >= 0) & (stamps_N <= self.last_D[at_N])
        inside = np.flatnonzero(found_N)
        price_NP = rows[inside].select(PRICES).to_numpy()
        with np.errstate(invalid="ignore", divide="ignore"):  # of rows that are refused already
            away_NP = np.abs(np.log(price_NP) - self.level_D[at_N[inside], None])
        found_N[inside] = (away_NP > self.limit_D[at_N[inside], None]).any(axis=1)
        return pl.Series(found_N)


class Continuity:
    """Continuity of prices in the order of their file, as in most files: unless it is broken, no row is a spike."""

    def __init__(self) -> None:
        self.broken = False
        self._last = pl.DataFrame(schema=dict.fromkeys(PRICES, pl.Float64()))

    def add(self, rows: pl.DataFrame) -> None:
        """rows   PRICES and `reason`, null where nothing is wrong"""
        if self.broken:
            return
        good = pl.concat([self._last, rows.select(*PRICES, "reason").filter(pl.col("reason").is_null()).select(PRICES)])
        step = pl.col("open") / pl.col("close").shift(1)
        apart = ~step.is_between(math.exp(-SESSION), math.exp(SESSION)) | (
            pl.col("high") / pl.col("low") > math.exp(TORN)
        )
        self.broken = bool(good.select(apart.any()).item())  # the first step is null
        self._last = good.tail(1)


class Levels:
    """Levels of one file: `add` all of its good rows, then `find_spikes`."""

    def __init__(self, *, ticks: bool) -> None:
        self._ticks = ticks
        self._blocks = [pl.DataFrame(schema=ROWS)]

    def add(self, rows: pl.DataFrame) -> None:
        """rows   `ts` and PRICES; of ticks the bid is the low, the ask the high"""
        if self._ticks:
            rows = rows.group_by(pl.col("ts").dt.truncate("1m"), maintain_order=True).agg(OF_A_MINUTE)
        self._blocks.append(rows.select(pl.col("ts").to_physical(), pl.col(PRICES).log().cast(pl.Float32)))

    def find_spikes(self) -> Spikes | None:
        rows = pl.concat(self._blocks)
        if not rows["ts"].is_sorted():
            rows = rows.sort("ts", maintain_order=True)
        if self._ticks:  # a minute may lie in several blocks
            rows = rows.group_by("ts", maintain_order=True).agg(OF_A_MINUTE)
        found = _find(*(rows[name].to_numpy() for name in ROWS.names()))
        if not found:
            return None
        first_D, last_D, level_D, limit_D = map(np.array, zip(*found, strict=True))
        return Spikes(first_D, last_D + MINUTE_US - 1 if self._ticks else last_D, level_D, limit_D)


def without_spikes(batch: BarBatch, name: str) -> BarBatch:
    """Return a broker's minutes without the damaged ones, which become rejects, and which no answer covers."""
    levels = Levels(ticks=False)
    levels.add(batch.bars)
    spikes = levels.find_spikes()
    if spikes is None:
        return batch
    found = spikes.find(batch.bars)
    bad = batch.bars.filter(found).with_columns(reason=pl.lit(SPIKE))
    rejects = pl.concat([batch.rejects, make_rejects(bad, name)])
    return recount(replace(batch, rejects=rejects), batch.bars.filter(~found), bad["ts"])


def _find(
    stamps_N: Times, open_N: Logs, high_N: Logs, low_N: Logs, close_N: Logs
) -> list[tuple[int, int, float, float]]:
    """Return the first and last stamp, level and limit of each disturbed span."""
    torn_N = high_N - low_N > TORN
    cut_N = np.abs(open_N[1:] - close_N[:-1]) > largest_move(np.diff(stamps_N) / SECOND_US)
    cut_N |= torn_N[1:] | torn_N[:-1]
    if not cut_N.any():
        return []
    starts_S = np.concatenate([[0], np.flatnonzero(cut_N) + 1])
    ends_S = np.append(starts_S[1:], len(stamps_N))
    steady_S = ends_S - starts_S > MAX_ROWS
    starts_S, ends_S = starts_S[steady_S], ends_S[steady_S]
    if not len(starts_S):
        return []
    start, end = starts_S[0], ends_S[-1] - 1
    return [
        *_outside(stamps_N[:start], stamps_N[start], open_N[start]),
        *_between(stamps_N, open_N, close_N, ends_S[:-1] - 1, starts_S[1:]),
        *_outside(stamps_N[end + 1 :], stamps_N[end], close_N[end]),
    ]


def _outside(stamps_N: Times, stamp: np.int64, level: np.float32) -> list[tuple[int, int, float, float]]:
    """Return the span before the first stretch or after the last, given the stretch's nearest stamp and level."""
    if not len(stamps_N):
        return []
    limit = largest_move(float(np.abs(stamps_N[[0, -1]] - stamp).max()) / SECOND_US)
    return [(int(stamps_N[0]), int(stamps_N[-1]), float(level), float(limit))]


def _between(
    stamps_N: Times, open_N: Logs, close_N: Logs, before_S: NDArray[np.int64], after_S: NDArray[np.int64]
) -> list[tuple[int, int, float, float]]:
    """Return the spans between two stretches of one level.

    before_S, after_S   the last row of each stretch but the last, and the first one of the next
    """
    limit_S = largest_move((stamps_N[after_S] - stamps_N[before_S]) / SECOND_US)
    agree_S = (np.abs(open_N[after_S] - close_N[before_S]) <= limit_S) & (after_S > before_S + 1)
    before_S, after_S, limit_S = before_S[agree_S], after_S[agree_S], limit_S[agree_S]
    columns = stamps_N[before_S + 1], stamps_N[after_S - 1], close_N[before_S], limit_S
    return list(zip(*(column.tolist() for column in columns), strict=True))


def recount(batch: BarBatch, bars: pl.DataFrame, bad: pl.Series = NO_STAMPS) -> BarBatch:
    """Return the batch with these of its bars, and its answers for them, without the minutes of `bad`."""
    answers = tuple(
        part
        for answer in batch.answers
        for part in make_answers(
            answer.start, answer.end, good=bars["ts"], bad=bad, at=answer.at, observer=answer.observer
        )
    )
    return replace(batch, bars=bars, answers=answers)
