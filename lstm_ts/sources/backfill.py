"""Fetch from a broker the session minutes that are not proven yet, and store its answers step by step.

A step is stored, and only then recorded in the ledger: a process killed at any moment leaves at most one step
unrecorded, and the next run continues with the minutes that the ledger does not prove.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lstm_ts import clock
from lstm_ts.errors import ConfigError, LstmTsError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import are_json
from lstm_ts.market.bars import BAR_SCHEMA, REJECT_SCHEMA, AnsweredSpan, AvailableSpan, BarBatch, Broker
from lstm_ts.market.completeness import State, classify, count_within, span_of
from lstm_ts.market.session import Session
from lstm_ts.sources.retries import GIVE_UP
from lstm_ts.sources.stored_series import SeriesLimits
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.staging import UpsertResult

DAY = timedelta(days=1)
RECENT = timedelta(hours=1)  # longer than any window in which a broker counts requests
Span = tuple[datetime, datetime]

log = logging.getLogger(__name__)


@dataclass
class BackfillResult:
    asked: int = 0  # spans
    unanswered: int = 0
    new: int = 0
    same: int = 0
    revised: int = 0
    rejected: int = 0

    def add(self, upsert: UpsertResult) -> None:
        self.new, self.same, self.revised = (
            self.new + upsert.new,
            self.same + upsert.same,
            self.revised + upsert.revised,
        )


@dataclass
class _Step:
    bars: list[pl.DataFrame] = field(default_factory=list)
    answers: list[AnsweredSpan] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


@dataclass
class _Refusals:
    """Spans of which nothing may be stored."""

    first: LstmTsError | None = None
    in_a_row: int = 0

    def add(self, span: Span, why: LstmTsError) -> None:
        """Raises    the first one: too many in a row"""
        log.warning("Left out %s to %s, whose minutes stay unknown: %s", *span, why)
        self.first, self.in_a_row = self.first or why, self.in_a_row + 1
        if self.in_a_row == GIVE_UP:
            raise self.first


def backfill(
    broker: Broker,
    *,
    raw: BarStore,
    session: Session,
    ledger: Ledger,
    symbol: str,
    start: datetime | None,
    end: datetime | None,
    again: bool,
    commit_s: float,
    limits: SeriesLimits,
    rejects_csv: Path,
) -> BackfillResult:
    """Fetch the unproven minutes of a span.

    start, end   None: from the first minute stored or answered for, to the last closed one
    again        fetch proven minutes too, since the broker may have revised its bars
    Raises    BrokerError, DataError: an answer of no use, or of another level, once the others are stored; another
              series, nothing of its step is stored; WrongZone: earlier steps are stored; ConfigError: no such session
    """
    if start is not None and start >= min(end or datetime.max.replace(tzinfo=UTC), clock.now()):
        raise ConfigError(f"Expected span.start before span.end and before now, got {start} and {end or 'none'}")
    raw.check_session(session)
    with ledger.exclusive_ingestion(symbol):
        try:
            recent = clock.now() - clock.speed() * RECENT
            available = broker.connect(ledger.answered_at(symbol, broker.name, since=recent))
            spans = _plan(raw, session, ledger.answers(symbol, raw.id), available, start, end, again=again)
            return _fetch(broker, spans, raw, session, ledger, symbol, commit_s, limits, rejects_csv)
        finally:
            broker.close()


def _plan(
    raw: BarStore,
    session: Session,
    answers: Sequence[AnsweredSpan],
    available: AvailableSpan,
    start: datetime | None,
    end: datetime | None,
    *,
    again: bool,
) -> list[Span]:
    bars_ts = raw.read_stamps()
    known = span_of(bars_ts, answers)
    first = start or (known[0] if known else None)
    if first is None:
        raise ConfigError("Expected span.start for a store that holds nothing yet, got none; add span.start=2024-01-01")
    closed = available.now.replace(second=0, microsecond=0)
    first, last = max(first, _next_minute(available.head)), min(end or closed, closed)
    if first >= last:
        return []
    sessions = session.spans(first, last)
    if available.by_day:
        return plan_days(sessions, (first, last), bars_ts, answers, again=again)
    return plan_spans(sessions, bars_ts, answers, again=again)


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


def _next_minute(ts: datetime) -> datetime:
    return ts.replace(second=0, microsecond=0) + (timedelta(minutes=1) if ts.second or ts.microsecond else timedelta())


def _fetch(
    broker: Broker,
    spans: list[Span],
    raw: BarStore,
    session: Session,
    ledger: Ledger,
    symbol: str,
    commit_s: float,
    limits: SeriesLimits,
    rejects_csv: Path,
) -> BackfillResult:
    result, step, refusals, began = BackfillResult(), _Step(), _Refusals(), time.monotonic()

    def commit() -> None:
        nonlocal step
        taken, step = step, _Step()
        if taken.answers or any(bars.height for bars in taken.bars):
            limits.check(pl.concat(taken.bars), raw, broker.name)
            with raw.upsert(broker.name, session) as staging:
                for bars in taken.bars:
                    staging.add(bars)
            result.add(staging.result)
            ledger.record_answers(symbol, staging.store_id, broker.name, taken.answers)
        left_s = (time.monotonic() - began) / max(result.asked, 1) * (len(spans) - result.asked)
        log.info("%d of %d spans, %d new bars, about %.0f min left", result.asked, len(spans), result.new, left_s / 60)

    with _progress() as progress:
        task = progress.add_task(broker.name, total=len(spans))
        try:
            for span, batch in zip(spans, broker.fetch_batches(spans), strict=True):
                _count(result, batch, rejects_csv)
                progress.advance(task)
                if why := limits.find_fault(batch, step.bars, raw, broker.name):
                    refusals.add(span, why)
                    continue
                refusals.in_a_row = 0 if batch.answers else refusals.in_a_row
                step.bars.append(batch.bars)
                step.answers.extend(batch.answers)
                if time.monotonic() - step.since >= commit_s:
                    commit()
        finally:  # keep the answers from before an error or Ctrl-C
            if step.bars:
                commit()
    if refusals.first:
        raise refusals.first
    return result


def _count(result: BackfillResult, batch: BarBatch, rejects_csv: Path) -> None:
    assert batch.bars.schema == BAR_SCHEMA and not batch.hourly
    result.asked += 1
    result.unanswered += not batch.answers
    result.rejected += append_rejects(rejects_csv, batch.rejects)


def append_rejects(path: Path, rejects: pl.DataFrame) -> int:
    if not rejects.is_empty():
        path.parent.mkdir(parents=True, exist_ok=True)
        first = not path.exists()
        with path.open("ab") as file:
            rejects.select(REJECT_SCHEMA.names()).write_csv(file, include_header=first)
    return rejects.height


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=are_json())
