"""`python -m lstm_ts.process`: stored minutes → stored session hours."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from lstm_ts import clock
from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("process")  # before what is slow to import

import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import construct, processed_store, raw_store, typed_paths
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import AnsweredSpan, make_hourly_bars
from lstm_ts.market.completeness import classify, known_hours, unanswered
from lstm_ts.market.session import DAY, MINUTE, Session, utc
from lstm_ts.registry.ledger_check import open_ledger
from lstm_ts.scoring.tables import percent
from lstm_ts.sources.stored_series import check_revisions
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.staging import UpsertResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessResult:
    upsert: UpsertResult
    session_hours: int  # in the span of the minutes
    missing: int  # of those, the ones without a bar
    unknown: int  # of those, the ones of which the ledger does not know enough minutes


def process(
    raw: BarStore,
    processed: BarStore,
    session: Session,
    *,
    min_minutes_share: float,
    max_unknown_share: float,
    answers: Sequence[AnsweredSpan],
    complete_until: datetime | None,
    allow_revisions: bool,
) -> ProcessResult:
    """Make the hours whose minutes are known, by the answers that sources gave for them.

    A session that no answer touches comes from a store that is older than the ledger of answers: of its hours, the
    minutes themselves must span the last. `complete_until` vouches for all hours that close by then.

    allow_revisions   of stored hours by minutes of another series
    Raises    NoRows: no minutes are stored; ConfigError: they were stored with another session, or are in the future;
              DataError: stored hours are of another series
    """
    for name, share in (("min_minutes_share", min_minutes_share), ("max_unknown_share", max_unknown_share)):
        if not 0 <= share <= 1:
            raise ConfigError(f"Expected {name} within 0..1, got {share}")
    raw.check_session(session)
    minute_bars = raw.read()
    clock.check_after(minute_bars["ts"][-1])
    end = minute_bars["ts"][-1] + MINUTE
    session_hours = session.hours(minute_bars["ts"][0], end)
    known = _known(session_hours, minute_bars["ts"], answers, session, max_unknown_share, complete_until)
    until = [answer.end for answer in answers] + ([complete_until] if complete_until else [])
    hourly_bars = make_hourly_bars(
        minute_bars, known, min_minutes_share=min_minutes_share, complete_until=max(until, default=None)
    )
    with processed.upsert(raw.source, session) as staging:
        _check_series(hourly_bars, raw, processed, allow=allow_revisions)
        staging.add(hourly_bars)
    total = session_hours.height
    return ProcessResult(staging.result, total, total - hourly_bars.height, total - known.height)


def _check_series(hourly_bars: pl.DataFrame, raw: BarStore, processed: BarStore, *, allow: bool) -> None:
    """Compare the hours with the stored ones, but for those of which minutes came since or were revised."""
    if not len(processed.read_stamps()):
        return
    shares = hourly_bars.select("ts", now="minutes_share")
    stored = processed.read().join(shares, on="ts").filter(pl.col("now") <= pl.col("minutes_share"))
    accepted = raw.read_revisions()["ts"].dt.truncate("1h")
    stored = stored.filter(~pl.col("ts").is_in(accepted.implode()))
    name = f"the minutes in {raw.folder}"
    revision = check_revisions(hourly_bars, stored, processed, name, allow=allow)
    if revision.told:
        log.warning("Of %s come hours that revise in %s %s", name, processed.folder, revision)


def _known(
    hours: pl.DataFrame,
    bars_ts: pl.Series,
    answers: Sequence[AnsweredSpan],
    session: Session,
    max_unknown_share: float,
    complete_until: datetime | None,
) -> pl.DataFrame:
    if hours.is_empty():
        return hours
    first, last = hours["opens_at"][0], hours["closes_at"][-1]
    segments = classify(session.spans(first, last), bars_ts, answers)
    known = known_hours(hours, segments, max_unknown_share=max_unknown_share)
    sessions = session.spans(first - DAY, last + DAY)  # whole ones
    older = hours.join_asof(
        sessions.with_columns(unanswered=unanswered(sessions, answers)), left_on="opens_at", right_on="opens"
    )["unanswered"]
    closes_at = pl.col("closes_at")
    spanned = closes_at <= bars_ts[-1] + MINUTE
    vouched = closes_at <= complete_until if complete_until else pl.lit(False)
    return hours.filter(pl.col("ts").is_in(known["ts"].implode()) | (older & spanned) | vouched)


def run(cfg: DictConfig) -> ProcessResult:
    if not isinstance(cfg.allow_revisions, bool):
        raise ConfigError(f"Expected allow_revisions=true or false, got {cfg.allow_revisions}")
    raw, processed = raw_store(cfg), processed_store(cfg)
    with closing(open_ledger(cfg.registry.ledger, cfg.registry.uri)) as ledger:
        answers = ledger.answers(cfg.symbol.name, raw.id)
    result = process(
        raw,
        processed,
        construct(cfg.symbol.session),
        min_minutes_share=cfg.min_minutes_share,
        max_unknown_share=cfg.max_unknown_share,
        answers=answers,
        complete_until=utc(cfg.complete_until),
        allow_revisions=cfg.allow_revisions,
    )
    upsert = result.upsert
    print(f"Hourly bars → {processed.folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    share = f" ({percent(result.missing / result.session_hours, 2)})" if result.session_hours else ""
    print(f"{result.missing:,} of {result.session_hours:,} session hours have no bar{share}")
    if result.unknown:
        print(
            f"{result.unknown:,} of those are left out because too few of their minutes are known; "
            f"python -m lstm_ts.ingest action=status symbol={cfg.symbol.name}{typed_paths(cfg.paths)} says which"
        )
    return result


main = entry_point("process")(run)

if __name__ == "__main__":
    main()
