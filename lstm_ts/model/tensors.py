"""Windows as tensors, for training.

Legend: G grid hours, B batch, T tsteps, F features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lstm_ts.model.windows import SIGN_FLIPPED_COLUMNS, Batch, Windows


class TensorWindows(Windows[Tensor]):
    def _take_features(self, rows_BT: Tensor) -> Tensor:
        return F.embedding(rows_BT, self.features_GF)  # indexing takes three times as long


def to_tensors(windows: Windows[NDArray[Any]], device: torch.device | str) -> TensorWindows:
    return TensorWindows(**{name: torch.as_tensor(values).to(device) for name, values in vars(windows).items()})


def flip_sign(batch: Batch[Tensor], sign_B: Tensor) -> Batch[Tensor]:
    """The windows as they were had each log price moved by `sign` (1 or -1) times as much around the drift."""
    sign_F = torch.ones(len(sign_B), batch.x_BTF.shape[-1], device=sign_B.device)
    sign_F[:, SIGN_FLIPPED_COLUMNS] = sign_B[:, None]
    return batch._replace(x_BTF=batch.x_BTF * sign_F[:, None], z_BH=batch.z_BH * sign_B[:, None])
