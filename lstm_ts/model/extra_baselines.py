"""Baselines that are fitted on request, by libraries that are extras.

Legend: G grid hours, N windows, H steps, Q levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.model.boosting import lightgbm_quantiles
from lstm_ts.model.features import Array, Grid, compute_returns_GH
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.garch import compute_garch_scale_GH
from lstm_ts.model.windows import Windows, find_origins
from lstm_ts.scoring.records import ForecastRecord

STOPPED_SHARE = 0.1  # of a span that a network was trained on whole, for LightGBM to stop on


@dataclass(frozen=True)
class ExtraBaselines:
    """The requested ones.

    Raises    ConfigError: a step that is not forecast, or an extra that is not installed
    """

    lightgbm_steps: Sequence[int]
    garch: bool
    horizon: int

    def __post_init__(self) -> None:
        if not all(isinstance(step, int) and 1 <= step <= self.horizon for step in self.lightgbm_steps):
            raise ConfigError(f"Expected lightgbm_steps within 1..{self.horizon}, got {list(self.lightgbm_steps)}")
        for option, requested, package, extra in (
            ("lightgbm_steps", self.lightgbm_steps, "lightgbm", "lightgbm"),
            ("garch", self.garch, "arch", "garch"),
        ):
            if requested and find_spec(package) is None:
                raise ConfigError(f"Expected {package} to be installed for {option}; pip install 'lstm_ts[{extra}]'")

    def add(self, record: ForecastRecord, forecaster: Forecaster, hourly_bars: pl.DataFrame) -> ForecastRecord:
        """Fit them to the hours that the model was trained on, as stored now, and forecast the record's origins.

        Raises    NoRows: the stored bars do not reach back to the model's training span, or it does not know that
        """
        if not (self.lightgbm_steps or self.garch):
            return record
        grid, spec, provenance = forecaster.grid(hourly_bars), forecaster.spec, forecaster.provenance
        moments = provenance.data_start, provenance.trained_until, provenance.data_end
        if not all(moments):
            raise NoRows("Expected a model that knows its span, got none; set lightgbm_steps=[] garch=false")
        start, trained_until, end = map(datetime.fromisoformat, moments)
        stop_from = trained_until if trained_until < end else end - STOPPED_SHARE * (end - start)
        fitted = find_origins(grid, spec, start=start, end=stop_from, purge=True)
        stopped = find_origins(grid, spec, start=stop_from, end=end, purge=True)
        if not len(fitted.rows_N) or not len(stopped.rows_N):
            raise NoRows(
                f"Expected bars before {stop_from} to fit baselines to, got none; set lightgbm_steps=[] garch=false"
            )
        train = forecaster.windows(grid, fitted.rows_N, forecaster.season_states(grid))
        test = train.at(np.flatnonzero(np.isin(grid.origin_ts_G, record.origin_ts_N)))
        rows = {}
        if self.lightgbm_steps:
            rows["lightgbm"] = _lightgbm_NHQ(
                train,
                train.at(stopped.rows_N),
                test,
                steps=self.lightgbm_steps,
                levels=spec.levels,
                seed=provenance.seed,
            )
        if self.garch:
            size_GH = forecaster.scaler.return_unit * train.profile_GH.astype(np.float64)
            rows["garch"] = _garch_NHQ(grid, size_GH, train.origin_N, test.origin_N, levels=spec.levels)
        return replace(record, quantiles={**record.quantiles, **rows})


def _lightgbm_NHQ(
    train: Windows[NDArray[Any]],
    valid: Windows[NDArray[Any]],
    test: Windows[NDArray[Any]],
    *,
    steps: Sequence[int],
    levels: Sequence[float],
    seed: int,
) -> Array:
    """Log returns; NaN at other steps."""
    scale_NH, drift_NH = test.scale_NH, test.drift_NH
    q_NHQ = np.full((*scale_NH.shape, len(levels)), np.nan)
    for step in steps:
        z_NQ = lightgbm_quantiles(train, valid, test, step=step, levels=levels, seed=seed)
        q_NHQ[:, step - 1] = (z_NQ + drift_NH[:, step - 1, None]) * scale_NH[:, step - 1, None]
    return q_NHQ


def _garch_NHQ(
    grid: Grid, size_GH: Array, train_N: NDArray[np.int64], test_N: NDArray[np.int64], *, levels: Sequence[float]
) -> Array:
    """Log returns from the rows `test_N`: the quantiles of those from `train_N` in units of GARCH's scale, times it."""
    return_G = np.where(grid.missing_G, np.nan, grid.body_G + grid.gap_G)
    scale_GH = compute_garch_scale_GH(return_G, size_GH, fitted=int(train_N[-1]) + 1)
    y_NH = compute_returns_GH(grid, horizon=size_GH.shape[1])[train_N]
    z_HQ = np.nanquantile(y_NH / scale_GH[train_N], levels, axis=0).T
    return np.asarray(scale_GH[test_N][..., None] * z_HQ)
