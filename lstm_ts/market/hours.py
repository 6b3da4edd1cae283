"""Hourly bars of whatever a source delivers: hours as they are, hours made of minutes and of bars that divide one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import polars as pl

from lstm_ts.errors import DataError, NoRows
from lstm_ts.market.bars import (
    HOURLY_SCHEMA,
    BarBatch,
    count_by_hour,
    describe_rejects,
    make_hourly_bars,
)
from lstm_ts.market.levels import check_levels
from lstm_ts.market.revisions import keep_last
from lstm_ts.market.session import HOUR, Session
from lstm_ts.market.zone_check import check_minutes, check_zone


def check_hours(
    batches: Sequence[BarBatch], session: Session, name: str, *, min_minutes_share: float, max_mismatch: float
) -> pl.DataFrame:
    """Hourly bars of files, as `ingest` and `process` would make them.

    Raises    NoRows: not one good row, not one whole hour; WrongZone; DataError: prices of two levels or series
    """
    batches = [replace(batch, bars=without_closed(batch, session)) for batch in batches]
    rejects = pl.concat([batch.rejects for batch in batches])
    if not any(batch.bars.height for batch in batches):
        why = f": {describe_rejects(rejects)}" if rejects.height else ""
        raise NoRows(
            f"Expected hourly or minute bars from {name}, got no good row and {rejects.height} bad ones{why}; "
            f"check the file"
        )
    if replaces := next((batch.replaces for batch in batches if batch.replaces), ""):
        raise DataError(f"Expected {replaces}; give the files of one series alone")
    counts = [count_by_hour(batch.bars).with_columns(part=pl.lit(batch.part)) for batch in batches]
    check_zone(session, pl.concat(counts), max_mismatch=max_mismatch)
    check_minutes(session, [(batch.minutes, batch.bars["ts"]) for batch in batches], max_mismatch=max_mismatch)
    hourly_bars = make_hours(batches, session, min_minutes_share=min_minutes_share)
    if hourly_bars.is_empty():
        raise NoRows(f"Expected hourly or minute bars from {name}, got not one whole session hour; give more bars")
    bars = pl.concat([batch.bars for batch in batches])
    check_levels(bars, bars.clear(), name, remedy="correct it, or give the bars of one level alone")
    return hourly_bars


def without_closed(batch: BarBatch, session: Session) -> pl.DataFrame:
    """Return the bars without those of one price and no volume in closed hours, by which some vendors fill these."""
    bars = batch.bars
    if not batch.volumes:
        return bars
    unmoved = pl.all_horizontal(pl.col("high", "low", "close") == pl.col("open"))
    hour = pl.col("ts").dt.truncate("1h")
    filled = unmoved & (pl.col("volume") == 0).fill_null(False)
    first, last = bars.filter(filled).select(hour.min().alias("first"), hour.max().alias("last")).row(0)
    if first is None:
        return bars
    return bars.filter(~filled | hour.is_in(session.hours(first, last + HOUR)["ts"].implode()))


def make_hours(batches: Sequence[BarBatch], session: Session, *, min_minutes_share: float) -> pl.DataFrame:
    """Hours of bars of any spacing; where two spacings make the same hour, that of the finer bars.

    Returns   HOURLY_SCHEMA, ascending and unique in `ts`
    """
    hours = [pl.DataFrame(schema=HOURLY_SCHEMA)]
    for minutes in sorted({batch.minutes for batch in batches}, reverse=True):
        bars = pl.concat([batch.bars for batch in batches if batch.minutes == minutes])
        bars = keep_last(bars).sort("ts")
        if minutes == 60:
            hours.append(whole_hours(bars))
        elif bars.height:
            session_hours = session.hours(bars["ts"][0], bars["ts"][-1] + timedelta(minutes=minutes))
            hours.append(make_hourly_bars(bars, session_hours, min_minutes_share=min_minutes_share, minutes=minutes))
    return keep_last(pl.concat(hours)).sort("ts")


def whole_hours(bars: pl.DataFrame) -> pl.DataFrame:
    """HOURLY_SCHEMA of hours as a source delivers them."""
    return bars.with_columns(minutes_share=pl.lit(1.0)).select(HOURLY_SCHEMA.names())
