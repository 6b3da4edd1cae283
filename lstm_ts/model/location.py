"""What the shift of a network's forecasts is worth, by the validation hours.

Legend: N windows, B batch, H steps, Q levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lstm_ts.model.features import Array
from lstm_ts.model.tensors import TensorWindows
from lstm_ts.scoring.metrics import diebold_mariano, pinball_NH

WEIGHTS = (0.25, 0.5, 0.75, 1.0)
BATCH = 4096


def weigh_location(net: Any, windows: TensorWindows, levels: Sequence[float]) -> float:
    """Find the weight of the shift, 0..1: the best one on these windows, shrunk by the positive-part James-Stein factor
    1 - 1 / t² of what it gains over no shift, and 0 where it gains nothing. Judged one hour ahead, where it is made.

    net   as `NetConfig.build` makes it
    """
    without_N = _losses_N(net, windows, levels, 0.0)
    losses = {weight: _losses_N(net, windows, levels, weight) for weight in WEIGHTS}
    best = min(WEIGHTS, key=lambda weight: float(np.nanmean(losses[weight])))
    gain = diebold_mariano(without_N, losses[best], step=1)
    if not gain.mean > 0 or not gain.standard_error > 0:
        return 0.0
    return best * max(0.0, 1 - (gain.standard_error / gain.mean) ** 2)


@torch.no_grad()
def _losses_N(net: Any, windows: TensorWindows, levels: Sequence[float], weight: float) -> Array:
    """Pinball one hour ahead, in units of the scale; NaN where the target is missing."""
    net.location_weight = weight
    net.eval()
    found = []
    for start in range(0, len(windows), BATCH):
        batch = windows[slice(start, start + BATCH)]
        q_BHQ = net(batch.x_BTF, batch.calendar_BHC, batch.profile_BH, batch.volatility_BV)
        found.append(pinball_NH(batch.z_BH[:, :1].double().numpy(), q_BHQ[:, :1].double().numpy(), levels)[:, 0])
    return np.concatenate(found)
