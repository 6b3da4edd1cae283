"""What the market did, by the bar as it was when the monitor first saw it complete. Pure."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from lstm_ts.ledger.monitor_rows import Outcome
from lstm_ts.market.session import HOUR


def find_outcomes(
    symbol: str, hourly_bars: pl.DataFrame, known: Sequence[Outcome], *, since: datetime, now: datetime
) -> list[Outcome]:
    """Outcomes of targets from `since` to `now` that are not known yet, and later revisions of those that are.

    hourly_bars   of complete hours; one that is not there stays unknown
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
