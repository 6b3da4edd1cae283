"""Store what a source delivers in one go, all of it or nothing, and record what it answered for."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import are_json
from lstm_ts.market.bars import AnsweredSpan, Source
from lstm_ts.market.session import MINUTE, Session
from lstm_ts.market.zone_check import Mismatch
from lstm_ts.sources.delivery import Delivery, IngestLimits, within_span
from lstm_ts.sources.evidence import join_to_stored
from lstm_ts.sources.files.file_evidence import OBSERVER as FILES
from lstm_ts.sources.files.source import Files
from lstm_ts.sources.stored_series import find_spacing
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.staging import Staging, UpsertResult


@dataclass(frozen=True)
class IngestResult:
    upserts: dict[Path, UpsertResult]  # by store folder
    rejected: int
    mismatch: Mismatch
    kept_hours: int = 0  # came whole, and had been made of stored minutes: these stay
    repeated: int = 0  # minutes that came again in a later file
    longer: int = 0  # bars that hours are made of
    made_hours: int = 0  # of these

    @property
    def new(self) -> int:
        return sum(upsert.new for upsert in self.upserts.values())

    @property
    def same(self) -> int:
        return sum(upsert.same for upsert in self.upserts.values())

    @property
    def revised(self) -> int:
        return sum(upsert.revised for upsert in self.upserts.values())


def ingest(
    source: Source,
    *,
    raw: BarStore,
    processed: BarStore,
    session: Session,
    ledger: Ledger,
    symbol: str,
    limits: IngestLimits,
    rejects_csv: Path,
    start: datetime | None = None,
    end: datetime | None = None,
) -> IngestResult:
    """Store what the source delivers with start <= ts < end: minutes in `raw`, and in `processed` hours, as they are
    or made of bars that divide one; then record what of that span it answered for.

    Raises    TooManyRejects, WrongZone, NoRows, DataError: nothing was stored; `rejects_csv` names the bad rows
    """
    if isinstance(source, Files):
        source.stored = partial(find_spacing, raw=raw, processed=processed)
    delivery, kept_hours, made_hours = Delivery(source.name, rejects_csv), 0, 0
    with ExitStack() as stack, _progress() as progress:
        stagings = _Stagings(stack, source.name, session)
        task = progress.add_task(source.name, total=None, rows=0)
        for batch in within_span(source.read_batches(start, end), start, end):
            taken = delivery.add(batch, session)
            if batch.minutes == 1:
                stagings.of(raw).add(taken.bars)
            progress.update(task, rows=delivery.kept)
        mismatch = delivery.check(raw, processed, session, limits)
        if delivery.wholes.height:
            stagings.of(raw).add(delivery.wholes)
        if delivery.longer:
            hours, kept_hours = delivery.make_hours(raw, processed, session, limits)
            stagings.of(processed).add(hours)
            made_hours = hours.height + kept_hours
    # A process killed before this leaves unknown what it stored.
    if any(delivery.answers):
        answers = _join_files(delivery.answers, raw, session)
        ledger.record_answers(symbol, stagings.of(raw).store_id, source.name, answers)
    return IngestResult(
        stagings.results(),
        delivery.rejected,
        mismatch,
        kept_hours,
        repeated=delivery.repeated,
        longer=sum(batch.bars.height for batch in delivery.longer),
        made_hours=made_hours,
    )


class _Stagings:
    """Stagings of the stores that a delivery changes, each entered once there is something for it."""

    def __init__(self, stack: ExitStack, name: str, session: Session) -> None:
        self._stack, self._name, self._session = stack, name, session
        self._stagings: dict[Path, Staging] = {}

    def of(self, store: BarStore) -> Staging:
        if store.folder not in self._stagings:
            self._stagings[store.folder] = self._stack.enter_context(store.upsert(self._name, self._session))
        return self._stagings[store.folder]

    def results(self) -> dict[Path, UpsertResult]:
        return {folder: staging.result for folder, staging in self._stagings.items()}


def _join_files(answers: Sequence[tuple[AnsweredSpan, ...]], raw: BarStore, session: Session) -> list[AnsweredSpan]:
    stored = raw.read_stamps()
    sessions = session.spans(stored[0], stored[-1] + MINUTE)
    joined: list[AnsweredSpan] = []
    for batch in answers:
        of_files = batch and batch[0].observer == FILES
        joined.extend(join_to_stored(batch, stored, sessions) if of_files else batch)
    return joined


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[rows]:,} bars"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=are_json())
