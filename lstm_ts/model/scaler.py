"""Statistics of the training hours, and the two scales made of them. Pure.

A return of k hours is measured in units of its scale: the seasonal profile of the k target hours times what the
window's volatilities (how far the recent ranges were above their usual size, over several half-lives) make of it, see
`har.py`. What is left to forecast is nearly free of the clock and of the level of volatility.

Legend: G grid hours, W hours of the week, D hours of the day, N windows, T tsteps, V volatilities, H steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lstm_ts.model.features import Array, Grid, compute_returns_GH
from lstm_ts.model.har import fit_elasticities

HOURS_OF_WEEK = 168
SHRINKAGE_BARS = 10  # an hour of the week counts as this many bars of its hour of the day besides its own
MIN_VOLATILITY = 0.05  # of the usual range: a window of still prices is no division by zero
MIN_RANGE = 0.02
HOURS_OF_DAY = 24
MIN_BARS_OF_DRIFT = 50
MAX_MOVE_OF_DRIFT = 4.0  # standardised; a few jumps are no drift


@dataclass(frozen=True)
class Scaler:
    return_profile_W: Array  # size of a return by local hour of week, mean square 1 over the training hours
    range_profile_W: Array  # mean log high/low by hour of week
    drift_D: Array  # mean return by local hour of day, in units of its scale, shrunk
    return_unit: float  # root mean square return over profile times volatility, so one hour ahead the target's is 1
    half_life_hours: float  # of the weights in the volatility that a window's bars are measured by
    half_lives_V: Array  # hours; of those in the volatilities that the scale of its target is made of
    elasticity_VH: Array  # of that scale, by volatility and step

    def relative_range_G(self, grid: Grid) -> Array:
        """Each bar's log range over the usual one of its hour; 1 where missing."""
        usual_G = self.range_profile_W[grid.hour_of_week_G]
        return np.where(grid.missing_G, 1.0, np.maximum(grid.range_G / usual_G, MIN_RANGE))

    def window_volatility_N(self, grid: Grid, *, tsteps: int, half_life_hours: float | None = None) -> Array:
        """Weighted mean relative range of the `tsteps` hours that end at each grid row from tsteps - 1 on.

        1 is as volatile as the training hours; missing hours have no weight.
        """
        weight_T = 0.5 ** (np.arange(tsteps)[::-1] / (half_life_hours or self.half_life_hours))
        known_G = (~grid.missing_G).astype(np.float64)
        known_N = np.correlate(known_G, weight_T)
        total_N = np.correlate(known_G * self.relative_range_G(grid), weight_T)
        volatility_N: Array = np.divide(total_N, known_N, out=np.ones_like(total_N), where=known_N > 0)
        return volatility_N.clip(min=MIN_VOLATILITY)

    def log_volatility_GV(self, grid: Grid, *, tsteps: int) -> Array:
        """Logs of the volatilities that the target's scale is made of; NaN in the first tsteps - 1 rows."""
        volatilities = [
            self.window_volatility_N(grid, tsteps=tsteps, half_life_hours=half_life) for half_life in self.half_lives_V
        ]
        log_volatility_GV = np.full((len(grid.ts_G), len(volatilities)), np.nan)
        log_volatility_GV[tsteps - 1 :] = np.log(volatilities).T
        return log_volatility_GV

    def usual_size_and_drift_GH(self, grid: Grid, *, horizon: int) -> tuple[Array, Array]:
        """Usual size of the return from each row's close to the close 1..horizon hours on, and its mean in units of
        that size; NaN beyond the grid.
        """
        profile_G = self.return_profile_W[grid.hour_of_week_G]
        drift_G = self.drift_D[grid.hour_of_week_G % HOURS_OF_DAY]
        variance_GH, drift_GH = _sum_ahead(np.stack([profile_G**2, profile_G * drift_G]), horizon)
        size_GH = np.sqrt(variance_GH)
        return self.return_unit * size_GH, drift_GH / size_GH


def _sum_ahead(values_KG: Array, horizon: int) -> Array:
    """(K, G, H) sums of the next 1..horizon rows; NaN beyond the last."""
    rows = values_KG.shape[1]
    padded = np.full((len(values_KG), rows + horizon), np.nan)
    padded[:, :rows] = values_KG
    return np.cumsum(sliding_window_view(padded[:, 1:], horizon, axis=1)[:, :rows], axis=2)


