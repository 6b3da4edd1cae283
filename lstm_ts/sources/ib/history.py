"""Answers of TWS to requests for history, as bars and as evidence."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lstm_ts.errors import WrongZone
from lstm_ts.market.bars import BAR_SCHEMA, BarBatch, count_by_hour, make_answers, make_rejects, reject_reason
from lstm_ts.market.session import DAY, Session
from lstm_ts.market.zone_check import find_shift_hours

LATE = timedelta(minutes=5)  # after the requested end, and a stamp is in a wrong zone


def read_answer(
    rows: Sequence[Any], start: datetime, end: datetime, *, at: datetime, observer: str, name: str
) -> BarBatch:
    """Return the bars of the day before `end`, and evidence for start <= ts < end only.

    rows   BarData of the client: date (aware), open, high, low, close, volume
    """
    rated = _frame(rows).filter(pl.col("ts") >= end - DAY, pl.col("ts") < end)
    bars = rated.filter(pl.col("reason").is_null()).select(BAR_SCHEMA.names())
    bad = rated.filter(pl.col("reason").is_not_null())
    answers = make_answers(start, end, good=bars["ts"], bad=bad["ts"], at=at, observer=observer)
    return BarBatch(bars, rejects=make_rejects(bad, name), answers=answers)


def check_stamps(rows: Sequence[Any], end: datetime, session: Session, *, max_mismatch: float) -> None:
    """Raises    WrongZone: stamps after the requested end, or in closed hours as a wrong zone would put them"""
    if not rows:
        return
    rated = _frame(rows)
    shift, last = find_shift_hours(session, count_by_hour(rated), max_mismatch=max_mismatch), max(rated["ts"])
    if shift or last >= end + LATE:
        when = f"{abs(shift)} hours {'later' if shift > 0 else 'earlier'}"
        off = f"ones that {when} would fit the sessions" if shift else f"one at {last:%Y-%m-%d %H:%M}"
        raise WrongZone(
            f"Expected stamps of the day before {end:%Y-%m-%d %H:%M} UTC from IB, got {off}; "
            f"check the zone of TWS and of its machine; nothing of this answer was stored"
        )


def _frame(rows: Sequence[Any]) -> pl.DataFrame:
    """Return BAR_SCHEMA, ascending and unique in `ts`, and `reason` where a row is bad."""
    values = [(row.date, row.open, row.high, row.low, row.close, row.volume, None) for row in rows]
    rated = pl.DataFrame(values, schema=BAR_SCHEMA, orient="row").unique("ts", keep="last").sort("ts")
    off = pl.when(pl.col("ts") != pl.col("ts").dt.truncate("1m")).then(pl.lit("not on a whole minute"))
    volume = pl.when(pl.col("volume") >= 0).then("volume")  # -1 where there is none
    return rated.with_columns(volume=volume, reason=pl.coalesce(off, reject_reason()))
