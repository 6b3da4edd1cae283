"""GARCH(1,1) with Student t innovations (Bollerslev 1987), fitted by `arch`, an optional extra.

It is of returns in units of their usual size, so that the rhythm of the week is no volatility (Andersen & Bollerslev
1997), and reads every hour up to the origin, not the window alone.

Legend: G grid hours, H steps, N known hours.
"""

import logging

import numpy as np

from lstm_ts.model.features import Array

log = logging.getLogger(__name__)


def compute_garch_scale_GH(return_G: Array, size_GH: Array, *, fitted: int) -> Array:
    """Deviation of the return over the next 1..H hours, as known at each row's close; NaN where the row is missing.

    return_G   log return of each hour; NaN where missing
    size_GH    usual size of the return in each of the next hours, as known at each row's close; NaN beyond the grid
    fitted     rows from the first one on that the parameters are fitted to
    """
    from arch import arch_model  # slow to import, and an extra

    z_G = return_G / np.append(np.nan, size_GH[:-1, 0])
    known_G = np.isfinite(z_G)
    model = arch_model(z_G[known_G], mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    result = model.fit(last_obs=int(known_G[:fitted].sum()), disp="off", show_warning=False)
    if result.convergence_flag:
        log.warning("GARCH did not converge: %s", result.optimization_result.message)
    variance_NH = result.forecast(horizon=size_GH.shape[1], start=0, reindex=False).variance.to_numpy()
    scale_GH = np.full_like(size_GH, np.nan)
    scale_GH[known_G] = np.sqrt(np.cumsum(size_GH[known_G] ** 2 * variance_NH, axis=1))
    return scale_GH
