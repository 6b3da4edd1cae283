"""Outcomes: the close of each hour as the monitor first saw it complete, and later revisions. Pure."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from lstm_ts.ledger.monitor_rows import Outcome
from lstm_ts.market.session import HOUR


def find_outcomes(
    symbol: str, hourly_bars: pl.DataFrame, known: Sequence[Outcome], *, since: datetime, now: datetime
) -> list[Outcome]:
    """Return outcomes of targets from `since` to `now` that are not recorded yet, and revisions of recorded ones.

    hourly_bars   of complete hours; the outcome of a missing hour stays unknown
    known         all revisions of the same span, ascending
    """
    latest = {outcome.target_ts: outcome for outcome in known}
    closes = hourly_bars.select(target_ts=pl.col("ts") + HOUR, close="close").filter(
        pl.col("target_ts") >= since, pl.col("target_ts") <= now
    )
    found = []
    for target_ts, close in closes.iter_rows():
        before = latest.get(target_ts)
        if before is None or before.close != close:
            found.append(Outcome(symbol, target_ts, before.revision + 1 if before else 0, now, close))
    return found
