"""`python -m lstm_ts.process`: stored minutes → stored session hours."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from omegaconf import DictConfig

from lstm_ts.bars import make_hourly_bars
from lstm_ts.cli import construct, entry_point, processed_store, raw_store
from lstm_ts.errors import ConfigError
from lstm_ts.session import Session, utc
from lstm_ts.store import BarStore, UpsertResult


@dataclass(frozen=True)
class ProcessResult:
    upsert: UpsertResult
    session_hours: int  # in the span of the minutes
    missing: int  # of those, the ones without a bar


def process(
    raw: BarStore,
    processed: BarStore,
    session: Session,
    *,
    min_minutes_share: float,
    complete_until: datetime | None = None,
) -> ProcessResult:
    """Raises    NoRows: no minutes are stored"""
    if not 0 <= min_minutes_share <= 1:
        raise ConfigError(f"Expected min_minutes_share within 0..1, got {min_minutes_share}")
    minute_bars = raw.read()
    end = minute_bars["ts"][-1] + timedelta(minutes=1)
    session_hours = session.hours(minute_bars["ts"][0], end)
    hourly_bars = make_hourly_bars(
        minute_bars, session_hours, min_minutes_share=min_minutes_share, complete_until=complete_until
    )
    with processed.upsert(raw.source) as staging:
        staging.add(hourly_bars)
    return ProcessResult(staging.result, session_hours.height, session_hours.height - hourly_bars.height)


def run(cfg: DictConfig) -> ProcessResult:
    processed = processed_store(cfg)
    result = process(
        raw_store(cfg),
        processed,
        construct(cfg.session),
        min_minutes_share=cfg.min_minutes_share,
        complete_until=utc(cfg.complete_until),
    )
    upsert = result.upsert
    print(f"Hourly bars → {processed.folder}: {upsert.new:,} new, {upsert.same:,} the same, {upsert.revised:,} revised")
    print(
        f"{result.missing:,} of {result.session_hours:,} session hours have no bar "
        f"({result.missing / result.session_hours:.2%})"
    )
    return result


main = entry_point("process")(run)

if __name__ == "__main__":
    main()
