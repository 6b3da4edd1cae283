"""Spans with unproven minutes, in the order in which a broker is asked for them."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

import polars as pl

from lstm_ts.errors import BrokerUnavailable, LstmTsError, WrongZone
from lstm_ts.market.bars import AnsweredSpan, BarBatch
from lstm_ts.market.completeness import State, classify, count_within
from lstm_ts.market.session import DAY
from lstm_ts.sources.retries import GIVE_UP

Span = tuple[datetime, datetime]

log = logging.getLogger(__name__)


def plan_spans(
    sessions: pl.DataFrame, bars_ts: pl.Series, answers: Sequence[AnsweredSpan], *, again: bool
) -> list[Span]:
    """Return sessions, cut to at most a day, that hold a minute to fetch; in the order of fetching."""
    opens = pl.datetime_ranges("opens", "closes", interval="1d", closed="left")
    pieces = (
        sessions.with_columns(start=opens)
        .explode("start")
        .select("start", end=pl.min_horizontal(pl.col("start") + DAY, "closes"))
    )
    return _choose(pieces, classify(sessions, bars_ts, answers), again=again)


def plan_days(
    sessions: pl.DataFrame, span: Span, bars_ts: pl.Series, answers: Sequence[AnsweredSpan], *, again: bool
) -> list[Span]:
    """Return UTC days, cut at the span's ends, that hold a session minute to fetch; in the order of fetching."""
    days = pl.datetime_ranges(pl.col("opens").dt.truncate("1d"), "closes", interval="1d", closed="left")
    start, end = pl.col("day"), pl.col("day") + DAY
    pieces = (
        sessions.select(day=days)
        .explode("day")
        .unique()
        .sort("day")
        .select(start=pl.max_horizontal(start, pl.lit(span[0])), end=pl.min_horizontal(end, pl.lit(span[1])))
    )
    return _choose(pieces, classify(sessions, bars_ts, answers), again=again)


def _choose(pieces: pl.DataFrame, segments: pl.DataFrame, *, again: bool) -> list[Span]:
    """Return the pieces (`start, end`, ascending) to fetch, in the order of fetching.

    The last piece comes first if it has unknown minutes, since forecasts wait for it; then pieces that only wait for a
    second, independent answer, which this connection gives; then the other pieces with unknown minutes, oldest first.
    """
    waiting, unknown = (
        count_within(segments.filter(pl.col("state") == state), pieces["start"], pieces["end"])
        for state in (State.WAITING, State.UNKNOWN)
    )
    pieces = pieces.with_columns(waiting=waiting, unknown=unknown).with_row_index("at")
    newest = (pl.col("at") == pieces.height - 1) & (pl.col("unknown") > 0)
    wanted = pieces if again else pieces.filter((pl.col("waiting") > 0) | (pl.col("unknown") > 0))
    return wanted.sort(~newest, pl.col("unknown") > 0, "at").select("start", "end").rows()


class Spans:
    """Spans in the order of fetching. After a few in a row that were refused, the newest of the others come first."""

    def __init__(self, spans: list[Span]) -> None:
        self.count, self.began = len(spans), time.monotonic()
        self.current: Span
        self._answered = False
        self._left, self._turned = spans, False
        self._in_a_row: list[tuple[Span, LstmTsError]] = []
        self.refused: LstmTsError | None = None  # the first one that was answered
        self.wrong_zone = False  # was one of them
        self._unavailable: BrokerUnavailable | None = None

    def __iter__(self) -> Iterator[Span]:
        while self._left:
            self.current, *self._left = self._left
            yield self.current

    def accept(self, batch: BarBatch) -> None:
        self._answered = True
        if batch.answers:
            self._in_a_row.clear()

    def refuse(self, why: LstmTsError) -> None:
        """Raises    the first one of too many in a row, once the newest of the others have come"""
        log.warning("Left out %s to %s, whose minutes stay unknown: %s", *self.current, why)
        if isinstance(why, BrokerUnavailable):
            self._unavailable = self._unavailable or why
        else:
            self.refused = self.refused or why
            self.wrong_zone |= isinstance(why, WrongZone)
        self._in_a_row.append((self.current, why))
        if len(self._in_a_row) < GIVE_UP:
            return
        if self._turned or not self._left:
            raise self._in_a_row[0][1]
        self._left, self._turned = sorted(self._left, reverse=True), True
        older = [end for (_, end), _ in self._in_a_row if end <= self._left[0][0]]
        advice = "none has been answered yet"
        if older and (self._answered or len(older) == len(self._in_a_row)):
            advice = f"add span.start={max(older):%Y-%m-%dT%H:%M} to ask for none before"
        log.warning("Too many in a row: the newest of the others come next; %s", advice)

    def check(self) -> None:
        """Raises    the first refusal; BrokerUnavailable: too many in a row, or all, were not answered"""
        if self.refused:
            raise self.refused
        if self._unavailable and (self._turned or not self._answered):
            raise self._unavailable
