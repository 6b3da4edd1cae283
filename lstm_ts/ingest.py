"""`python -m lstm_ts.ingest`: a source's bars into the store: of files all or none, of a broker step by step."""

import logging
import sys
from contextlib import closing

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("ingest")  # before what is slow to import

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from lstm_ts.cli import INTERRUPTED, entry_point
from lstm_ts.configuration.parts import construct, processed_store, raw_store, run_folder
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import Broker, Source
from lstm_ts.market.session import utc
from lstm_ts.registry.ledger_check import open_ledger
from lstm_ts.sources.backfill import Backfill, BackfillResult
from lstm_ts.sources.delivery import IngestLimits
from lstm_ts.sources.files.hourly_files import in_either_zone
from lstm_ts.sources.ingestion import IngestResult, ingest
from lstm_ts.sources.stored_series import SeriesLimits
from lstm_ts.store.coverage import Status, compute_status, format_status, list_minutes

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> IngestResult | BackfillResult | None:
    """Returns    None: only the status was shown"""
    _check(cfg)
    at, shown = cfg.registry, cfg.action == "status"
    with closing(Ledger(at.ledger, make=False) if shown else open_ledger(at.ledger, at.uri)) as ledger:
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
    start, end = utc(cfg.span.start), utc(cfg.span.end)
    if start and end and start >= end:
        raise ConfigError(f"Expected span.start before span.end, got {start} and {end}; correct one of them")
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
        result = Backfill(
            broker=broker,
            raw=raw,
            session=construct(cfg.symbol.session),
            ledger=ledger,
            symbol=cfg.symbol.name,
            commit_s=cfg.commit_s,
            limits=SeriesLimits(
                max_reject_share=cfg.max_reject_share,
                max_mismatch=cfg.max_mismatch,
                allow_level_change=cfg.allow_level_change,
                allow_revisions=cfg.allow_revisions,
            ),
            rejects_csv=rejects_csv,
        ).run(utc(cfg.span.start), utc(cfg.span.end), again=cfg.again)
    except KeyboardInterrupt:
        log.warning("Interrupted: the answers received are stored; the same command resumes from there")
        sys.exit(INTERRUPTED)
    if not result.asked:
        print(
            "Nothing was requested: every closed minute of the span is accounted for, or before the broker's first bar"
        )
        return result
    print(f"{broker.name} → {raw.folder}: {result.new:,} new, {result.same:,} the same, {result.revised:,} revised")
    print(f"{result.asked:,} spans requested, {result.unanswered:,} of them without a conclusive answer")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    return result


def _ingest_all(cfg: DictConfig, ledger: Ledger, source: Source) -> IngestResult:
    rejects_csv = run_folder() / "rejects.csv"

    def attempt() -> IngestResult:
        rejects_csv.unlink(missing_ok=True)
        return ingest(
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

    result = in_either_zone(attempt, source)
    for folder, upsert in result.upserts.items():
        print(f"{source.name} → {folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    if result.repeated:
        print(f"{result.repeated:,} minutes came more than once in these files; each is stored once")
    if result.longer != result.made_hours:
        print(f"{result.longer:,} bars longer than a minute make {result.made_hours:,} hours; parts of hours make none")
    if result.kept_hours:
        print(f"{result.kept_hours:,} hours left out: stored minutes have made them, and those hours stay")
    if result.rejected:
        print(f"{result.rejected:,} bad rows left out; {rejects_csv} names each")
    print(f"Against the sessions of their span: {result.mismatch}")
    return result


def _status(cfg: DictConfig, ledger: Ledger) -> Status:
    store, session = raw_store(cfg), construct(cfg.symbol.session)
    answers = ledger.answers(cfg.symbol.name, store.id)  # before the bars: another process may be adding both
    bars_ts = store.read_stamps()
    if bars_ts.is_empty():
        store = processed_store(cfg)
        bars_ts = list_minutes(store.read_stamps(), session)
        if len(bars_ts):
            print("Only hours are stored: each is shown as its minutes")
    return compute_status(
        cfg.symbol.name,
        bars_ts,
        answers,
        store.read_revisions(),
        session,
        start=utc(cfg.span.start),
        end=utc(cfg.span.end),
    )


main = entry_point("ingest")(run)

if __name__ == "__main__":
    main()
