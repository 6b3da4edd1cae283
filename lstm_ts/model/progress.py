"""How far a training is, on one line that fits 80 columns."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Epoch, batches, time, and the validation loss of the epoch before."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        found = trainer.callback_metrics.get("val/loss")
        return {} if found is None else {"val/loss": f"{float(found):.3f}"}

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        columns: list[Any] = super().configure_columns(trainer)
        return columns[:-1]  # the last one tells batches a second
