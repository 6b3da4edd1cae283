"""Hourly bars of whatever a source delivers: hours as they are, hours made of minutes and of bars that divide one."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from lstm_ts.bars import HOURLY_SCHEMA, BarBatch, make_hourly_bars
from lstm_ts.session import Session


def make_hours(batches: Sequence[BarBatch], session: Session, *, min_minutes_share: float) -> pl.DataFrame:
    """Hours of bars of any spacing; where two spacings make the same hour, that of the finer bars.

    Returns   HOURLY_SCHEMA, ascending and unique in `ts`
    """
    hours = [pl.DataFrame(schema=HOURLY_SCHEMA)]
    for minutes in sorted({batch.minutes for batch in batches}, reverse=True):
        bars = pl.concat([batch.bars for batch in batches if batch.minutes == minutes])
        bars = bars.unique("ts", keep="last", maintain_order=True).sort("ts")
        if minutes == 60:
            hours.append(whole_hours(bars))
        elif bars.height:
            session_hours = session.hours(bars["ts"][0], bars["ts"][-1] + timedelta(minutes=minutes))
            hours.append(make_hourly_bars(bars, session_hours, min_minutes_share=min_minutes_share, minutes=minutes))
    return pl.concat(hours).unique("ts", keep="last", maintain_order=True).sort("ts")


def whole_hours(bars: pl.DataFrame) -> pl.DataFrame:
    """HOURLY_SCHEMA of hours as a source delivers them."""
    return bars.with_columns(minutes_share=pl.lit(1.0)).select(HOURLY_SCHEMA.names())
