"""How old the stored bars are, and whether there should be newer ones."""

from datetime import datetime, timedelta

from lstm_ts import clock
from lstm_ts.market.session import Session
from serve.metrics import LAST_BAR_AGE, LAST_BAR_SESSION_AGE, SESSION_OPEN

LONGEST = timedelta(days=31)  # older bars are no older: the sessions of each year take seconds to lay out


class MarketFigures:
    def __init__(self, symbol: str, session: Session) -> None:
        self._symbol, self._session = symbol, session

    def update(self, last_close_at: datetime | None) -> None:
        """last_close_at   of the last bar; None: there is none"""
        now = clock.now()
        SESSION_OPEN.labels(self._symbol).set(self._session.is_open(now))
        if last_close_at:
            LAST_BAR_AGE.labels(self._symbol).set((now - last_close_at).total_seconds())
            open_s = self._session.time_open(max(last_close_at, now - LONGEST), now).total_seconds()
            LAST_BAR_SESSION_AGE.labels(self._symbol).set(open_s)
