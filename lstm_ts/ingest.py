"""`python -m lstm_ts.ingest`: a source's bars into the store, all of them or none."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lstm_ts.backfill import BackfillResult, append_rejects, backfill
from lstm_ts.bars import (
    REJECT_SCHEMA,
    TS,
    Answer,
    BarBatch,
    Broker,
    Source,
    count_by_hour,
    describe_rejects,
)
from lstm_ts.cli import construct, entry_point, processed_store, raw_store, run_folder
from lstm_ts.close_stamps import warn_of_close_stamps
from lstm_ts.errors import ConfigError, DataError, NoRows, TooManyRejects
from lstm_ts.evidence import join_to_stored
from lstm_ts.hours import make_hours
from lstm_ts.ledger import Ledger
from lstm_ts.levels import check_levels
from lstm_ts.revisions import compare_closes
from lstm_ts.session import HOUR, Mismatch, Session, utc
from lstm_ts.sources.testimony import WITNESS as FILES
from lstm_ts.staging import Staging, UpsertResult
from lstm_ts.status import Status, compute_status, format_status
from lstm_ts.store import BarStore
from lstm_ts.tables import percent

MINUTE = timedelta(minutes=1)
PRICES = pl.Schema({"ts": TS, "open": pl.Float64(), "close": pl.Float64()})

REMEDY = (
    "set source.price_factor where the unit differs, take another symbol=, or allow_level_change=true if the market "
    "moved so; nothing was stored"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestResult:
    upserts: dict[Path, UpsertResult]  # by store folder
    rejected: int
    mismatch: Mismatch
    kept_hours: int = 0  # came whole, and had been made of stored minutes: these stay

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
    min_minutes_share: float,
    max_reject_share: float,
    max_mismatch: float,
    allow_level_change: bool,
    allow_revisions: bool,
    rejects_csv: Path,
    start: datetime | None = None,
    end: datetime | None = None,
) -> IngestResult:
    """Store what the source delivers with start <= ts < end: minutes in `raw`, and in `processed` hours, as they are
    or made of bars that divide one; then note what of that span it answered for.

    Raises    TooManyRejects, WrongZone, NoRows, DataError: nothing was stored; `rejects_csv` names the bad rows
    """
    stagings: dict[Path, Staging] = {}
    counts: list[pl.DataFrame] = []
    answers: list[tuple[Answer, ...]] = []  # of each batch
    longer: list[BarBatch] = []  # than minutes
    prices: list[pl.DataFrame] = [pl.DataFrame(schema=PRICES)]  # of minutes
    stamps: list[tuple[int, pl.Series]] = []  # minutes of a bar, and of each bar its stamp
    kept = rejected = kept_hours = 0
    if not 0 <= max_reject_share < 1:
        raise ConfigError(f"Expected max_reject_share of at least 0 and below 1, got {max_reject_share}")
    with ExitStack() as stack, _progress() as progress:
        task = progress.add_task(source.name, total=None, rows=0)
        for batch in _within(source.read_batches(start, end), start, end):
            if batch.minutes > 1:
                longer.append(batch)
            else:
                _stage(stagings, stack, raw, source, session).add(batch.bars)
                prices.append(batch.bars.select(PRICES.names()))
            for note in batch.notes:
                log.warning(note)
            counts.append(count_by_hour(batch.bars))
            stamps.append((batch.minutes, batch.bars["ts"]))
            answers.append(batch.answers)
            kept += batch.bars.height
            rejected += append_rejects(rejects_csv, batch.rejects)
            progress.update(task, rows=kept)
        _check_rejects(source, kept, rejected, max_reject_share, rejects_csv)
        warn_of_close_stamps(stamps, session, key="source.stamps")
        mismatch = session.check_zone(pl.concat(counts), max_mismatch=max_mismatch)
        came = pl.concat([*prices, *(batch.bars.select(PRICES.names()) for batch in longer)])
        stored, stored_hours = (_stored_about(came["ts"], store) for store in (raw, processed))
        if not allow_level_change:
            check_levels(came, pl.concat([stored, stored_hours]), source.name, remedy=REMEDY)
        _check_revisions(pl.concat(prices), stored, raw, source, allow_revisions)
        if longer:
            hours = make_hours(longer, session, min_minutes_share=min_minutes_share)
            if hours.is_empty() and raw.folder not in stagings:
                raise NoRows(f"Expected at least one whole session hour from {source.name}, got parts of hours only")
            staging = _stage(stagings, stack, processed, source, session)
            new = _without_made_hours(hours, raw, processed, session, min_minutes_share)
            _check_revisions(new, stored_hours, processed, source, allow_revisions)
            kept_hours = hours.height - new.height
            staging.add(new)
    # A process killed before this leaves unknown what it stored.
    if any(answers):
        told = _join_files(answers, raw, session)
        ledger.record_answers(symbol, stagings[raw.folder].store_id, source.name, told)
    upserts = {folder: staging.result for folder, staging in stagings.items()}
    return IngestResult(upserts, rejected, mismatch, kept_hours)


def _join_files(answers: Sequence[tuple[Answer, ...]], raw: BarStore, session: Session) -> list[Answer]:
    stored = raw.read_stamps()
    sessions = session.spans(stored[0], stored[-1] + MINUTE)
    told: list[Answer] = []
    for batch in answers:
        of_files = batch and batch[0].witness == FILES
        told.extend(join_to_stored(batch, stored, sessions) if of_files else batch)
    return told


def _stored_about(ts: pl.Series, store: BarStore) -> pl.DataFrame:
    """`ts, open, close` of what is stored within the span, and nearest before and after it."""
    stamps, first, last = store.read_stamps(), ts.min(), ts.max()
    before, after = stamps.filter(stamps < first).tail(1), stamps.filter(stamps > last).head(1)
    with suppress(NoRows):
        return store.read((*before, first)[0], (*after, last)[0] + MINUTE).select(PRICES.names())
    return pl.DataFrame(schema=PRICES)


def _check_revisions(
    bars: pl.DataFrame, stored: pl.DataFrame, store: BarStore, source: Source, allow_revisions: bool
) -> None:
    """Raises    DataError: the bars are another series than the stored ones, and that is not allowed"""
    revision = compare_closes(bars, stored)
    if revision.replaces and not allow_revisions:
        raise DataError(
            f"Expected {source.name} to bring the bars of {store.folder} again, or corrections of a few, got "
            f"{revision}; the other side of the quote or another vendor has its own symbol=, or set "
            f"allow_revisions=true to replace them; nothing was stored"
        )
    if revision.differing:
        log.warning("%s revises in %s %s", source.name, store.folder, revision)


def _stage(
    stagings: dict[Path, Staging], stack: ExitStack, store: BarStore, source: Source, session: Session
) -> Staging:
    if store.folder not in stagings:
        stagings[store.folder] = stack.enter_context(store.upsert(source.name, session))
    return stagings[store.folder]


def _without_made_hours(
    hours: pl.DataFrame, raw: BarStore, processed: BarStore, session: Session, min_minutes_share: float
) -> pl.DataFrame:
    """The hours but for those that are stored, and of which as many minutes are stored as make an hour."""
    minutes = count_by_hour(raw.read_stamps().to_frame())
    if hours.is_empty() or minutes.is_empty():
        return hours
    grid = session.hours(hours["ts"][0], hours["ts"][-1] + HOUR)
    made = minutes.join(grid, on="ts").filter(pl.col("bars") >= min_minutes_share * pl.col("session_minutes"))
    stored = processed.read_stamps().to_frame().join(made, on="ts", how="semi")
    return hours.join(stored, on="ts", how="anti", maintain_order="left")


def _within(batches: Iterator[BarBatch], start: datetime | None, end: datetime | None) -> Iterator[BarBatch]:
    """Bars and answers of the span alone; an answer says how many bars it brought in it."""
    if not (start or end):
        yield from batches
        return
    ts, first, last = pl.col("ts"), start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC)
    stamps = pl.Series("ts", [], TS)
    for batch in batches:
        bars = batch.bars.filter(ts >= first, ts < last)
        stamps = pl.concat([stamps, bars["ts"]])
        clipped = [(max(answer.start, first), min(answer.end, last), answer) for answer in batch.answers]
        answers = tuple(
            replace(answer, start=begin, end=stop, bars=int(stamps.is_between(begin, stop, closed="left").sum()))
            for begin, stop, answer in clipped
            if begin < stop
        )
        if bars.height or batch.rejects.height or answers or batch.notes:
            yield replace(batch, bars=bars, answers=answers)


def _check_rejects(source: Source, kept: int, rejected: int, max_reject_share: float, rejects_csv: Path) -> None:
    if kept == 0:
        why = f": {_first_rejects(rejects_csv)}; {rejects_csv} names each" if rejected else ""
        raise NoRows(f"Expected bars from {source.name}, got no good row and {rejected} bad ones{why}")
    share = rejected / (kept + rejected)
    if share > max_reject_share:
        raise TooManyRejects(
            f"Expected at most {percent(max_reject_share, 2)} bad rows from {source.name}, got {rejected} of "
            f"{kept + rejected} ({percent(share, 2)}): {_first_rejects(rejects_csv)}; nothing was stored; "
            f"{rejects_csv} names each, max_reject_share allows more"
        )


def _first_rejects(rejects_csv: Path) -> str:
    return describe_rejects(pl.read_csv(rejects_csv, schema=REJECT_SCHEMA, n_rows=1000))


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[rows]:,} bars"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


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
        if isinstance(error.__cause__, ImportError):
            raise ConfigError(
                f"Expected the libraries of {cfg._target_}, got: {error.__cause__}; "
                f"pip install 'lstm_ts[ib]', or correct source.client"
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
            session=construct(cfg.session),
            ledger=ledger,
            symbol=cfg.symbol,
            start=utc(cfg.span.start),
            end=utc(cfg.span.end),
            again=cfg.again,
            commit_s=cfg.commit_s,
            rejects_csv=rejects_csv,
        )
    except KeyboardInterrupt:
        print("Stopped: what was answered is stored, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    if not result.asked:
        print("Nothing was asked: every closed minute of the span is accounted for, or before the broker's first bar")
        return result
    print(f"{broker.name} → {raw.folder}: {result.new:,} new, {result.same:,} the same, {result.revised:,} revised")
    print(f"{result.asked:,} requests, {result.unanswered:,} of them without an answer that proves anything")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    return result


def _ingest_all(cfg: DictConfig, ledger: Ledger, source: Source) -> IngestResult:
    rejects_csv = run_folder() / "rejects.csv"
    result = ingest(
        source,
        raw=raw_store(cfg),
        processed=processed_store(cfg),
        session=construct(cfg.session),
        ledger=ledger,
        symbol=cfg.symbol,
        min_minutes_share=cfg.min_minutes_share,
        max_reject_share=cfg.max_reject_share,
        allow_level_change=cfg.allow_level_change,
        allow_revisions=cfg.allow_revisions,
        max_mismatch=cfg.max_mismatch,
        rejects_csv=rejects_csv,
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )
    for folder, upsert in result.upserts.items():
        print(f"{source.name} → {folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    if result.kept_hours:
        print(f"{result.kept_hours:,} hours left out: stored minutes have made them, and those hours stay")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    print(f"Against the sessions of their span: {result.mismatch}")
    return result


def _status(cfg: DictConfig, ledger: Ledger) -> Status:
    raw = raw_store(cfg)
    answers = ledger.answers(cfg.symbol, raw.id)  # before the bars: another process may be adding both
    return compute_status(
        cfg.symbol,
        raw.read_stamps(),
        answers,
        raw.read_revisions(),
        construct(cfg.session),
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )


main = entry_point("ingest")(run)

if __name__ == "__main__":
    main()
