"""Statistics of the training hours, and the scale made of them. Pure.

A return of k hours is measured in units of its scale: the seasonal profile of the k target hours times what the
window's volatilities (how far the recent ranges were above their usual size, over several half-lives) make of it, see
`har.py`. What is left to forecast is nearly free of the clock and of the level of volatility.

Legend: G grid hours, W hours of the week, D hours of the day, N windows, T tsteps, V volatilities, H steps,
K kinds of announcement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError
from lstm_ts.market.announcements import KINDS
from lstm_ts.model.features import Array, Grid, compute_returns_GH
from lstm_ts.model.har import fit_elasticities
from lstm_ts.model.season import HOURS_OF_DAY, HOURS_OF_WEEK, NO_STATES, SeasonStates, compute_states

SHRINKAGE_BARS = 10  # an hour of the week counts as this many bars of its hour of the day besides its own
MIN_VOLATILITY = 0.05  # of the usual range: a window of still prices is no division by zero
MIN_RANGE = 0.02
MIN_BARS_OF_DRIFT = 50
MAX_MOVE_OF_DRIFT = 4.0  # standardised; a few jumps are no drift


@dataclass(frozen=True)
class ScalerSettings:
    """What a scaler is fitted by; see `Scaler`.    Raises    ConfigError: one is not above 0

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
    season_half_life_hours: float  # of the factors on the profile that go on learning, see `season.py`
    season_prior_returns: float

    @property
    def settings(self) -> ScalerSettings:
        """What it was fitted by."""
        return ScalerSettings(
            self.half_life_hours,
            self.half_lives_V.tolist(),
            self.memory_hours,
            self.season_half_life_hours,
            self.season_prior_returns,
        )

    def profile_G(self, grid: Grid) -> Array:
        """Size of each hour's return in the training hours, announcements included."""
        return self.quiet_profile_W[grid.hour_of_week_G] * _multiply(grid, self.return_factors)

    def usual_range_G(self, grid: Grid) -> Array:
        return self.range_profile_W[grid.hour_of_week_G] * _multiply(grid, self.range_factors)

    def relative_range_G(self, grid: Grid) -> Array:
        """Each bar's log range over the usual one of its hour; 1 where missing."""
        return np.where(grid.missing_G, 1.0, np.maximum(grid.range_G / self.usual_range_G(grid), MIN_RANGE))

    def window_volatility_N(self, grid: Grid, *, tsteps: int) -> Array:
        """Weighted mean relative range of the `tsteps` hours that end at each grid row from tsteps - 1 on.

        1 is as volatile as the training hours; missing hours have no weight.
        """
        return self._volatilities(grid, tsteps, [self.half_life_hours])[0]

    def log_volatility_GV(self, grid: Grid, *, tsteps: int) -> Array:
        """Logs of the volatilities that the target's scale is made of; NaN in the first tsteps - 1 rows."""
        log_volatility_GV = np.full((len(grid.ts_G), len(self.half_lives_V)), np.nan)
        if len(grid.ts_G) >= tsteps:
            log_volatility_GV[tsteps - 1 :] = np.log(self._volatilities(grid, tsteps, self.half_lives_V)).T
        return log_volatility_GV

    def _volatilities(self, grid: Grid, tsteps: int, half_lives: Sequence[float] | Array) -> list[Array]:
        """One (N,) for each half-life, as `window_volatility_N`."""
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
        """What the hours of the grid tell of the profile, day by day."""
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
        """Usual size of the return from each row's close to the close 1..horizon hours on, by the hours of the week
        alone; NaN beyond the grid.
        """
        rows_GH = _rows_ahead(grid, horizon)
        return self.return_unit * _size_of_sum(_take(self.return_profile_W[grid.hour_of_week_G], rows_GH))

    def profile_ahead_GH(self, grid: Grid, states: SeasonStates, *, horizon: int) -> Array:
        """Size of the return in each of the next 1..horizon hours, with announcements and as known of late at each
        row's close; NaN beyond the grid.
        """
        rows_GH = _rows_ahead(grid, horizon)
        hour_of_week_GH = np.append(grid.hour_of_week_G, np.zeros(horizon, dtype=np.int64))[rows_GH]
        return _take(self.profile_G(grid), rows_GH) * states.at(grid.origin_ts_G, hour_of_week_GH)

    def size_and_drift_GH(self, grid: Grid, profile_GH: Array) -> tuple[Array, Array]:
        """Usual size of the sums of the next returns of these sizes, and their mean in units of that size."""
        drift_GH = _take(self.drift_D[grid.hour_of_week_G % HOURS_OF_DAY], _rows_ahead(grid, profile_GH.shape[1]))
        size_GH = _size_of_sum(profile_GH)
        return self.return_unit * size_GH, np.cumsum(profile_GH * drift_GH, axis=1) / size_GH


