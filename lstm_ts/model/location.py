"""Weight of a network's median, estimated on hours it was not trained on. Pure.

Legend: N windows, 1 the first step, Q levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array
from lstm_ts.model.network import Network
from lstm_ts.model.windows import Windows
from lstm_ts.scoring.metrics import diebold_mariano, pinball_NH

WEIGHTS = (0.25, 0.5, 0.75, 1.0)


def weigh_location(network: Network, windows: Windows[NDArray[Any]], levels: Sequence[float]) -> float:
    """Return the weight of the median, 0..1: the best of WEIGHTS on these windows one hour ahead, shrunk by the
    positive-part James-Stein factor 1 - 1 / t² of its gain over a median of 0; 0 without a gain.
    """
    z_N1, q_N1Q = windows.z_GH[windows.origin_N, :1], network.quantiles(windows)[:, :1]
    losses = {w: pinball_NH(z_N1, weigh_median(q_N1Q, w, levels), levels)[:, 0] for w in (0.0, *WEIGHTS)}
    best = min(WEIGHTS, key=lambda weight: float(np.nanmean(losses[weight])))
    gain = diebold_mariano(losses[0.0], losses[best], step=1)
    if not gain.mean > 0 or not gain.standard_error > 0:
        return 0.0
    return best * max(0.0, 1 - (gain.standard_error / gain.mean) ** 2)


def weigh_median(q: NDArray[Any], weight: float, levels: Sequence[float]) -> Array:
    """Shift quantiles, whose last axis is `levels`, so that their median is multiplied by `weight`."""
    middle = list(levels).index(0.5)
    return np.asarray(q - (1 - weight) * q[..., middle : middle + 1], dtype=np.float64)
