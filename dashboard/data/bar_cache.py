"""Cache of the stored bars, shared by all visitors, and the coverage of their session minutes."""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock

import polars as pl

from dashboard.data.coverage import by_day
from dashboard.settings import DashboardSettings
from dashboard.ui.open_time import OpenTime
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA, PRICES, AnsweredSpan
from lstm_ts.market.completeness import State, classify
from lstm_ts.market.symbol import check_symbol
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.coverage import Status, compute_status
from lstm_ts.store.manifest import stores_in

MINUTES, HOURS = "Minutes", "Hours"
PLACES = {MINUTES: ("raw", BAR_SCHEMA), HOURS: ("processed", HOURLY_SCHEMA)}
HELD_ROWS = 6_000_000  # of 60 bytes, over all stores; the one asked for last is held whatever its size


@dataclass(frozen=True)
class CachedBars:
    bars: pl.DataFrame  # `ts`, PRICES, `volume`, `spread` and `day`, of trading, ascending
    time: OpenTime
    changed: int


@dataclass(frozen=True)
class Known:
    """Coverage of a symbol's session minutes, with the source of its bars and the answers of all sources."""

    status: Status
    days: pl.DataFrame  # see `coverage.by_day`
    unknown: pl.DataFrame  # frame `start, end`; unlike those of the status, none goes on over closed hours
    source: str  # that delivered the bars
    changed_at: datetime  # the bars
    answers: list[AnsweredSpan]


class BarCache:
    """Cache of the stored bars by symbol and kind; its methods may be called in any thread."""

    def __init__(self, settings: DashboardSettings) -> None:
        self._settings, self._lock = settings, Lock()
        self._held: dict[tuple[str, str], CachedBars] = {}  # the one asked for last is the last

    def symbols(self) -> list[str]:
        """Return the symbols with bars; the configured symbol comes first, even without bars."""
        found = {symbol for folder, _ in PLACES.values() for symbol in stores_in(self._settings.data / folder)}
        return list(dict.fromkeys([self._settings.symbol, *sorted(found)]))

    def kinds(self, symbol: str) -> list[str]:
        return [kind for kind in PLACES if self._store(symbol, kind).changed]

    def bars(self, symbol: str, kind: str) -> CachedBars:
        """Return the bars, the same for all visitors until the store changes.    Raises    NoRows, DataError"""
        store, key = self._store(symbol, kind), (symbol, kind)
        with self._lock:  # one visitor reads, the others wait for what it finds
            changed, held = store.changed, self._held.pop(key, None)
            if held is None or held.changed != changed:
                held = self._read(store, symbol, changed)
            self._held[key] = held
            while len(self._held) > 1 and sum(each.bars.height for each in self._held.values()) > HELD_ROWS:
                self._held.pop(next(iter(self._held)))
            return held

    def _read(self, store: BarStore, symbol: str, changed: int) -> CachedBars:
        bars = store.read().select("ts", *PRICES, "volume", "spread").rechunk()
        time = OpenTime(self._settings.session_of(symbol), bars["ts"])
        return CachedBars(bars.with_columns(time.days(bars["ts"])), time, changed)

    def known(self, symbol: str) -> Known:
        """Return what `lstm_ts.ingest action=status` prints.    Raises    NoRows, DataError, LedgerError"""
        store, session = self._store(symbol, MINUTES), self._settings.session_of(symbol)
        with closing(Ledger(self._settings.ledger_url, make=False)) as ledger:
            answers = ledger.answers(symbol, store.id)  # before the bars: another process may be adding both
        bars_ts = self.bars(symbol, MINUTES).bars["ts"]
        status = compute_status(symbol, bars_ts, answers, store.read_revisions(), session, start=None, end=None)
        segments = classify(session.spans(status.start, status.end), bars_ts, answers)
        changed_at = datetime.fromtimestamp(store.changed / 1e9, UTC)
        unknown = segments.filter(pl.col("state") == State.UNKNOWN).select("start", "end")
        days = by_day(segments, status.start, status.end)
        return Known(status, days, unknown, store.source, changed_at, answers)

    def _store(self, symbol: str, kind: str) -> BarStore:
        folder, schema = PLACES[kind]
        return BarStore(self._settings.data / folder / check_symbol(symbol), schema)


@lru_cache(maxsize=1)
def stored(settings: DashboardSettings) -> BarCache:
    """Return the cache of this process."""
    return BarCache(settings)
