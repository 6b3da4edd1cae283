"""Recent change in the size of returns by hour of the week: factors on the profile that keep learning. Pure.

The factor of an hour of day is the weighted mean of its returns' sizes over the expected ones, shrunk to 1. Sizes over
that factor have such a mean by hour of the week, over a longer memory; an hour of the week has the product of both.
Factors change at midnight UTC, and use the bars closed by then: the same bars give the same factors.

Legend: G grid hours, S days, D hours of the day, W hours of the week, K groups of hours, N moments, H steps.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array

HOURS_OF_DAY, HOURS_OF_WEEK = 24, 168
MAX_SIZE = 5.0  # times the expected size; one jump is no new rhythm
WEEK_MEMORY = 4  # times the half-life of the hours of day
WEEK_PRIOR_RETURNS = 60
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class SeasonStates:
    """The factors of each day."""

    day_S: Times  # start of their validity, ascending; before the first they are 1
    factor_SW: Array
    known_S: NDArray[np.bool_]  # a return of that day is known

    def at(self, ts_N: Times, hour_of_week_NH: NDArray[np.int64]) -> Array:
        """Return (N, H) factors of hours of the week, as known at each moment."""
        if not len(self.day_S):
            return np.ones(hour_of_week_NH.shape)
        row_N1 = np.searchsorted(self.day_S, ts_N, side="right")[:, None] - 1
        return np.where(row_N1 < 0, 1.0, self.factor_SW[row_N1.clip(0), hour_of_week_NH])

    def day_at(self, ts: np.datetime64) -> datetime | None:
        """Return the end of the bars behind the factors that are valid at `ts`; None: there are none."""
        known = np.flatnonzero(self.known_S[: np.searchsorted(self.day_S, ts, side="right")])
        return self.day_S[known[-1]].item().replace(tzinfo=UTC) if len(known) else None


NO_STATES = SeasonStates(np.empty(0, dtype="datetime64[us]"), np.empty((0, HOURS_OF_WEEK)), np.empty(0, bool))


def compute_states(
    size_G: Array,
    hour_of_week_G: NDArray[np.int64],
    closed_ts_G: Times,
    *,
    half_life_hours: float,
    prior_returns: float,
) -> SeasonStates:
    """size_G           size of each hour's return over the expected one; NaN: not known
    closed_ts_G      when each size is known
    half_life_hours  session hours after which a return has half its weight in the factor of its hour of day
    prior_returns    weight of the pull of that factor to 1, as a number of returns
    """
    day_G = (closed_ts_G - np.timedelta64(1, "us")).astype("datetime64[D]") + np.timedelta64(1, "D")  # first to know it
    day_S, of_day_G = np.unique(day_G, return_inverse=True)
    hour_of_day_G = hour_of_week_G % HOURS_OF_DAY
    size_G = size_G.clip(max=MAX_SIZE)
    factor_SD = _decayed_means(size_G, of_day_G, hour_of_day_G, HOURS_OF_DAY, half_life_hours, prior_returns)
    before_SD = np.concatenate([np.ones((1, HOURS_OF_DAY)), factor_SD])
    left_G = size_G / before_SD[of_day_G, hour_of_day_G]
    prior = max(prior_returns, WEEK_PRIOR_RETURNS)
    week_SW = _decayed_means(left_G, of_day_G, hour_of_week_G, HOURS_OF_WEEK, WEEK_MEMORY * half_life_hours, prior)
    factor_SW = factor_SD[:, np.arange(HOURS_OF_WEEK) % HOURS_OF_DAY] * week_SW
    known_S = np.bincount(of_day_G, ~np.isnan(size_G), minlength=len(day_S)) > 0
    return SeasonStates(day_S.astype("datetime64[us]"), factor_SW, known_S)


def _decayed_means(
    size_G: Array,
    of_day_G: NDArray[np.int64],
    group_G: NDArray[np.int64],
    groups: int,
    half_life_hours: float,
    prior_returns: float,
) -> Array:
    """Return (S, K) weighted means by group after each day, shrunk to 1."""
    known_G, days = ~np.isnan(size_G), int(of_day_G.max(initial=-1)) + 1
    cells_G = of_day_G * groups + group_G
    count_SK = np.bincount(cells_G, known_G, minlength=days * groups).reshape(days, groups)
    total_SK = np.bincount(cells_G, np.where(known_G, size_G, 0.0), minlength=days * groups).reshape(days, groups)
    decay_S = 0.5 ** (np.bincount(of_day_G, minlength=days) / half_life_hours)
    factor_SK, total_K, count_K = np.empty((days, groups)), np.zeros(groups), np.zeros(groups)
    for day in range(days):
        total_K = decay_S[day] * total_K + total_SK[day]
        count_K = decay_S[day] * count_K + count_SK[day]
        factor_SK[day] = (total_K + prior_returns) / (count_K + prior_returns)
    return factor_SK
