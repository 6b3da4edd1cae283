"""A worker's copy of a store's bars in memory, with the season states computed from them."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lstm_ts.errors import ConfigError, DataError
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.model.features import Bars
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.season import NO_STATES, SeasonStates
from lstm_ts.store.bar_store import BarStore

FIRST_S = 2.0  # a worker waits so long for its bars before it answers


class _Read(NamedTuple):
    changed: int  # the store's `changed` before the read
    bars: Bars
    source: str  # of the bars
    states: dict[int, tuple[Forecaster, SeasonStates]]  # by version
    requested: set[int]  # versions requested since then; the next read drops the others


class StoredBars:
    """The store's bars and season states, read again when the store has changed.

    A thread follows the store, so that a request with its own window never waits for a disk.
    """

    def __init__(self, folder: Path) -> None:
        self._store = BarStore(folder, HOURLY_SCHEMA)
        self._last: _Read | None = None

    def follow(self, poll_s: float, on_read: Callable[[datetime | None], None]) -> None:
        """Read in the background from now on; wait at most FIRST_S for the first read.

        on_read    receives after each read when the last bar closed; None: there is none
        """
        read = threading.Event()
        threading.Thread(target=self._follow, args=(poll_s, read, on_read), name="bars", daemon=True).start()
        read.wait(FIRST_S)

    def _follow(self, poll_s: float, read: threading.Event, on_read: Callable[[datetime | None], None]) -> None:
        while True:
            with suppress(DataError, OSError):  # empty, or being repaired: the last read stays
                self._refresh()
            read.set()
            with suppress(ConfigError):  # an unknown calendar
                on_read(self._last.bars.ts_N[-1].item().replace(tzinfo=UTC) + HOUR if self._last else None)
            time.sleep(poll_s)

    def latest(self, count: int) -> Bars:
        """Return the last bars.    Raises    NoRows: an empty store; DataError: a damaged file"""
        return self._refresh().bars.tail(count)

    @property
    def source(self) -> str:
        """Source of the bars that were read last."""
        return self._last.source if self._last else ""

    def season_states(self, version: int, forecaster: Forecaster) -> SeasonStates:
        """Return a version's season states after the bars that were read last."""
        if (last := self._last) is None:
            return NO_STATES
        if version not in last.states:
            last.states[version] = forecaster, forecaster.season_states(forecaster.grid(last.bars))
        last.requested.add(version)
        return last.states[version][1]

    def _refresh(self) -> _Read:
        """Read the store again if it has changed; another thread may do so at the same time."""
        last, changed = self._last, self._store.changed
        if last is None or not changed or changed != last.changed:
            bars = Bars.of(self._store.read())
            requested = {version: last.states[version][0] for version in tuple(last.requested)} if last else {}
            states = {version: (each, each.season_states(each.grid(bars))) for version, each in requested.items()}
            last = self._last = _Read(changed, bars, self._store.source, states, set())
        return last
