"""Weights of a network's median and of the drift, estimated on hours that neither was fitted to. Pure.

Legend: N windows, 1 the first step, H steps, Q levels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array
from lstm_ts.model.network import Network
from lstm_ts.model.windows import Windows
from lstm_ts.scoring.metrics import diebold_mariano, pinball_NH

WEIGHTS = (0.25, 0.5, 0.75, 1.0)


def weigh_location(network: Network, windows: Windows[NDArray[Any]], levels: Sequence[float]) -> float:
    """Return the weight of the network's median, 0..1, on these windows."""
    z_N1, q_N1Q = windows.z_GH[windows.origin_N, :1], network.quantiles(windows)[:, :1]
    return _weigh(lambda weight: pinball_NH(z_N1, weigh_median(q_N1Q, weight, levels), levels)[:, 0])


def weigh_drift(windows: Windows[NDArray[Any]], start_HQ: Array, levels: Sequence[float]) -> float:
    """Return the weight of the drift, 0..1, on these windows.

    start_HQ   quantiles without a drift, in units of the scale
    """
    drift_N1 = windows.drift_NH[:, :1]
    y_N1 = windows.z_GH[windows.origin_N, :1] + drift_N1
    return _weigh(lambda weight: pinball_NH(y_N1, start_HQ[:1] + weight * drift_N1[..., None], levels)[:, 0])


def _weigh(loss_N: Callable[[float], Array]) -> float:
    """Return the best of WEIGHTS one hour ahead, shrunk by the positive-part James-Stein factor 1 - 1 / t² of its gain
    over a weight of 0; 0 without a gain.
    """
    losses = {weight: loss_N(weight) for weight in (0.0, *WEIGHTS)}
    best = min(WEIGHTS, key=lambda weight: float(np.nanmean(losses[weight])))
    gain = diebold_mariano(losses[0.0], losses[best], step=1)
    if not gain.mean > 0 or not gain.standard_error > 0:
        return 0.0
    return best * max(0.0, 1 - (gain.standard_error / gain.mean) ** 2)


def weigh_median(q: NDArray[Any], weight: float, levels: Sequence[float]) -> Array:
    """Shift quantiles, whose last axis is `levels`, so that their median is multiplied by `weight`."""
    middle = list(levels).index(0.5)
    return np.asarray(q - (1 - weight) * q[..., middle : middle + 1], dtype=np.float64)
