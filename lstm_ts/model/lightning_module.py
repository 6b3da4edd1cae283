"""Training of a network: loss, optimiser, schedule."""

import time
from collections.abc import Sequence

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from lstm_ts.errors import ConfigError
from lstm_ts.model.features import Array
from lstm_ts.model.tensors import flip_sign
from lstm_ts.model.windows import Batch

MOST_DECAY, MOST_WEIGHT_DECAY = 10, 100
RANK_SEED = 7_919  # times the rank: each process draws its own


class Optimisation:
    """AdamW with one-cycle, how much each step weighs in the loss, and epochs on all hours at the end."""

    def __init__(self, *, lr: float, weight_decay: float, warm_up: float, step_decay: float, final_epochs: int) -> None:
        if not 0 < lr <= 1 or min(weight_decay, final_epochs) < 0 or not 0 < warm_up < 1:
            raise ConfigError(
                f"Expected lr > 0 and <= 1, weight_decay and final_epochs >= 0 and warm_up between 0 and 1, "
                f"got {lr}, {weight_decay}, {final_epochs} and {warm_up}"
            )
        if weight_decay > MOST_WEIGHT_DECAY or not -MOST_DECAY <= step_decay <= MOST_DECAY:
            raise ConfigError(
                f"Expected weight_decay <= {MOST_WEIGHT_DECAY} and step_decay from -{MOST_DECAY} to {MOST_DECAY}, "
                f"got {weight_decay} and {step_decay}"
            )
        self.lr = lr
        self.weight_decay = weight_decay
        self.warm_up = warm_up
        self.step_decay = step_decay
        self.final_epochs = final_epochs

    def step_weights(self, start_pinball_H: Array) -> Tensor:
        """(H,) weights with which the training loss of `har_rolling` is 1, whatever the horizon."""
        step_H = np.arange(1.0, len(start_pinball_H) + 1)
        share_H = step_H**-self.step_decay
        weight_H = share_H / share_H.mean() / start_pinball_H
        return torch.from_numpy(weight_H.astype(np.float32))


class ForecastModule(L.LightningModule):
    def __init__(
        self,
        net: nn.Module,
        *,
        levels: Sequence[float],
        start_HQ: Array,
        start_pinball_H: Array,
        optimisation: Optimisation,
        seed: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.seed = seed
        self.optimisation = optimisation
        self.register_buffer("levels_Q", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.register_buffer("step_weight_H", optimisation.step_weights(start_pinball_H), persistent=False)
        self.register_buffer("start_HQ", torch.from_numpy(start_HQ.astype(np.float32)), persistent=False)

    levels_Q: Tensor
    step_weight_H: Tensor
    start_HQ: Tensor

    def _loss(self, batch: Batch[Tensor]) -> Tensor:
        """Pinball loss in units of that of `har_rolling` on the training hours."""
        q_BHQ = self.net(batch.x_BTF, batch.calendar_BHC, batch.profile_BH, batch.volatility_BV)
        return pinball_loss(batch.z_BH, q_BHQ, self.levels_Q, self.step_weight_H)

    def _har_loss(self, batch: Batch[Tensor]) -> Tensor:
        """The same loss of `har_rolling`, which has no drift."""
        q_BHQ = self.start_HQ - batch.drift_BH[..., None]
        return pinball_loss(batch.z_BH, q_BHQ, self.levels_Q, self.step_weight_H)

    def training_loss(self, batch: Batch[Tensor]) -> Tensor:
        """The loss with half of the windows flipped in sign: around the drift, a rise is as likely as a fall."""
        sign_B = torch.randint(0, 2, (len(batch.x_BTF),), device=batch.x_BTF.device) * 2.0 - 1
        return self._loss(flip_sign(batch, sign_B))

    def training_step(self, batch: Batch[Tensor], batch_idx: int) -> Tensor:
        loss = self.training_loss(batch)
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss", loss, prog_bar=True)  # at every step it would cost a tenth of the time
        return loss

    def on_train_epoch_start(self) -> None:
        epoch_seed = self.seed * 100_003 + self.current_epoch  # so a resumed run draws what it would have drawn
        torch.manual_seed(epoch_seed + RANK_SEED * self.global_rank)
        self.epoch_started = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        assert self.trainer.train_dataloader is not None
        windows = len(self.trainer.train_dataloader.dataset)
        speed = windows / (time.perf_counter() - self.epoch_started)
        self.log("train/windows_per_s", speed, prog_bar=True, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        self.validation_losses = torch.zeros(2, device=self.device)  # sums: of the network, of har_rolling

    def validation_step(self, batch: Batch[Tensor], batch_idx: int) -> None:
        known = (~batch.z_BH.isnan()).sum()
        self.validation_losses += known * torch.stack([self._loss(batch), self._har_loss(batch)])

    def on_validation_epoch_end(self) -> None:
        """Log the network's loss over that of `har_rolling` on the same hours: below 1 is better."""
        network, har = self.trainer.strategy.reduce(self.validation_losses, reduce_op="sum")
        self.log("val/loss", network / har, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        chosen = self.optimisation
        matrices = [p for p in self.net.parameters() if p.ndim > 1]
        biases = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": chosen.weight_decay}, {"params": biases, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=chosen.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, chosen.lr, steps, pct_start=chosen.warm_up)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def pinball_loss(z_BH: Tensor, q_BHQ: Tensor, levels_Q: Tensor, weight_H: Tensor) -> Tensor:
    """Weighted mean over levels, steps and rows of the quantile loss; a missing (NaN) target has no weight."""
    known_BH = ~z_BH.isnan()
    error_BHQ = z_BH.nan_to_num()[..., None] - q_BHQ
    loss_BH = torch.maximum(levels_Q * error_BHQ, (levels_Q - 1) * error_BHQ).mean(-1)
    return (loss_BH * weight_H * known_BH).sum() / known_BH.sum().clamp(min=1)
