"""An LSTM that shifts and stretches the quantiles of the training returns.

Legend: B batch, T tsteps, F features, C target columns, H steps, Q levels, D width of the decoder.
Every return is in units of the window's scale (see `scaler.py`). With its last layer at zero, as it
starts, the network is the volatility forecast: the train quantiles times that scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_LOG_STRETCH = 2.0  # a seventh to seven times the usual size, so quantiles stay apart in float32


class LSTMNet(nn.Module):
    """(B, T, F) window and (B, H, C) calendar of the target hours → (B, H, Q) quantiles that cannot cross."""

    def __init__(
        self,
        *,
        features: int,
        target_columns: int,
        base_HQ: Tensor,  # train quantiles per step, ascending
        hidden: int,
        layers: int,
        decoder: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.from_window = nn.Linear(hidden, decoder)
        self.from_target = nn.Linear(target_columns + 1, decoder, bias=False)
        self.gate = nn.Linear(target_columns + 1, decoder)
        self.head = nn.Linear(decoder, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("base_HQ", base_HQ)
        log_step_H1 = torch.arange(1, len(base_HQ) + 1).log()[:, None] / 3  # 0..1.06 for 24 steps
        self.register_buffer("log_step_H1", log_step_H1)

    base_HQ: Tensor
    log_step_H1: Tensor

    @torch.no_grad()
    def start_from(self, other: "LSTMNet") -> None:
        """Take over the weights of a network of the same shape, but not its train quantiles."""
        for mine, theirs in zip(self.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)

    def forward(self, x_BTF: Tensor, calendar_BHC: Tensor, profile_BH: Tensor) -> Tensor:
        _, (state_LBD, _) = self.lstm(x_BTF)
        log_step_BH1 = self.log_step_H1.expand(len(x_BTF), -1, -1)
        target_BHC = torch.cat([calendar_BHC, log_step_BH1], dim=-1)
        window_B1D = self.from_window(self.dropout(state_LBD[-1]))[:, None]
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
        shift_BH = profile_BH[:, :1] * drift_BH[:, :1] / usual_BH.sqrt()
        return shift_BH[..., None] + stretch_BH[..., None] * self.base_HQ


def pinball_loss(z_BH: Tensor, q_BHQ: Tensor, levels_Q: Tensor, weight_H: Tensor) -> Tensor:
    """Weighted mean over levels, steps and rows of the quantile loss; a missing (NaN) target has no weight."""
    known_BH = ~z_BH.isnan()
    error_BHQ = z_BH.nan_to_num()[..., None] - q_BHQ
    loss_BH = torch.maximum(levels_Q * error_BHQ, (levels_Q - 1) * error_BHQ).mean(-1)
    return (loss_BH * weight_H * known_BH).sum() / known_BH.sum().clamp(min=1)