def _multiply(grid: Grid, factors: Mapping[str, float]) -> Array:
    """The product of the factors of each hour's announcements."""
    if not grid.announcement_GK.any():
        return np.ones(len(grid.ts_G))
    log_factor_K = np.log([factors.get(kind, 1.0) for kind in KINDS])
    return np.asarray(np.exp(grid.announcement_GK @ log_factor_K))


def _rows_ahead(grid: Grid, horizon: int) -> NDArray[np.int64]:
    return np.arange(len(grid.ts_G))[:, None] + np.arange(1, horizon + 1)


def _take(values_G: Array, rows_GH: NDArray[np.int64]) -> Array:
    """NaN beyond the last."""
    return np.append(values_G, np.full(rows_GH.shape[1], np.nan))[rows_GH]


def _size_of_sum(size_GH: Array) -> Array:
    """Size of the sum of the first 1..H independent returns."""
    return np.asarray(np.sqrt(np.cumsum(size_GH**2, axis=1)))


def fit_scaler(
    grid: Grid,
    train_G: NDArray[np.bool_],
    settings: ScalerSettings,
    *,
    tsteps: int,
    horizon: int,
    levels: Sequence[float],
) -> Scaler:
    """Statistics of the rows in `train_G` alone, which hold more than `tsteps` bars."""
    rows_G = train_G & ~grid.missing_G
    assert rows_G.sum() > tsteps
    scaler = _fit_profiles(grid, rows_G, settings)
    rows_G &= ~np.isnan(_volatility_before(scaler, grid, tsteps))
    scaler = _fit_announcements(scaler, grid, rows_G, tsteps)
    scaler = _fit_unit_and_drift(scaler, grid, rows_G, tsteps)
    y_GH = compute_returns_GH(grid, horizon=horizon)
    y_GH[_rows_ahead(grid, horizon) > np.flatnonzero(train_G)[-1]] = np.nan
    return _fit_scale(scaler, grid, rows_G, y_GH, levels, tsteps)


def _fit_profiles(grid: Grid, rows_G: NDArray[np.bool_], settings: ScalerSettings) -> Scaler:
    """All that is fitted later is neutral."""
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
    """y_GH   returns that the rows are followed by; NaN where they are not to be seen"""
    profile_GH = scaler.profile_ahead_GH(grid, NO_STATES, horizon=y_GH.shape[1])
    usual_GH, _ = scaler.size_and_drift_GH(grid, profile_GH)
    log_volatility_GV = scaler.log_volatility_GV(grid, tsteps=tsteps)
    elasticity_VH = fit_elasticities(log_volatility_GV[rows_G], usual_GH[rows_G], y_GH[rows_G], levels)
    size_G = y_GH[:, 0] / (usual_GH[:, 0] * np.exp(log_volatility_GV @ elasticity_VH[:, 0]))
    usual_size = float(np.nanmean(np.abs(size_G[rows_G]))) or 1.0
    return replace(scaler, elasticity_VH=elasticity_VH, usual_size=usual_size)


def _size_G(grid: Grid) -> Array:
    """The absolute return of each hour, log."""
    return np.abs(grid.body_G + grid.gap_G)


def _volatility_before(scaler: Scaler, grid: Grid, tsteps: int) -> Array:
    """Volatility of the window that ends before each row; NaN in the first `tsteps`."""
    return np.append(np.full(tsteps, np.nan), scaler.window_volatility_N(grid, tsteps=tsteps)[:-1])


def _fit_factors(size_G: Array, grid: Grid, rows_G: NDArray[np.bool_]) -> dict[str, float]:
    """Mean size in hours of each kind of announcement alone over that of quiet ones, shrunk to 1."""
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
