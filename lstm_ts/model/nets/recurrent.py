"""Base of recurrent networks: a state of the window shifts and stretches the quantiles of the training returns.

Legend: B batch, T tsteps, F features, C target columns, V volatilities, H steps, Q levels, D units.
Every return is in units of the window's scale (see `scaler.py`). With its last layer at zero, as it
starts, the network is the baseline `har_rolling` made symmetric: the train quantiles, without skew, times that scale.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_ts.errors import ConfigError

MOST_LAYERS, MOST_UNITS = 64, 65_536
MAX_DRIFT = 0.5  # of the first hour's usual size: no evidence carries a median further
MAX_LOG_STRETCH = 2.0  # a seventh to seven times the usual size, so quantiles stay apart in float32


@dataclass(frozen=True)
class RecurrentConfig:
    hidden: int  # units of each layer
    layers: int
    decoder: int  # units of the layer that joins the window with each target hour
    dropout: float

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.decoder) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"Expected hidden, layers and decoder >= 1 and dropout from 0 to below 1, got {self.hidden}, "
                f"{self.layers}, {self.decoder} and {self.dropout}"
            )
        if max(self.hidden, self.decoder) > MOST_UNITS or self.layers > MOST_LAYERS:
            raise ConfigError(f"Expected at most {MOST_LAYERS} layers and {MOST_UNITS} units of a network, got more")

    @property
    def between_layers(self) -> float:
        """Dropout between recurrent layers; 0 for a single layer, since PyTorch warns of any other value there."""
        return self.dropout if self.layers > 1 else 0.0


class RecurrentNet(nn.Module):
    """Window (B, T, F), calendar (B, H, C) and profile (B, H) of the target hours, log volatilities (B, V) ->
    (B, H, Q) quantiles that cannot cross.
    """

    def __init__(
        self,
        config: RecurrentConfig,
        *,
        target_columns: int,
        volatilities: int,
        base_HQ: Tensor,
        **encoder: nn.Module,
    ) -> None:
        """base_HQ   train quantiles per step, ascending
        encoder   the modules that `encode` uses, by the attribute they become
        """
        super().__init__()
        for name, module in encoder.items():
            self.add_module(name, module)
        self.dropout = nn.Dropout(config.dropout)
        self.from_window = nn.Linear(config.hidden + volatilities, config.decoder)
        self.from_target = nn.Linear(target_columns + 1, config.decoder, bias=False)
        self.gate = nn.Linear(target_columns + 1, config.decoder)
        self.head = nn.Linear(config.decoder, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.max_drift = MAX_DRIFT
        self.register_buffer("base_HQ", base_HQ)
        log_step_H1 = torch.arange(1, len(base_HQ) + 1).log()[:, None] / 3  # 0..1.06 for 24 steps
        self.register_buffer("log_step_H1", log_step_H1)

    base_HQ: Tensor
    log_step_H1: Tensor

    def encode(self, x_BTF: Tensor) -> Tensor:
        """Return the (B, D) state after the window."""
        raise NotImplementedError

    def forward(
        self, x_BTF: Tensor, calendar_BHC: Tensor, profile_BH: Tensor, volatility_BV: Tensor | None = None
    ) -> Tensor:
        """volatility_BV   None: a network of 0 volatilities"""
        state_BD = self.dropout(self.encode(x_BTF))
        if volatility_BV is not None:
            state_BD = torch.cat([state_BD, volatility_BV], dim=-1)
        log_step_BH1 = self.log_step_H1.expand(x_BTF.shape[0], -1, -1)
        target_BHC = torch.cat([calendar_BHC, log_step_BH1], dim=-1)
        window_B1D = self.from_window(state_BD)[:, None]
        both_BHD = F.gelu(window_B1D + self.from_target(target_BHC)) * (1 + self.gate(target_BHC))
        out_BH2 = self.head(self.dropout(both_BHD)).float()
        return self._quantiles(out_BH2[..., 0], out_BH2[..., 1], profile_BH)

    def _quantiles(self, log_stretch_BH: Tensor, drift_BH: Tensor, profile_BH: Tensor) -> Tensor:
        """Stretch each hour's variance, and move the whole path by the first hour's drift.

        The variance of k hours is the sum of the hours', so neighbouring steps cannot contradict each other.
        """
        log_stretch_BH = log_stretch_BH.clamp(-MAX_LOG_STRETCH, MAX_LOG_STRETCH)
        variance_BH = profile_BH**2
        usual_BH = variance_BH.cumsum(1)
        stretch_BH = ((variance_BH * (2 * log_stretch_BH).exp()).cumsum(1) / usual_BH).sqrt()
        drift_B1 = drift_BH[:, :1].clamp(-self.max_drift, self.max_drift)
        shift_BH = profile_BH[:, :1] * drift_B1 / usual_BH.sqrt()
        return shift_BH[..., None] + stretch_BH[..., None] * self.base_HQ
