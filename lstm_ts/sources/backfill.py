"""Fetch from a broker the session minutes that are not proven yet, and store its answers step by step.

A step is stored, and only then recorded in the ledger: a process killed at any moment leaves at most one step
unrecorded, and the next run continues with the minutes that the ledger does not prove. Spans without a bar are recorded
last: once one span came in a wrong zone, the silence of the others says nothing.
"""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lstm_ts import clock
from lstm_ts.errors import ConfigError, WrongZone
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import are_json
from lstm_ts.market.bars import BAR_SCHEMA, REJECT_SCHEMA, AnsweredSpan, AvailableSpan, BarBatch, Broker
from lstm_ts.market.completeness import span_of
from lstm_ts.market.hours import without_closed
from lstm_ts.market.session import HOUR, Session
from lstm_ts.sources.span_order import Span, Spans, plan_days, plan_spans
from lstm_ts.sources.spikes import recount, without_spikes
from lstm_ts.sources.stored_series import SeriesLimits
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.staging import UpsertResult

RECENT = timedelta(hours=1)  # longer than any window in which a broker counts requests

log = logging.getLogger(__name__)


@dataclass
class BackfillResult:
    asked: int = 0  # spans
    unanswered: int = 0
    new: int = 0
    same: int = 0
    revised: int = 0
    rejected: int = 0
    closed: int = 0  # bars by which the broker fills closed hours

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
class Backfill:
    """Filling of a store with the bars of a broker; for one `run`."""

    broker: Broker
    raw: BarStore
    session: Session
    ledger: Ledger
    symbol: str
    limits: SeriesLimits
    commit_s: float
    rejects_csv: Path
    _result: BackfillResult = field(default_factory=BackfillResult, init=False)
    _step: _Step = field(default_factory=_Step, init=False)
    _silent: _Step = field(default_factory=_Step, init=False)  # answers without a bar
    _spans: Spans = field(default_factory=lambda: Spans([]), init=False)

    def run(self, start: datetime | None, end: datetime | None, *, again: bool) -> BackfillResult:
        """Fetch the unproven minutes of a span.

        start, end   None: from the first minute stored or answered for, to the last closed one
        again        fetch proven minutes too, since the broker may have revised its bars
        Raises    BrokerError, DataError: an answer of no use, in a wrong zone, or of another level, once the others are
                  stored; BrokerUnavailable: nothing was answered, or too many in a row were not; DataError: another
                  series, nothing of its step is stored; WrongZone: earlier steps are stored; ConfigError: no such
                  session
        """
        if start is not None and start >= min(end or datetime.max.replace(tzinfo=UTC), clock.now()):
            raise ConfigError(f"Expected span.start before span.end and before now, got {start} and {end or 'none'}")
        self.raw.check_session(self.session)
        self._warn_of_another_source()
        with self.ledger.locked(f"the ingestion of {self.symbol}"):
            try:
                recent = clock.now() - clock.speed() * RECENT
                available = self.broker.connect(self.ledger.answered_at(self.symbol, self.broker.name, since=recent))
                return self.fetch(self.plan(available, start, end, again=again))
            finally:
                self.broker.close()

    def _warn_of_another_source(self) -> None:
        """Warn of other prices than those stored last: where the two do not overlap, nothing else tells them apart."""
        if self.raw.id and self.raw.source != self.broker.name:
            log.warning(
                "%s had its last bars from %s, and now gets those of %s; another side of the quote or another vendor "
                "has its own symbol= or paths.data=",
                *(self.raw.folder, self.raw.source, self.broker.name),
            )

    def plan(
        self, available: AvailableSpan, start: datetime | None, end: datetime | None, *, again: bool
    ) -> list[Span]:
        bars_ts, answers = self.raw.read_stamps(), self.ledger.answers(self.symbol, self.raw.id)
        known = span_of(bars_ts, answers)
        first = start or (known[0] if known else None)
        if first is None:
            raise ConfigError(
                "Expected span.start for a store that holds nothing yet, got none; add span.start=2024-01-01"
            )
        closed = available.now.replace(second=0, microsecond=0)
        first, last = max(first, _next_minute(available.head)), min(end or closed, closed)
        if first >= last:
            return []
        sessions = self.session.spans(first, last)
        if available.by_day:
            return plan_days(sessions, (first, last), bars_ts, answers, again=again)
        return plan_spans(sessions, bars_ts, answers, again=again)

    def fetch(self, spans: list[Span]) -> BackfillResult:
        """Fetch spans in their order; see `run`."""
        self._spans = Spans(spans)
        with _progress() as progress:
            task = progress.add_task(self.broker.name, total=len(spans))
            try:
                for batch in self.broker.fetch_batches(self._spans):
                    progress.advance(task)
                    self._take(batch)
                    if self._step.bars and time.monotonic() - self._step.since >= self.commit_s:
                        self._commit()
            except WrongZone:
                self._spans.wrong_zone = True
                raise
            finally:  # keep the answers from before an error or Ctrl-C
                if not self._spans.wrong_zone:
                    self._step.bars += self._silent.bars
                    self._step.answers += self._silent.answers
                if self._step.bars:
                    self._commit()
        if self._result.closed:
            log.warning(f"{self._result.closed:,} bars of one price and no volume in closed hours are left out")
        self._warn_of_silence()
        self._spans.check()
        return self._result

    def _warn_of_silence(self) -> None:
        if self._spans.wrong_zone:
            return
        spans = sorted({(answer.start, answer.end) for answer in self._silent.answers})
        if spans := [span for span in spans if self.session.time_open(*span) >= HOUR]:
            log.warning(
                "No bar came of %d whole days or sessions, the first from %s to %s, though %s is open then: their "
                "minutes count as empty once two answers say so; if that is wrong, ask for them later with again=true",
                *(len(spans), *(f"{at:%a %Y-%m-%d %H:%M}" for at in spans[0]), self.session.calendar),
            )

    def _take(self, batch: BarBatch) -> None:
        assert batch.bars.schema == BAR_SCHEMA and not batch.hourly
        batch = self._sift(batch)
        self._result.asked += 1
        self._result.unanswered += not batch.answers
        self._result.rejected += append_rejects(self.rejects_csv, batch.rejects)
        if why := self.limits.find_fault(batch, self._step.bars, self.raw, self.session, self.broker.name):
            self._spans.refuse(why)
            return
        self._spans.accept(batch)
        step = self._step if batch.bars.height else self._silent
        step.bars.append(batch.bars)
        step.answers.extend(batch.answers)

    def _sift(self, batch: BarBatch) -> BarBatch:
        """Leave out what fills closed hours, and damaged rows."""
        bars = without_closed(batch, self.session)
        if filled := batch.bars.height - bars.height:
            self._result.closed += filled
            batch = recount(batch, bars)
        return batch if self.limits.allow_level_change else without_spikes(batch, self.broker.name)

    def _commit(self) -> None:
        step, self._step, result = self._step, _Step(), self._result
        if step.answers or any(bars.height for bars in step.bars):
            self.limits.check(pl.concat(step.bars), self.raw, self.broker.name)
            with self.raw.upsert(self.broker.name, self.session) as staging:
                for bars in step.bars:
                    staging.add(bars)
            result.add(staging.result)
            self.ledger.record_answers(self.symbol, staging.store_id, self.broker.name, step.answers)
        asked, count = result.asked, self._spans.count
        left_s = (time.monotonic() - self._spans.began) / max(asked, 1) * (count - asked)
        log.info("%d of %d spans, %d new bars, about %.0f min left", asked, count, result.new, left_s / 60)


def _next_minute(ts: datetime) -> datetime:
    return ts.replace(second=0, microsecond=0) + (timedelta(minutes=1) if ts.second or ts.microsecond else timedelta())


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
