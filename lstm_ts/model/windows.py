"""Windows over the session grid: what the network reads, and the returns it is scored on. Pure.

Legend: G grid hours, N windows, B batch, T tsteps, F features, C calendar columns, V volatilities, H steps.
A window is a row number until a batch is gathered; then its T rows are copied out of the one (G, F) array.
Arrays here, for forecasts; tensors for training are in `tensors.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError
from lstm_ts.model.features import CALENDAR_COLUMNS, Grid, compute_returns_GH
from lstm_ts.model.scaler import Scaler
from lstm_ts.model.season import NO_STATES, SeasonStates

if TYPE_CHECKING:
    from torch import Tensor

BODY, GAP, RANGE, POSITION = 0, 1, 2, 3
SIGN_FLIPPED_COLUMNS = (BODY, GAP, POSITION)  # the columns whose sign changes where that of the returns is flipped
BAR_COLUMNS = 5
FEATURES = BAR_COLUMNS + CALENDAR_COLUMNS + 2
TARGET_COLUMNS = CALENDAR_COLUMNS + 2
LEVEL_DIGITS = 10  # 0.1 + 0.2 is 0.3
MAX_HORIZON = 100_000  # far beyond any use
MAX_RETURN = 8.0  # in units of the window's scale
MAX_LOG_SCALE = 60.0  # beyond any market, and finite in float32
Values = TypeVar("Values", NDArray[Any], "Tensor")  # float32, or int64 for rows


@dataclass(frozen=True)
class WindowSpec:
    """Specification of the input and output of a model; fixed at training, checked wherever it is used."""

    tsteps: int
    horizon: int
    levels: tuple[float, ...]
    max_missing: int  # hours in a window

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(map(_round, self.levels)))
        counts = (self.tsteps, self.horizon, self.max_missing)
        if not all(isinstance(n, int) for n in counts) or self.tsteps < 2 or self.horizon < 1 or self.max_missing < 0:
            raise ConfigError(
                f"Expected whole numbers tsteps >= 2, horizon >= 1 and max_missing >= 0, "
                f"got {self.tsteps}, {self.horizon} and {self.max_missing}"
            )
        if self.horizon > MAX_HORIZON:
            raise ConfigError(f"Expected horizon of at most {MAX_HORIZON}, got {self.horizon}")
        ordered = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not (ordered and 0.5 in self.levels and self.levels[0] > 0 and self.levels[-1] < 1):
            raise ConfigError(f"Expected ascending levels within 0..1 that hold 0.5, got {list(self.levels)}")


def _round(level: float) -> float:
    """Round a level, if it is one, as the arithmetic of ranges leaves it."""
    return round(float(level), LEVEL_DIGITS) if isinstance(level, float) else level


class Batch(NamedTuple, Generic[Values]):
    x_BTF: Values  # about -8..8
    calendar_BHC: Values  # of the target hours
    profile_BH: Values  # usual size of each target hour's return, of late
    volatility_BV: Values  # logs of the volatilities that the scale is made of
    scale_BH: Values  # usual size of the return 1..H hours ahead, given the window; log return
    drift_BH: Values  # mean return of the target hours, in units of scale_BH
    z_BH: Values  # target in units of scale_BH, less the drift; NaN where missing


@dataclass(frozen=True)
class Windows(Generic[Values]):
    """N windows, each named by the grid row of its origin."""

    origin_N: Values
    back_T: Values  # from an origin to the rows of its window, ascending
    ahead_H: Values  # and to those of its targets
    features_GF: Values
    targets_GC: Values  # calendar columns and profiles of each hour as a target
    volatility_G: Values  # of the window that ends at each row, NaN for the first rows
    log_volatility_G: Values
    log_volatility_GV: Values  # of the volatilities that the scale is made of
    profile_GH: Values  # usual size of each of the next hours' returns, of late
    usual_GH: Values  # usual size of the return 1..H hours ahead, by the hours of the week alone; log return
    level_GH: Values  # what the volatilities of the window make of it
    scale_GH: Values  # usual size of late and with announcements, times that
    drift_GH: Values
    z_GH: Values

    def __len__(self) -> int:
        return len(self.origin_N)

    @property
    def scale_NH(self) -> Values:
        """Usual size of the returns that follow each window, given the window; log return."""
        scale_NH: Values = self.scale_GH[self.origin_N]
        return scale_NH

    @property
    def drift_NH(self) -> Values:
        """Mean of the returns that follow each window, in units of `scale_NH`."""
        drift_NH: Values = self.drift_GH[self.origin_N]
        return drift_NH

    @property
    def har_scale_NH(self) -> Values:
        """Usual size of the returns that follow each window, as `scale_NH` but with the profile of the week alone."""
        scale_NH: Values = self.usual_GH[self.origin_N] * self.level_GH[self.origin_N]
        return scale_NH

    @property
    def volatility_scale_NH(self) -> Values:
        """Usual size of the returns by the hours of the week and the window's one volatility; log return."""
        scale_NH: Values = self.usual_GH[self.origin_N] * self.volatility_G[self.origin_N][:, None]
        return scale_NH

    def at(self, origins_N: Values) -> "Windows[Values]":
        """Return other windows of the same grid, whose arrays are shared."""
        return replace(self, origin_N=origins_N)

    def __getitem__(self, rows_B: Values | slice) -> Batch[Values]:
        """Copy out the windows `rows_B` (positions in origin_N)."""
        origin_B = self.origin_N[rows_B]
        target_BH = origin_B[:, None] + self.ahead_H
        x_BTF = self._take_features(origin_B[:, None] + self.back_T)
        volatility_B11 = self.volatility_G[origin_B][:, None, None]
        x_BTF[..., BODY : GAP + 1] = (x_BTF[..., BODY : GAP + 1] / volatility_B11).clip(-MAX_RETURN, MAX_RETURN)
        x_BTF[..., RANGE] -= self.log_volatility_G[origin_B][:, None]
        x_BTF[:, 0, GAP] = 0  # the close before the first bar lies outside the window
        return Batch(
            x_BTF=x_BTF,
            calendar_BHC=self.targets_GC[target_BH],
            profile_BH=self.profile_GH[origin_B],
            volatility_BV=self.log_volatility_GV[origin_B],
            scale_BH=self.scale_GH[origin_B],
            drift_BH=self.drift_GH[origin_B],
            z_BH=self.z_GH[origin_B],
        )

    def _take_features(self, rows_BT: Values) -> Values:
        taken: Values = self.features_GF[rows_BT]
        return taken


