"""Whether bars go on with the stored ones: on their level, and as the same series."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lstm_ts.errors import DataError, NoRows
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.market.levels import check_levels
from lstm_ts.market.revisions import Revision, compare_bars
from lstm_ts.store.bar_store import BarStore

MINUTE = timedelta(minutes=1)
LEVEL_SCHEMA = pl.Schema({"ts": TS} | dict.fromkeys(PRICES, pl.Float64()))
REMEDY = "take another symbol=, or allow_level_change=true if the market moved so; nothing of this was stored"

ANOTHER_SERIES = (
    "the other side of the quote or another vendor has its own symbol= or paths.data=, or set allow_revisions=true to "
    "replace them; nothing of this was stored"
)


@dataclass(frozen=True)
class SeriesLimits:
    allow_level_change: bool
    allow_revisions: bool

    def check(self, bars: pl.DataFrame, store: BarStore, name: str) -> None:
        """Raises    DataError: the bars of `name` are on another level, or another series than the stored ones"""
        if bars.is_empty():
            return
        stored = read_about(bars["ts"], store)
        if not self.allow_level_change:
            check_levels(bars, stored, name, remedy=REMEDY)
        check_revisions(bars, stored, store, name, allow=self.allow_revisions)


def read_about(ts: pl.Series, store: BarStore) -> pl.DataFrame:
    """LEVEL_SCHEMA: what is stored within the span, and nearest before and after it."""
    stamps, first, last = store.read_stamps(), ts.min(), ts.max()
    before, after = stamps.filter(stamps < first).tail(1), stamps.filter(stamps > last).head(1)
    with suppress(NoRows):
        return store.read((*before, first)[0], (*after, last)[0] + MINUTE).select(LEVEL_SCHEMA.names())
    return pl.DataFrame(schema=LEVEL_SCHEMA)


def check_revisions(bars: pl.DataFrame, stored: pl.DataFrame, store: BarStore, name: str, *, allow: bool) -> Revision:
    """Raises    DataError: more differs than corrections do, and that is not allowed"""
    revision = compare_bars(bars, stored)
    if revision.replaces and not allow:
        raise DataError(
            f"Expected {name} to bring the bars of {store.folder} again, or corrections of a few, got {revision}; "
            f"{ANOTHER_SERIES}"
        )
    return revision
