"""Metrics of the age of the stored bars and of the monitor's last run, also in session time, and of open sessions."""

from collections.abc import Callable
from datetime import datetime, timedelta

from lstm_ts import clock
from lstm_ts.market.session import Session
from serve.metrics import LAST_BAR_AGE, LAST_BAR_SESSION_AGE, MONITOR_SESSION_AGE, SESSION_OPEN

LONGEST = timedelta(days=31)  # what is older is no older: the sessions of each year take seconds to lay out


class MarketFigures:
    def __init__(self, symbol: str, session: Session, last_run: Callable[[], datetime | None]) -> None:
        """last_run   of the monitor; None: not known"""
        self._symbol, self._session, self._last_run = symbol, session, last_run

    def update(self, last_close_at: datetime | None) -> None:
        """last_close_at   of the last bar; None: there is none"""
        now, run_at = clock.now(), self._last_run()
        SESSION_OPEN.labels(self._symbol).set(self._session.is_open(now))
        if last_close_at:
            LAST_BAR_AGE.labels(self._symbol).set((now - last_close_at).total_seconds())
            LAST_BAR_SESSION_AGE.labels(self._symbol).set(self._time_open_s(last_close_at, now))
        if run_at:
            MONITOR_SESSION_AGE.labels(self._symbol).set(self._time_open_s(run_at, now))

    def _time_open_s(self, since: datetime, now: datetime) -> float:
        return self._session.time_open(max(since, now - LONGEST), now).total_seconds()
