"""`python -m lstm_ts.ingest`: a source's bars into the store, all of them or none."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("ingest")  # before what is slow to import

from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lstm_ts.cli import INTERRUPTED, entry_point
from lstm_ts.configuration import construct, processed_store, raw_store, run_folder
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import are_json
from lstm_ts.market.bars import AnsweredSpan, Broker, Source
from lstm_ts.market.session import Mismatch, Session, utc
from lstm_ts.sources.backfill import BackfillResult, backfill
from lstm_ts.sources.delivery import Delivery, IngestLimits, within_span
from lstm_ts.sources.evidence import join_to_stored
from lstm_ts.sources.file_evidence import WITNESS as FILES
from lstm_ts.sources.stored_series import SeriesLimits
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.coverage import Status, compute_status, format_status
from lstm_ts.store.staging import Staging, UpsertResult

MINUTE = timedelta(minutes=1)

log = logging.getLogger(__name__)


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
    or made of bars that divide one; then note what of that span it answered for.

    Raises    TooManyRejects, WrongZone, NoRows, DataError: nothing was stored; `rejects_csv` names the bad rows
    """
    delivery, kept_hours, made_hours = Delivery(source.name, rejects_csv), 0, 0
    with ExitStack() as stack, _progress() as progress:
        stagings = _Stagings(stack, source.name, session)
        task = progress.add_task(source.name, total=None, rows=0)
        for batch in within_span(source.read_batches(start, end), start, end):
            if batch.minutes == 1:
                stagings.of(raw).add(batch.bars)
            delivery.add(batch)
            progress.update(task, rows=delivery.kept)
        mismatch = delivery.check(raw, processed, session, limits)
        if delivery.longer:
            hours, kept_hours = delivery.make_hours(raw, processed, session, limits)
            stagings.of(processed).add(hours)
            made_hours = hours.height + kept_hours
    # A process killed before this leaves unknown what it stored.
    if any(delivery.answers):
        told = _join_files(delivery.answers, raw, session)
        ledger.record_answers(symbol, stagings.of(raw).store_id, source.name, told)
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
    told: list[AnsweredSpan] = []
    for batch in answers:
        of_files = batch and batch[0].witness == FILES
        told.extend(join_to_stored(batch, stored, sessions) if of_files else batch)
    return told


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[rows]:,} bars"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=are_json())


def run(cfg: DictConfig) -> IngestResult | BackfillResult | None:
    """Returns    None: only the status was shown"""
    _check(cfg)
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        match cfg.action:
            case "ingest":
                return _ingest(cfg, ledger)
            case "status":
                print(format_status(_status(cfg, ledger)))
                return None
            case other:
                raise ConfigError(f"Expected action=ingest or status, got {other}")


def _check(cfg: DictConfig) -> None:
    for name in ("again", "allow_level_change", "allow_revisions"):
        if not isinstance(cfg[name], bool):
            raise ConfigError(f"Expected {name}=true or false, got {cfg[name]}")
    if isinstance(cfg.commit_s, bool) or not isinstance(cfg.commit_s, int | float) or not cfg.commit_s >= 0:
        raise ConfigError(f"Expected commit_s as seconds of at least 0, got {cfg.commit_s}")


def _ingest(cfg: DictConfig, ledger: Ledger) -> IngestResult | BackfillResult:
    source = _make_source(cfg.source)
    return _backfill(cfg, ledger, source) if isinstance(source, Broker) else _ingest_all(cfg, ledger, source)


def _make_source(cfg: DictConfig) -> Source | Broker:
    try:
        source: Source | Broker = construct(cfg)
    except InstantiationException as error:
        if isinstance(error.__cause__, ImportError) and "client" in cfg:
            client = str(cfg.client._target_)
            library = client.partition(".")[0]
            raise ConfigError(
                f"Expected source.client as ib_insync.IB or ib_async.IB, whichever is installed, got {client}, which "
                f"cannot be imported; pip install {library}, or correct source.client._target_"
            ) from error
        raise
    return source


def _backfill(cfg: DictConfig, ledger: Ledger, broker: Broker) -> BackfillResult:
    rejects_csv = run_folder() / "rejects.csv"
    raw = raw_store(cfg)
    try:
        result = backfill(
            broker,
            raw=raw,
            session=construct(cfg.symbol.session),
            ledger=ledger,
            symbol=cfg.symbol.name,
            start=utc(cfg.span.start),
            end=utc(cfg.span.end),
            again=cfg.again,
            commit_s=cfg.commit_s,
            limits=SeriesLimits(allow_level_change=cfg.allow_level_change, allow_revisions=cfg.allow_revisions),
            rejects_csv=rejects_csv,
        )
    except KeyboardInterrupt:
        log.warning("Stopped: what was answered is stored, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    if not result.asked:
        print("Nothing was asked: every closed minute of the span is accounted for, or before the broker's first bar")
        return result
    print(f"{broker.name} → {raw.folder}: {result.new:,} new, {result.same:,} the same, {result.revised:,} revised")
    print(f"{result.asked:,} spans asked for, {result.unanswered:,} of them without an answer that proves anything")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    return result


def _ingest_all(cfg: DictConfig, ledger: Ledger, source: Source) -> IngestResult:
    rejects_csv = run_folder() / "rejects.csv"
    result = ingest(
        source,
        raw=raw_store(cfg),
        processed=processed_store(cfg),
        session=construct(cfg.symbol.session),
        ledger=ledger,
        symbol=cfg.symbol.name,
        limits=IngestLimits(
            min_minutes_share=cfg.min_minutes_share,
            max_reject_share=cfg.max_reject_share,
            max_mismatch=cfg.max_mismatch,
            allow_level_change=cfg.allow_level_change,
            allow_revisions=cfg.allow_revisions,
        ),
        rejects_csv=rejects_csv,
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )
    for folder, upsert in result.upserts.items():
        print(f"{source.name} → {folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    if result.repeated:
        print(f"{result.repeated:,} minutes left out: a later file has brought them again")
    if result.longer != result.made_hours:
        print(f"{result.longer:,} bars longer than a minute make {result.made_hours:,} hours; parts of hours make none")
    if result.kept_hours:
        print(f"{result.kept_hours:,} hours left out: stored minutes have made them, and those hours stay")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    print(f"Against the sessions of their span: {result.mismatch}")
    return result


def _status(cfg: DictConfig, ledger: Ledger) -> Status:
    raw = raw_store(cfg)
    answers = ledger.answers(cfg.symbol.name, raw.id)  # before the bars: another process may be adding both
    return compute_status(
        cfg.symbol.name,
        raw.read_stamps(),
        answers,
        raw.read_revisions(),
        construct(cfg.symbol.session),
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )


main = entry_point("ingest")(run)

if __name__ == "__main__":
    main()
