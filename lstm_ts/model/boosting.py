"""Gradient-boosted quantile regression on the windows of a model (Ke et al. 2017), with LightGBM, an optional extra.

Legend: N windows, Q levels, T tsteps, F features, K columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array
from lstm_ts.model.windows import BODY, RANGE, Batch, Windows

LAGS = 12
HALF_LIVES_HOURS = (1, 3, 6, 24)
BOOSTING = {
    "objective": "quantile",
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "verbose": -1,
}
MAX_ROUNDS, PATIENCE = 400, 40


def tabulate(batch: Batch[NDArray[Any]], step: int) -> Array:
    """(N, K) columns for a tree: the latest bars, their size at several scales, the window's volatilities, the calendar
    of the target.
    """
    recent = batch.x_BTF[:, -LAGS:, BODY : RANGE + 1].reshape(len(batch.x_BTF), -1)
    age_T = np.arange(batch.x_BTF.shape[1] - 1, -1, -1)
    sizes = np.abs(batch.x_BTF[..., [BODY, RANGE]])
    smoothed = [np.average(sizes, axis=1, weights=0.5 ** (age_T / hours)) for hours in HALF_LIVES_HOURS]
    momentum = [batch.x_BTF[:, -hours:, BODY].sum(axis=1, keepdims=True) for hours in (6, 24)]
    columns = [recent, *smoothed, *momentum, batch.volatility_BV, batch.calendar_BHC[:, step - 1]]
    return np.concatenate(columns, axis=1, dtype=np.float64)


def lightgbm_quantiles(
    train: Windows[NDArray[Any]],
    valid: Windows[NDArray[Any]],
    test: Windows[NDArray[Any]],
    *,
    step: int,
    levels: Sequence[float],
    seed: int,
) -> Array:
    """Fit one model per level at `step`, stopped early on `valid`; (N, Q) of `test` in units of the scale, sorted."""
    import lightgbm as lgb

    tables, targets, weights = zip(*(_rows(windows, step) for windows in (train, valid, test)), strict=True)
    known = [~np.isnan(z_N) for z_N in targets]
    data = lgb.Dataset(tables[0][known[0]], targets[0][known[0]], weight=weights[0][known[0]], free_raw_data=False)
    stop = data.create_valid(tables[1][known[1]], targets[1][known[1]], weight=weights[1][known[1]])
    columns = []
    for level in levels:
        settings = BOOSTING | {"alpha": level, "seed": seed}
        booster = lgb.train(
            settings, data, MAX_ROUNDS, valid_sets=[stop], callbacks=[lgb.early_stopping(PATIENCE, verbose=False)]
        )
        columns.append(booster.predict(tables[2]))
    return np.sort(np.stack(columns, axis=1), axis=1)


def _rows(windows: Windows[NDArray[Any]], step: int) -> tuple[Array, Array, Array]:
    batch = windows[:]
    scale_N = batch.scale_BH[:, step - 1].astype(np.float64)
    return tabulate(batch, step), batch.z_BH[:, step - 1].astype(np.float64), scale_N / scale_N.mean()
