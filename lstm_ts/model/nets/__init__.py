"""Networks for training, each a module with its settings.

A forecast needs no module: it runs the ONNX graph that `export.py` makes of a trained network.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_ts.model.features import Array
from lstm_ts.model.windows import FEATURES, TARGET_COLUMNS


class NetConfig(Protocol):
    """A frozen dataclass of JSON values: the settings of one kind of network, which `conf/net/<name>.yaml` gives."""

    @property
    def name(self) -> str:
        """Name of this kind of network in manifests and reports."""

    def build(self, *, features: int, target_columns: int, volatilities: int, base_HQ: Tensor) -> nn.Module:
        """Build a network (x_BTF, calendar_BHC, profile_BH, volatility_BV) -> z_BHQ, in units of the window's scale.

        It may ignore inputs. Its median is its location, which is weighed after training, see `location.py`.

        base_HQ   ascending train quantiles per step: what the network forecasts before it is trained
        """


def describe_net(config: NetConfig) -> dict[str, Any]:
    """Return the name and the settings, in JSON types."""
    return {"name": config.name, **vars(config)}


def build_net(config: NetConfig, start_HQ: Array, *, volatilities: int) -> nn.Module:
    """Build a network that starts at the baseline `har_rolling`, made symmetric."""
    base_HQ = torch.from_numpy(((start_HQ - start_HQ[:, ::-1]) / 2).astype(np.float32))
    return config.build(features=FEATURES, target_columns=TARGET_COLUMNS, volatilities=volatilities, base_HQ=base_HQ)


@torch.no_grad()
def start_from(net: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Take over the parameters of a network of the same settings, but not its train quantiles."""
    for name, parameter in net.named_parameters():
        parameter.copy_(torch.from_numpy(weights[name]))
