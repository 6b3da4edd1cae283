"""`python -m lstm_ts.ingest`: a source's bars into the store, all of them or none."""

import logging
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lstm_ts.backfill import append_rejects, backfill
from lstm_ts.bars import HOURLY_SCHEMA, Answer, BarBatch, Broker, Source, count_by_hour
from lstm_ts.cli import construct, entry_point, processed_store, raw_store, run_folder
from lstm_ts.errors import ConfigError, NoRows, TooManyRejects
from lstm_ts.ledger import Ledger
from lstm_ts.session import Mismatch, Session, utc
from lstm_ts.status import Status, compute_status, format_status
from lstm_ts.store import BarStore, Staging, UpsertResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestResult:
    upserts: dict[Path, UpsertResult]  # by store folder
    rejected: int
    mismatch: Mismatch


def ingest(
    source: Source,
    *,
    raw: BarStore,
    processed: BarStore,
    session: Session,
    ledger: Ledger,
    symbol: str,
    max_reject_share: float,
    max_mismatch: float,
    rejects_csv: Path,
) -> IngestResult:
    """Store what the source delivers: minutes in `raw`, whole hours in `processed`; then note what it answered for.

    Raises    TooManyRejects, WrongZone, NoRows: nothing was stored; the bad rows are named in `rejects_csv`
    """
    stagings: dict[Path, Staging] = {}
    counts: list[pl.DataFrame] = []
    answers: list[Answer] = []
    kept = rejected = 0
    if not 0 <= max_reject_share < 1:
        raise ConfigError(f"Expected max_reject_share of at least 0 and below 1, got {max_reject_share}")
    with ExitStack() as stack, _progress() as progress:
        task = progress.add_task(source.name, total=None, rows=0)
        for batch in source.read_batches():
            store = processed if batch.hourly else raw
            if store.folder not in stagings:
                stagings[store.folder] = stack.enter_context(store.upsert(source.name))
            stagings[store.folder].add(_stored_columns(batch))
            counts.append(count_by_hour(batch.bars))
            answers.extend(batch.answers)
            kept += batch.bars.height
            rejected += append_rejects(rejects_csv, batch.rejects)
            progress.update(task, rows=kept)
        _check_rejects(source, kept, rejected, max_reject_share, rejects_csv)
        mismatch = session.check_zone(pl.concat(counts), max_mismatch=max_mismatch)
    ledger.record_answers(symbol, source.name, answers)  # a process killed before this leaves unknown what it stored
    return IngestResult({folder: staging.result for folder, staging in stagings.items()}, rejected, mismatch)


def _stored_columns(batch: BarBatch) -> pl.DataFrame:
    if not batch.hourly:
        return batch.bars
    return batch.bars.with_columns(minutes_share=pl.lit(1.0)).select(HOURLY_SCHEMA.names())


def _check_rejects(source: Source, kept: int, rejected: int, max_reject_share: float, rejects_csv: Path) -> None:
    if kept == 0:
        raise NoRows(f"Expected bars from {source.name}, got no good row and {rejected} bad ones")
    share = rejected / (kept + rejected)
    if share > max_reject_share:
        raise TooManyRejects(
            f"Expected at most {max_reject_share:.2%} bad rows from {source.name}, got {rejected} of {kept + rejected} "
            f"({share:.2%}), and nothing was stored; {rejects_csv} names each, max_reject_share allows more"
        )


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[rows]:,} bars"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


@entry_point("ingest")
def main(cfg: DictConfig) -> None:
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        match cfg.action:
            case "ingest":
                _ingest(cfg, ledger)
            case "status":
                print(format_status(_status(cfg, ledger)))
            case other:
                raise ConfigError(f"Expected action=ingest or status, got {other}")


def _ingest(cfg: DictConfig, ledger: Ledger) -> None:
    source = _make_source(cfg.source)
    if isinstance(source, Broker):
        _backfill(cfg, ledger, source)
    elif cfg.span.start or cfg.span.end or cfg.again:
        raise ConfigError(f"Expected span and again only with source=ib, got them with {source.name}; leave them out")
    else:
        _ingest_all(cfg, ledger, source)


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


def _backfill(cfg: DictConfig, ledger: Ledger, broker: Broker) -> None:
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
        return
    print(f"{broker.name} → {raw.folder}: {result.new:,} new, {result.same:,} the same, {result.revised:,} revised")
    print(f"{result.asked:,} requests, {result.unanswered:,} of them without an answer that proves anything")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")


def _ingest_all(cfg: DictConfig, ledger: Ledger, source: Source) -> None:
    rejects_csv = run_folder() / "rejects.csv"
    result = ingest(
        source,
        raw=raw_store(cfg),
        processed=processed_store(cfg),
        session=construct(cfg.session),
        ledger=ledger,
        symbol=cfg.symbol,
        max_reject_share=cfg.max_reject_share,
        max_mismatch=cfg.max_mismatch,
        rejects_csv=rejects_csv,
    )
    for folder, upsert in result.upserts.items():
        print(f"{source.name} → {folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    print(f"Against the sessions of their span: {result.mismatch}")


def _status(cfg: DictConfig, ledger: Ledger) -> Status:
    raw = raw_store(cfg)
    return compute_status(
        cfg.symbol,
        raw.read_stamps(),
        ledger.answers(cfg.symbol),
        raw.read_revisions(),
        construct(cfg.session),
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )


if __name__ == "__main__":
    main()
