"""Time on which closed hours are left out, and the day of trading that a bar belongs to.

Legend: S spans, N moments (microseconds since 1970).
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from lstm_ts.market.session import HOUR, Session

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
BEYOND = timedelta(days=7)  # of the bars: as long as a market is closed at most
MINUTE_US, HOUR_US, DAY_US = 60_000_000, 3_600_000_000, 86_400_000_000
SLIGHTLY = 1e-6  # minutes


class OpenTime:
    """A place is a number of minutes during which the market was open; closed hours with a bar count as open."""

    def __init__(self, session: Session, ts: pl.Series) -> None:
        """ts    of the bars, ascending, at least one"""
        around = session.spans(ts[0] - BEYOND, ts[-1] + HOUR + BEYOND)
        opens_S, closes_S = (around[name].to_physical().to_numpy() for name in ("opens", "closes"))
        ts_N = ts.to_physical().to_numpy()
        starts_S, ends_S = join_spans(*add_hours(opens_S, closes_S, ts_N))
        self._known_us = np.stack([starts_S, ends_S], axis=1).ravel().astype(np.float64)
        open_for = np.diff(self._known_us) / MINUTE_US
        open_for[1::2] = 0.0  # between two spans
        self._places = np.append(0.0, np.cumsum(open_for))
        self._closes_S = closes_S

    def places(self, ts: pl.Series) -> Floats:
        """A moment at which the market is closed lies where it opens next."""
        return np.asarray(np.interp(ts.to_physical().to_numpy(), self._known_us, self._places))

    def place(self, at: datetime) -> float:
        return float(np.interp(1e6 * at.timestamp(), self._known_us, self._places))

    def moment(self, place: float, *, ends: bool = False) -> datetime:
        """ends    say when the market has closed, where it opens again at the same place"""
        at_us = np.interp(place + (-SLIGHTLY if ends else SLIGHTLY), self._places, self._known_us)
        return datetime.fromtimestamp(60 * round(float(at_us) / MINUTE_US), UTC)

    def days(self, ts: pl.Series) -> pl.Series:
        """The dates on which the sessions of bars close, which is how trading counts its days."""
        at_N = np.searchsorted(self._closes_S, ts.to_physical().to_numpy(), "right")
        closes_N = self._closes_S[np.minimum(at_N, len(self._closes_S) - 1)]
        return pl.Series("day", ((closes_N - 1) // DAY_US).astype(np.int32)).cast(pl.Date)


def add_hours(opens_S: Times, closes_S: Times, ts_N: Times) -> tuple[Times, Times]:
    """Starts and ends of the sessions, and of the hours of bars that lie in none."""
    before_N = np.searchsorted(opens_S, ts_N, "right") - 1
    outside = ts_N[(before_N < 0) | (ts_N >= closes_S[np.maximum(before_N, 0)])]
    hours = HOUR_US * np.unique(outside // HOUR_US)
    return np.concatenate([opens_S, hours]), np.concatenate([closes_S, hours + HOUR_US])


def join_spans(starts_S: Times, ends_S: Times) -> tuple[Times, Times]:
    """Starts and ends, ascending, of what the spans cover."""
    order = np.argsort(starts_S, kind="stable")
    starts_S, reached_S = starts_S[order], np.maximum.accumulate(ends_S[order])
    apart = starts_S[1:] > reached_S[:-1]
    return starts_S[np.append(True, apart)], reached_S[np.append(apart, True)]