def make_windows(
    grid: Grid, scaler: Scaler, origins_N: NDArray[np.int64], spec: WindowSpec, states: SeasonStates = NO_STATES
) -> Windows[NDArray[Any]]:
    """Lay out the arrays that windows are gathered from.

    origins_N   grid rows with tsteps - 1 rows before and `horizon` rows after them
    states      factors on the profile; without them, the profile is that of the training hours
    """
    tsteps, horizon = spec.tsteps, spec.horizon
    assert len(origins_N) == 0 or (origins_N[0] >= tsteps - 1 and origins_N[-1] + horizon < len(grid.ts_G))
    volatility_G = np.full(len(grid.ts_G), np.nan)
    volatility_G[tsteps - 1 :] = scaler.window_volatility_N(grid, tsteps=tsteps)
    usual_GH = scaler.plain_size_GH(grid, horizon=horizon)
    profile_GH = scaler.profile_ahead_GH(grid, states, horizon=horizon)
    recent_GH, drift_GH = scaler.size_and_drift_GH(grid, profile_GH)
    log_volatility_GV = scaler.log_volatility_GV(grid, tsteps=tsteps)
    level_GH = np.exp((log_volatility_GV @ scaler.elasticity_VH).clip(max=MAX_LOG_SCALE))
    scale_GH = recent_GH * level_GH
    profile_G = scaler.profile_G(grid)
    range_profile_G = scaler.usual_range_G(grid)
    profiles_G2 = np.stack([np.log(profile_G), np.log(range_profile_G / scaler.range_profile_W.mean())], axis=1)
    calendar_GC = np.concatenate([grid.calendar_GC, profiles_G2], axis=1)
    unit_G = profile_G * scaler.return_unit
    bar_columns = (
        grid.body_G / unit_G,
        grid.gap_G / unit_G,
        np.log(scaler.relative_range_G(grid)),
        grid.position_G,
        grid.missing_G,
    )
    return Windows(
        origin_N=origins_N,
        back_T=np.arange(1 - tsteps, 1),
        ahead_H=np.arange(1, horizon + 1),
        features_GF=np.concatenate([np.stack(bar_columns, axis=1), calendar_GC], axis=1).astype(np.float32),
        targets_GC=calendar_GC.astype(np.float32),
        volatility_G=volatility_G.astype(np.float32),
        log_volatility_G=np.log(volatility_G).astype(np.float32),
        log_volatility_GV=log_volatility_GV.astype(np.float32),
        profile_GH=profile_GH.astype(np.float32),
        usual_GH=usual_GH.astype(np.float32),
        level_GH=level_GH.astype(np.float32),
        scale_GH=scale_GH.astype(np.float32),
        drift_GH=drift_GH.astype(np.float32),
        z_GH=(compute_returns_GH(grid, horizon=horizon) / scale_GH - drift_GH).astype(np.float32),
    )


