"""The scale that returns are measured in, made of statistics of the training hours (see `scaler_fit.py`). Pure.

A return of k hours is measured in units of its scale: the seasonal profile of the k target hours times what the
window's volatilities (how far the recent ranges were above their usual size, over several half-lives) make of it, see
`har.py`. What is left to forecast is nearly free of the clock and of the level of volatility.

Legend: G grid hours, W hours of the week, D hours of the day, N windows, T tsteps, V volatilities, H steps,
K kinds of announcement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError
from lstm_ts.market.announcements import KINDS
from lstm_ts.model.features import Array, Grid, compute_returns_GH
from lstm_ts.model.season import HOURS_OF_DAY, SeasonStates, compute_states

MIN_VOLATILITY = 0.05  # of the usual range: a window of still prices is no division by zero
MIN_RANGE = 0.02


@dataclass(frozen=True)
class ScalerSettings:
    """Settings that a scaler is fitted with; see `Scaler`.    Raises    ConfigError: one is not above 0

    memory_hours   half-life of the weights in the profiles: the rhythm of the week changes over the years
    """

    half_life_hours: float
    half_lives_hours: Sequence[float]
    memory_hours: float
    season_half_life_hours: float
    season_prior_returns: float

    def __post_init__(self) -> None:
        numbers = [*self.half_lives_hours, self.half_life_hours, self.memory_hours]
        numbers += [self.season_half_life_hours, self.season_prior_returns]
        if not self.half_lives_hours or min(numbers) <= 0:
            raise ConfigError(
                f"Expected data.half_lives_hours, half_life_hours, memory_hours, season_half_life_hours and "
                f"season_prior_returns above 0, got {list(self.half_lives_hours)}, {', '.join(map(str, numbers[-4:]))}"
            )


@dataclass(frozen=True)
class Scaler:
    return_profile_W: Array  # size of a return by local hour of week, mean square 1 over the training hours
    quiet_profile_W: Array  # the same of hours without announcement, in the same units
    range_profile_W: Array  # mean log high/low by hour of week without announcement
    return_factors: Mapping[str, float]  # by kind of announcement: size of a return over that of a quiet hour
    range_factors: Mapping[str, float]
    drift_D: Array  # mean return by local hour of day, in units of its scale, shrunk
    return_unit: float  # root mean square return over profile times volatility, so one hour ahead the target's is 1
    half_life_hours: float  # of the weights in the volatility that a window's bars are measured by
    half_lives_V: Array  # hours; of those in the volatilities that the scale of its target is made of
    elasticity_VH: Array  # of that scale, by volatility and step
    usual_size: float  # mean absolute return of the training hours, in units of the scale one hour ahead
    memory_hours: float  # half-life of the weights in the profiles
    season_half_life_hours: float  # of the factors on the profile that keep updating, see `season.py`
    season_prior_returns: float

    @property
    def settings(self) -> ScalerSettings:
        """Settings that the scaler was fitted with."""
        return ScalerSettings(
            self.half_life_hours,
            self.half_lives_V.tolist(),
            self.memory_hours,
            self.season_half_life_hours,
            self.season_prior_returns,
        )

    def profile_G(self, grid: Grid) -> Array:
        """Return the size of each hour's return in the training hours, announcements included."""
        return self.quiet_profile_W[grid.hour_of_week_G] * _multiply(grid, self.return_factors)

    def usual_range_G(self, grid: Grid) -> Array:
        return self.range_profile_W[grid.hour_of_week_G] * _multiply(grid, self.range_factors)

    def relative_range_G(self, grid: Grid) -> Array:
        """Return each bar's log range over the usual one of its hour; 1 where missing."""
        return np.where(grid.missing_G, 1.0, np.maximum(grid.range_G / self.usual_range_G(grid), MIN_RANGE))

    def window_volatility_N(self, grid: Grid, *, tsteps: int) -> Array:
        """Return the weighted mean relative range of the `tsteps` hours that end at each grid row from tsteps - 1 on.

        1 is as volatile as the training hours; missing hours have no weight.
        """
        return self._volatilities(grid, tsteps, [self.half_life_hours])[0]

    def log_volatility_GV(self, grid: Grid, *, tsteps: int) -> Array:
        """Return the logs of the volatilities that the target's scale is made of; NaN in the first tsteps - 1 rows."""
        log_volatility_GV = np.full((len(grid.ts_G), len(self.half_lives_V)), np.nan)
        if len(grid.ts_G) >= tsteps:
            log_volatility_GV[tsteps - 1 :] = np.log(self._volatilities(grid, tsteps, self.half_lives_V)).T
        return log_volatility_GV

    def _volatilities(self, grid: Grid, tsteps: int, half_lives: Sequence[float] | Array) -> list[Array]:
        """Return an array (N,) for each half-life, as `window_volatility_N` does for one."""
        known_G = (~grid.missing_G).astype(np.float64)
        range_G = known_G * self.relative_range_G(grid)
        found = []
        for half_life in half_lives:
            weight_T = 0.5 ** (np.arange(tsteps)[::-1] / half_life)
            known_N, total_N = np.correlate(known_G, weight_T), np.correlate(range_G, weight_T)
            volatility_N = np.divide(total_N, known_N, out=np.ones_like(total_N), where=known_N > 0)
            found.append(volatility_N.clip(min=MIN_VOLATILITY))
        return found

    def season_states(self, grid: Grid, *, tsteps: int) -> SeasonStates:
        """Return the factors on the profile of each day, estimated from the hours of the grid."""
        level_G = np.exp(self.log_volatility_GV(grid, tsteps=tsteps) @ self.elasticity_VH[:, 0])
        expected_G = self.usual_size * self.return_unit * self.profile_G(grid) * np.append(np.nan, level_G[:-1])
        return compute_states(
            np.abs(np.append(np.nan, compute_returns_GH(grid, horizon=1)[:-1, 0]) / expected_G),
            grid.hour_of_week_G,
            grid.origin_ts_G,
            half_life_hours=self.season_half_life_hours,
            prior_returns=self.season_prior_returns,
        )

    def plain_size_GH(self, grid: Grid, *, horizon: int) -> Array:
        """Return the usual size of the return from each row's close to the close 1..horizon hours on, by the hours of
        the week alone; NaN beyond the grid.
        """
        rows_GH = rows_ahead(grid, horizon)
        return self.return_unit * _size_of_sum(_take(self.return_profile_W[grid.hour_of_week_G], rows_GH))

    def profile_ahead_GH(self, grid: Grid, states: SeasonStates, *, horizon: int) -> Array:
        """Return the size of the return in each of the next 1..horizon hours, with announcements and with the recent
        factors known at each row's close; NaN beyond the grid.
        """
        rows_GH = rows_ahead(grid, horizon)
        hour_of_week_GH = np.append(grid.hour_of_week_G, np.zeros(horizon, dtype=np.int64))[rows_GH]
        return _take(self.profile_G(grid), rows_GH) * states.at(grid.origin_ts_G, hour_of_week_GH)

    def size_and_drift_GH(self, grid: Grid, profile_GH: Array) -> tuple[Array, Array]:
        """Return the usual size of the sums of next returns of these sizes, and their mean in units of that size."""
        drift_GH = _take(self.drift_D[grid.hour_of_week_G % HOURS_OF_DAY], rows_ahead(grid, profile_GH.shape[1]))
        size_GH = _size_of_sum(profile_GH)
        return self.return_unit * size_GH, np.cumsum(profile_GH * drift_GH, axis=1) / size_GH


def _multiply(grid: Grid, factors: Mapping[str, float]) -> Array:
    """Return the product of the factors of each hour's announcements."""
    if not grid.announcement_GK.any():
        return np.ones(len(grid.ts_G))
    log_factor_K = np.log([factors.get(kind, 1.0) for kind in KINDS])
    return np.asarray(np.exp(grid.announcement_GK @ log_factor_K))


def rows_ahead(grid: Grid, horizon: int) -> NDArray[np.int64]:
    """Return the (G, H) rows of the next hours, some beyond the grid."""
    return np.arange(len(grid.ts_G))[:, None] + np.arange(1, horizon + 1)


def _take(values_G: Array, rows_GH: NDArray[np.int64]) -> Array:
    """Return the values at the rows; NaN beyond the last value."""
    return np.append(values_G, np.full(rows_GH.shape[1], np.nan))[rows_GH]


def _size_of_sum(size_GH: Array) -> Array:
    """Return the size of the sum of the first 1..H independent returns."""
    return np.asarray(np.sqrt(np.cumsum(size_GH**2, axis=1)))
