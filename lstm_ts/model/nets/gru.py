"""Gated recurrent units (Cho et al. 2014): three quarters of an LSTM's parameters."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from lstm_ts.model.nets.recurrent import RecurrentConfig, RecurrentNet


@dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    name: ClassVar[str] = "gru"

    def build(self, **shape: Any) -> "GRUNet":
        return GRUNet(self, **shape)


class GRUNet(RecurrentNet):
    def __init__(self, config: GRUConfig, *, features: int, **decoder: Any) -> None:
        gru = nn.GRU(features, config.hidden, config.layers, batch_first=True, dropout=config.between_layers)
        super().__init__(config, **decoder, gru=gru)

    gru: nn.GRU

    def encode(self, x_BTF: Tensor) -> Tensor:
        _, state_LBD = self.gru(x_BTF)
        last_BD: Tensor = state_LBD[-1]
        return last_BD
