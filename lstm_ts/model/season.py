"""How the size of returns by hour of day has changed of late: factors on the profile that go on learning. Pure.

The factor of an hour of day is the weighted mean of what its returns were over what was expected of them, shrunk to 1.
It changes at midnight UTC, and uses the bars that had closed by then: whoever has the same bars has the same factors.

Legend: G grid hours, S days, D hours of the day, N moments.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array

HOURS_OF_DAY = 24
MAX_SIZE = 5.0  # times what was expected; one jump is no new rhythm
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class SeasonStates:
    """The factors of each day."""

    day_S: Times  # from when they hold, ascending; before the first they are 1
    factor_SD: Array

    def at(self, ts_N: Times) -> Array:
        """(N, D) factors known at each moment."""
        return np.concatenate([np.ones((1, HOURS_OF_DAY)), self.factor_SD])[
            np.searchsorted(self.day_S, ts_N, side="right")
        ]

    def day_at(self, ts: np.datetime64) -> datetime | None:
        """Up to when the factors known then have seen bars; None: there are none."""
        row = int(np.searchsorted(self.day_S, ts, side="right"))
        return self.day_S[row - 1].item().replace(tzinfo=UTC) if row else None


NO_STATES = SeasonStates(np.empty(0, dtype="datetime64[us]"), np.empty((0, HOURS_OF_DAY)))


def compute_states(
    size_G: Array, hour_of_day_G: NDArray[np.int64], closed_ts_G: Times, *, half_life_hours: float, prior_returns: float
) -> SeasonStates:
    """size_G           of each hour's return, over what was expected of it; NaN where that is not known
    closed_ts_G      when it is known
    half_life_hours  session hours after which a return has half its weight
    prior_returns    what pulls a factor to 1 weighs as much as so many returns of its hour
    """
    known_G = ~np.isnan(size_G)
    day_G = (closed_ts_G - np.timedelta64(1, "us")).astype("datetime64[D]") + np.timedelta64(1, "D")  # first to know it
    day_S, of_day_G = np.unique(day_G, return_inverse=True)
    cells_G = of_day_G * HOURS_OF_DAY + hour_of_day_G
    shape = (len(day_S), HOURS_OF_DAY)
    count_SD = np.bincount(cells_G, known_G, minlength=np.prod(shape)).reshape(shape)
    clipped_G = np.where(known_G, size_G, 0.0).clip(max=MAX_SIZE)
    total_SD = np.bincount(cells_G, clipped_G, minlength=np.prod(shape)).reshape(shape)
    decay_S = 0.5 ** (np.bincount(of_day_G, minlength=len(day_S)) / half_life_hours)
    factor_SD, total_D, count_D = np.empty(shape), np.zeros(HOURS_OF_DAY), np.zeros(HOURS_OF_DAY)
    for day in range(len(day_S)):
        total_D = decay_S[day] * total_D + total_SD[day]
        count_D = decay_S[day] * count_D + count_SD[day]
        factor_SD[day] = (total_D + prior_returns) / (count_D + prior_returns)
    return SeasonStates(day_S.astype("datetime64[us]"), factor_SD)