def fit_scaler(
    grid: Grid,
    train_G: NDArray[np.bool_],
    *,
    tsteps: int,
    horizon: int,
    levels: Sequence[float],
    half_life_hours: float,
    half_lives_hours: Sequence[float],
    memory_hours: float,
) -> Scaler:
    """Statistics of the rows in `train_G` alone, which hold more than `tsteps` bars.

    memory_hours   half-life of the weights in the profiles: the rhythm of the week changes over the years
    """
    rows_G = train_G & ~grid.missing_G
    assert rows_G.sum() > tsteps
    return_G = grid.body_G + grid.gap_G
    hour_of_week = grid.hour_of_week_G[rows_G]
    weight = 0.5 ** (np.arange(len(hour_of_week))[::-1] / memory_hours)
    return_profile_W = _profile(np.abs(return_G[rows_G]), hour_of_week, weight)
    return_profile_W /= np.sqrt(np.mean(return_profile_W[hour_of_week] ** 2))
    range_profile_W = _profile(grid.range_G[rows_G], hour_of_week, weight)
    half_lives_V = np.array(half_lives_hours, dtype=np.float64)
    elasticity_VH = np.zeros((len(half_lives_V), horizon))
    unitless = Scaler(
        return_profile_W, range_profile_W, np.zeros(HOURS_OF_DAY), 1.0, half_life_hours, half_lives_V, elasticity_VH
    )
    volatility_G = np.append(np.full(tsteps, np.nan), unitless.window_volatility_N(grid, tsteps=tsteps)[:-1])
    moves_G = return_G / (return_profile_W[grid.hour_of_week_G] * volatility_G)
    rows_G &= ~np.isnan(moves_G)
    unit = float(np.sqrt(np.mean(moves_G[rows_G] ** 2)))
    scaler = replace(unitless, return_unit=unit, drift_D=_fit_drift(moves_G / unit, grid, rows_G))
    usual_GH, _ = scaler.usual_size_and_drift_GH(grid, horizon=horizon)
    y_GH = compute_returns_GH(grid, horizon=horizon)
    y_GH[np.arange(len(y_GH))[:, None] + np.arange(1, horizon + 1) > np.flatnonzero(train_G)[-1]] = np.nan
    log_volatility_GV = scaler.log_volatility_GV(grid, tsteps=tsteps)
    rows_G &= ~np.isnan(log_volatility_GV[:, 0])
    elasticity_VH = fit_elasticities(log_volatility_GV[rows_G], usual_GH[rows_G], y_GH[rows_G], levels)
    return replace(scaler, elasticity_VH=elasticity_VH)


def _fit_drift(z_G: Array, grid: Grid, rows_G: NDArray[np.bool_]) -> Array:
    """Mean standardised return by hour of day, shrunk by the positive-part James-Stein factor 1 - se² / mean²."""
    drift_D = np.zeros(HOURS_OF_DAY)
    for hour in range(HOURS_OF_DAY):
        z = z_G[rows_G & (grid.hour_of_week_G % HOURS_OF_DAY == hour)].clip(-MAX_MOVE_OF_DRIFT, MAX_MOVE_OF_DRIFT)
        if len(z) >= MIN_BARS_OF_DRIFT and z.mean() != 0:
            drift_D[hour] = z.mean() * max(0.0, 1 - z.var() / len(z) / z.mean() ** 2)
    return drift_D


def _profile(size: Array, hour_of_week: NDArray[np.int64], weight: Array) -> Array:
    """Mean size by hour of week, shrunk to the mean of its hour of day, and that to the mean of all; never 0."""
    hour_W = np.arange(HOURS_OF_WEEK) % 24
    overall = max(float(size.mean()), np.finfo(np.float64).tiny)
    by_hour = _shrunk_means(size, hour_of_week % 24, np.full(24, overall), weight)
    return _shrunk_means(size, hour_of_week, by_hour[hour_W], weight)


def _shrunk_means(size: Array, group: NDArray[np.int64], prior: Array, weight: Array) -> Array:
    total = np.bincount(group, weights=size * weight, minlength=len(prior))
    count = np.bincount(group, weights=weight, minlength=len(prior))
    return (total + SHRINKAGE_BARS * prior) / (count + SHRINKAGE_BARS)
