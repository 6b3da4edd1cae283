"""Long short-term memory: the default network."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from lstm_ts.model.nets.recurrent import RecurrentConfig, RecurrentNet


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    name: ClassVar[str] = "lstm"

    def build(self, **shape: Any) -> "LSTMNet":
        return LSTMNet(self, **shape)


class LSTMNet(RecurrentNet):
    def __init__(self, config: LSTMConfig, *, features: int, **decoder: Any) -> None:
        lstm = nn.LSTM(features, config.hidden, config.layers, batch_first=True, dropout=config.between_layers)
        super().__init__(config, **decoder, lstm=lstm)

    lstm: nn.LSTM

    def encode(self, x_BTF: Tensor) -> Tensor:
        _, (state_LBD, _) = self.lstm(x_BTF)
        last_BD: Tensor = state_LBD[-1]
        return last_BD
