"""Heterogeneous autoregressive volatility: the size of the next returns from volatilities over several spans. Pure.

The size of the return k hours ahead is its usual one times the product of the window's volatilities v_i, each to the
power w_ik (its elasticity), as in Corsi (2009, doi:10.1093/jjfinec/nbp001) for realised volatilities; here the weights
minimise the pinball loss of the quantiles z of the returns measured so, whose best values are fitted with them.

Legend: N rows, V volatilities, H steps, Q levels above the median.
"""

from collections.abc import Sequence

import numpy as np

from lstm_ts.model.features import Array

FITTED_STEPS = 9  # elasticities change slowly with the step: those between are interpolated
PRIOR_ROWS = 10  # what pulls the elasticities to 1 / V each weighs as much as so many rows


def fit_elasticities(log_volatility_NV: Array, usual_NH: Array, y_NH: Array, levels: Sequence[float]) -> Array:
    """(V, H) exponents of the volatilities.

    usual_NH   size of the return over each of the next steps in usual hours
    y_NH       log return; NaN where missing
    """
    horizon = y_NH.shape[1]
    steps = np.unique(np.geomspace(1, horizon, min(horizon, FITTED_STEPS)).round().astype(int))
    fitted_SV = [_fit_step(log_volatility_NV, np.abs(y_NH[:, k - 1] / usual_NH[:, k - 1]), levels) for k in steps]
    log_steps = np.log(np.arange(1, horizon + 1))
    return np.stack([np.interp(log_steps, np.log(steps), weight_S) for weight_S in np.transpose(fitted_SV)])


def _fit_step(log_volatility_NV: Array, size_N: Array, levels: Sequence[float]) -> Array:
    """The quantiles of the sizes at 2 q - 1 are those of symmetric returns at q."""
    from scipy.optimize import minimize  # slow to import, and only training needs it

    known_N = np.isfinite(size_N)
    x_NV, size_N = log_volatility_NV[known_N], size_N[known_N]
    volatilities = x_NV.shape[1]
    prior_V = np.full(volatilities, 1 / volatilities)
    level_Q = 2 * np.array([level for level in levels if level > 0.5]) - 1
    if not len(level_Q) or not (unit := np.sqrt(np.mean(size_N**2)) if len(size_N) else 0.0):
        return prior_V
    size_N1, pull = size_N[:, None] / unit, PRIOR_ROWS / len(size_N)

    def loss(weight_and_z: Array) -> tuple[float, Array]:
        weight_V, z_Q = weight_and_z[:volatilities], weight_and_z[volatilities:]
        scale_N = np.exp(x_NV @ weight_V)
        error_NQ = size_N1 - scale_N[:, None] * z_Q
        slope_NQ = np.where(error_NQ > 0, level_Q, level_Q - 1) / error_NQ.size
        scale_slope_N = (slope_NQ @ z_Q) * scale_N
        off_V = weight_V - prior_V
        gradient = np.concatenate([2 * pull * off_V - scale_slope_N @ x_NV, -scale_N @ slope_NQ])
        return float((slope_NQ * error_NQ).sum() + pull * off_V @ off_V), gradient

    start_Q = np.quantile(size_N1[:, 0] / np.exp(x_NV @ prior_V), level_Q)
    found = minimize(loss, np.concatenate([prior_V, start_Q]), jac=True, method="L-BFGS-B", options={"ftol": 1e-9})
    return np.asarray(found.x[:volatilities])
