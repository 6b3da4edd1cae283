"""Check that new bars are sound and continue the stored ones: at the same price level, and as the same series."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lstm_ts.errors import BrokerError, ConfigError, DataError, LstmTsError, NoRows, WrongZone
from lstm_ts.market import spacing
from lstm_ts.market.bars import PRICES, TS, BarBatch, count_by_hour, describe_rejects
from lstm_ts.market.levels import check_levels
from lstm_ts.market.revisions import Revision, compare_bars
from lstm_ts.market.session import MINUTE, Session
from lstm_ts.market.spacing import Times
from lstm_ts.market.zone_check import find_shift_hours
from lstm_ts.scoring.tables import percent
from lstm_ts.sources.spikes import MAX_ROWS, SPIKE
from lstm_ts.store.bar_store import BarStore

NEAR = timedelta(days=7)
LEVEL_SCHEMA = pl.Schema({"ts": TS} | dict.fromkeys((*PRICES, "volume"), pl.Float64()))
REMEDY = "take another symbol=, or allow_level_change=true if the market moved so; nothing of this was stored"

ANOTHER_SERIES = (
    "the other side of the quote or another vendor has its own symbol= or paths.data=, or set allow_revisions=true to "
    "replace them; nothing of this was stored"
)


@dataclass(frozen=True)
class SeriesLimits:
    """Limits beyond which nothing is stored."""

    max_reject_share: float
    max_mismatch: float
    allow_level_change: bool
    allow_revisions: bool

    def __post_init__(self) -> None:
        if not 0 <= self.max_reject_share < 1:
            raise ConfigError(
                f"Expected max_reject_share of at least 0 and below 1, got {self.max_reject_share}; correct it"
            )

    def check(self, bars: pl.DataFrame, store: BarStore, name: str) -> None:
        """Raises    DataError: the bars of `name` have another price level than the stored ones, or another series"""
        if bars.is_empty():
            return
        stored = read_about(bars["ts"], store)
        if not self.allow_level_change:
            check_levels(bars, stored, name, remedy=REMEDY)
        check_revisions(bars, stored, store, name, allow=self.allow_revisions)

    def find_fault(
        self, batch: BarBatch, step: Sequence[pl.DataFrame], store: BarStore, session: Session, name: str
    ) -> LstmTsError | None:
        """Return why nothing of a broker's batch may be stored beside the stored bars and those of this step."""
        try:
            self._check_rejects(batch, name)
            self._check_zone(batch.bars, session, name)
            self._check_level(batch.bars, step, store, name)
        except (BrokerError, DataError) as why:
            return why
        return batch.refused

    def _check_rejects(self, batch: BarBatch, name: str) -> None:
        bad, rows = batch.rejects.height, batch.rejects.height + batch.bars.height
        spikes = batch.rejects.filter(pl.col("reason") == SPIKE).height
        limit = self.max_reject_share * rows
        if bad - spikes > limit or spikes > max(MAX_ROWS, limit):
            raise BrokerError(
                f"Expected at most {percent(self.max_reject_share, 2)} bad rows in an answer of {name}, got {bad} of "
                f"{rows}: {describe_rejects(batch.rejects)}; nothing of it was stored; max_reject_share allows more"
            )

    def _check_zone(self, bars: pl.DataFrame, session: Session, name: str) -> None:
        if bars.is_empty():
            return
        if shift := find_shift_hours(session, count_by_hour(bars), max_mismatch=self.max_mismatch):
            when = f"{abs(shift)} hours {'later' if shift > 0 else 'earlier'}"
            raise WrongZone(
                f"Expected bars that fit the sessions of {session.calendar}, got ones from "
                f"{bars['ts'][0]:%Y-%m-%d %H:%M} UTC on that would fit {when}, in {name}; nothing of this was stored; "
                f"try later, or raise max_mismatch (1 allows any)"
            )

    def _check_level(self, bars: pl.DataFrame, step: Sequence[pl.DataFrame], store: BarStore, name: str) -> None:
        if bars.is_empty() or self.allow_level_change:
            return
        stored, others = read_about(bars["ts"], store), [other for other in step if other.height]
        if stored.is_empty() and len(others) < 2:
            others = []  # of two levels either may be wrong: `check` refuses both
        check_levels(
            bars, pl.concat([stored, *(other.select(LEVEL_SCHEMA.names()) for other in others)]), name, remedy=REMEDY
        )


def read_about(ts: pl.Series, store: BarStore) -> pl.DataFrame:
    """Return the stored bars within the span, and the nearest before and after it, in LEVEL_SCHEMA."""
    stamps, first, last = store.read_stamps(), ts.min(), ts.max()
    before, after = stamps.filter(stamps < first).tail(1), stamps.filter(stamps > last).head(1)
    with suppress(NoRows):
        return store.read((*before, first)[0], (*after, last)[0] + MINUTE).select(LEVEL_SCHEMA.names())
    return pl.DataFrame(schema=LEVEL_SCHEMA)


def find_spacing(stamps_N: Times, raw: BarStore, processed: BarStore) -> int | None:
    """An hour where hours alone are stored within a week of the stamps, a minute where minutes with gaps are.

    Null where nothing is, and where each minute is: a few bars further apart are hardly minutes then.
    """
    about = pl.Series([stamps_N[0], stamps_N[-1]]).cast(TS)
    near = pl.col("ts").is_between(about[0] - NEAR, about[1] + NEAR)
    minutes, hours = (store.read_stamps().to_frame("ts").filter(near)["ts"] for store in (raw, processed))
    if minutes.is_empty():
        return None if hours.is_empty() else spacing.HOUR_US
    gap = minutes.diff().median()
    return spacing.MINUTE_US if isinstance(gap, timedelta) and gap > MINUTE else None


def check_revisions(bars: pl.DataFrame, stored: pl.DataFrame, store: BarStore, name: str, *, allow: bool) -> Revision:
    """Compare the prices.    Raises    DataError: more differ than corrections explain, and `allow` is false"""
    revision = compare_bars(bars, stored)
    if revision.replaces and not allow:
        raise DataError(
            f"Expected {name} to bring the bars of {store.folder} again, or corrections of a few, got {revision}; "
            f"{ANOTHER_SERIES}"
        )
    return revision
