"""The statistics of a scaler, from the training hours alone. Pure.

Legend: G grid hours, W hours of the week, D hours of the day, V volatilities, H steps.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lstm_ts.market.announcements import KINDS
from lstm_ts.model.features import Array, Grid, compute_returns_GH
from lstm_ts.model.har import fit_elasticities
from lstm_ts.model.scaler import Scaler, ScalerSettings, rows_ahead
from lstm_ts.model.season import HOURS_OF_DAY, HOURS_OF_WEEK, NO_STATES

SHRINKAGE_BARS = 10  # an hour of the week counts as this many bars of its hour of the day in addition to its own
MIN_BARS_OF_DRIFT = 50
MAX_MOVE_OF_DRIFT = 4.0  # standardised; a few jumps are no drift


def fit_scaler(
    grid: Grid,
    train_G: NDArray[np.bool_],
    settings: ScalerSettings,
    *,
    tsteps: int,
    horizon: int,
    levels: Sequence[float],
) -> Scaler:
    """Fit a scaler to the rows in `train_G` alone, which hold more than `tsteps` bars."""
    rows_G = train_G & ~grid.missing_G
    assert rows_G.sum() > tsteps
    scaler = _fit_profiles(grid, rows_G, settings)
    rows_G &= ~np.isnan(_volatility_before(scaler, grid, tsteps))
    scaler = _fit_announcements(scaler, grid, rows_G, tsteps)
    scaler = _fit_unit_and_drift(scaler, grid, rows_G, tsteps)
    y_GH = compute_returns_GH(grid, horizon=horizon)
    y_GH[rows_ahead(grid, horizon) > np.flatnonzero(train_G)[-1]] = np.nan
    return _fit_scale(scaler, grid, rows_G, y_GH, levels, tsteps)


def _fit_profiles(grid: Grid, rows_G: NDArray[np.bool_], settings: ScalerSettings) -> Scaler:
    """Fit the profiles; the statistics that are fitted later are neutral."""
    quiet_G = rows_G & ~grid.announcement_GK.any(axis=1)
    quiet_G = quiet_G if quiet_G.any() else rows_G
    weight_G = 0.5 ** (np.cumsum(rows_G[::-1])[::-1] / settings.memory_hours)
    all_W, quiet_W, range_W = (
        _profile(size_G[among_G], grid.hour_of_week_G[among_G], weight_G[among_G])
        for size_G, among_G in ((_size_G(grid), rows_G), (_size_G(grid), quiet_G), (grid.range_G, quiet_G))
    )
    unit = np.sqrt(np.mean(all_W[grid.hour_of_week_G[rows_G]] ** 2))
    return Scaler(
        return_profile_W=all_W / unit,
        quiet_profile_W=quiet_W / unit,
        range_profile_W=range_W,
        return_factors={},
        range_factors={},
        drift_D=np.zeros(HOURS_OF_DAY),
        return_unit=1.0,
        half_life_hours=settings.half_life_hours,
        half_lives_V=np.array(settings.half_lives_hours, dtype=np.float64),
        elasticity_VH=np.empty((0, 0)),
        usual_size=1.0,
        memory_hours=settings.memory_hours,
        season_half_life_hours=settings.season_half_life_hours,
        season_prior_returns=settings.season_prior_returns,
    )


def _fit_announcements(scaler: Scaler, grid: Grid, rows_G: NDArray[np.bool_], tsteps: int) -> Scaler:
    volatility_G = _volatility_before(scaler, grid, tsteps)
    sizes_G = _size_G(grid) / (scaler.profile_G(grid) * volatility_G)
    ranges_G = grid.range_G / (scaler.usual_range_G(grid) * volatility_G)
    return replace(
        scaler,
        return_factors=_fit_factors(sizes_G, grid, rows_G),
        range_factors=_fit_factors(ranges_G, grid, rows_G),
    )


def _fit_unit_and_drift(scaler: Scaler, grid: Grid, rows_G: NDArray[np.bool_], tsteps: int) -> Scaler:
    return_G = grid.body_G + grid.gap_G
    moves_G = return_G / (scaler.profile_G(grid) * _volatility_before(scaler, grid, tsteps))
    unit = float(np.sqrt(np.mean(moves_G[rows_G] ** 2)))
    return replace(scaler, return_unit=unit, drift_D=_fit_drift(moves_G / unit, grid, rows_G))


def _fit_scale(
    scaler: Scaler, grid: Grid, rows_G: NDArray[np.bool_], y_GH: Array, levels: Sequence[float], tsteps: int
) -> Scaler:
    """y_GH   returns that follow the rows; NaN where missing, or beyond the training rows"""
    profile_GH = scaler.profile_ahead_GH(grid, NO_STATES, horizon=y_GH.shape[1])
    usual_GH, _ = scaler.size_and_drift_GH(grid, profile_GH)
    log_volatility_GV = scaler.log_volatility_GV(grid, tsteps=tsteps)
    elasticity_VH = fit_elasticities(log_volatility_GV[rows_G], usual_GH[rows_G], y_GH[rows_G], levels)
    size_G = y_GH[:, 0] / (usual_GH[:, 0] * np.exp(log_volatility_GV @ elasticity_VH[:, 0]))
    usual_size = float(np.nanmean(np.abs(size_G[rows_G]))) or 1.0
    return replace(scaler, elasticity_VH=elasticity_VH, usual_size=usual_size)


def _size_G(grid: Grid) -> Array:
    """Return the absolute log return of each hour."""
    return np.abs(grid.body_G + grid.gap_G)


def _volatility_before(scaler: Scaler, grid: Grid, tsteps: int) -> Array:
    """Return the volatility of the window that ends before each row; NaN in the first `tsteps`."""
    return np.append(np.full(tsteps, np.nan), scaler.window_volatility_N(grid, tsteps=tsteps)[:-1])


def _fit_factors(size_G: Array, grid: Grid, rows_G: NDArray[np.bool_]) -> dict[str, float]:
    """Return the mean size in hours of each kind of announcement alone over that of quiet hours, shrunk to 1."""
    marked_G = grid.announcement_GK.sum(axis=1)
    quiet = size_G[rows_G & (marked_G == 0)]
    usual = float(quiet.mean()) if len(quiet) and quiet.mean() > 0 else 1.0
    factors = {}
    for kind, column_G in zip(KINDS, grid.announcement_GK.T, strict=True):
        size = size_G[rows_G & (column_G > 0) & (marked_G == 1)] / usual
        factors[kind] = float((size.sum() + SHRINKAGE_BARS) / (len(size) + SHRINKAGE_BARS))
    return factors


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