def concatenate(parts: Sequence[Windows[NDArray[Any]]]) -> Windows[NDArray[Any]]:
    """Lay the grids of several symbols one after the other; the windows are those of each, in order."""
    first = parts[0]
    starts = np.cumsum([0, *(len(part.volatility_G) for part in parts[:-1])])
    origin_N = np.concatenate([part.origin_N + start for part, start in zip(parts, starts, strict=True)])
    alike = {"origin_N": origin_N, "back_T": first.back_T, "ahead_H": first.ahead_H}
    grids = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(first).keys() - alike}
    return Windows(**alike, **grids)


@dataclass(frozen=True)
class Origins:
    """Grid rows a window can end at, and how many were left out."""

    rows_N: NDArray[np.int64]
    missing_origin: int
    too_many_missing: int


def find_origins(
    grid: Grid, spec: WindowSpec, *, start: datetime | None = None, end: datetime | None = None, purge: bool = False
) -> Origins:
    """Find origins with start <= origin_ts < end, a known bar, and at most `max_missing` missing hours in the window.

    purge   leave out the last `horizon` hours before `end`, so that no target closes at `end` or later
    """
    rows, tsteps = len(grid.ts_G), spec.tsteps
    inside_G = in_span(grid.origin_ts_G, start, end)
    if purge:
        inside_G[max(np.flatnonzero(in_span(grid.origin_ts_G, None, end)).max(initial=-1) + 1 - spec.horizon, 0) :] = (
            False
        )
    wanted_G = inside_G & (np.arange(rows) >= tsteps - 1) & (np.arange(rows) + spec.horizon < rows)
    gappy_G = np.zeros(rows, dtype=np.bool_)
    if rows >= tsteps:
        gappy_G[tsteps - 1 :] = sliding_window_view(grid.missing_G, tsteps).sum(axis=1) > spec.max_missing
    return Origins(
        rows_N=np.flatnonzero(wanted_G & ~grid.missing_G & ~gappy_G),
        missing_origin=int((wanted_G & grid.missing_G).sum()),
        too_many_missing=int((wanted_G & ~grid.missing_G & gappy_G).sum()),
    )


def in_span(ts: NDArray[np.datetime64], start: datetime | None, end: datetime | None) -> NDArray[np.bool_]:
    """Return whether start <= ts < end, both UTC; None: no limit."""
    inside = np.ones(len(ts), dtype=np.bool_)
    if start is not None:
        inside &= ts >= np.datetime64(start.replace(tzinfo=None), "us")
    if end is not None:
        inside &= ts < np.datetime64(end.replace(tzinfo=None), "us")
    return inside
