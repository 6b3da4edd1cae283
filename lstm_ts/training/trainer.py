"""Lightning's trainer by configuration, with what every training here does, and what it leaves on the disk."""

import os
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from omegaconf import DictConfig
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lstm_ts.configuration.explanations import show_value
from lstm_ts.configuration.overrides import to_overrides
from lstm_ts.configuration.parts import construct, to_json
from lstm_ts.errors import ConfigError
from lstm_ts.lifetime import end_with
from lstm_ts.market.bars import hash_bars
from lstm_ts.model.checkpoints import read_checkpoint
from lstm_ts.model.datamodule import BarsDataModule
from lstm_ts.model.provenance import has_bf16, select_decisive, select_seen
from lstm_ts.processors import count_processors

warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 calls what torch 2.13 deprecates

SET_BY_TRAIN = ("callbacks", "logger", "default_root_dir")  # parameters of Lightning's trainer
DEVICES = ("accelerator", "devices", "num_nodes", "strategy")  # which a resumed run may change
# Others, at which each epoch is trained and validated once:
EPOCHS = {
    "fast_dev_run": False,
    "overfit_batches": 0,
    "check_val_every_n_epoch": 1,
    "val_check_interval": 1.0,  # 1 is after each batch
    "enable_checkpointing": True,
    "barebones": False,
}


@dataclass(frozen=True)
class ExponentialAverage:
    """Average weights by PyTorch's own function, which cannot be pickled for the processes of ddp_spawn."""

    decay: float

    def __call__(self, averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        get_ema_multi_avg_fn(self.decay)(averaged, current, count)  # type: ignore[no-untyped-call]


class Losses(Callback):
    """The validation loss after each epoch, in the checkpoint too, for resumed runs and for runs in other processes."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.values.append(float(trainer.callback_metrics["val/loss"]))

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = list(state_dict["values"])


class EndWithCommand(Callback):
    """Processes that ddp_fork or ddp_spawn starts end with the command, however it ends."""

    def __init__(self) -> None:
        self.command = os.getpid()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if os.getpid() != self.command:
            end_with(self.command, signal.SIGKILL)


class Progress(RichProgressBar):
    """Epoch, batches, time, and the validation loss of the epoch before, on one line that fits 80 columns."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        found = trainer.callback_metrics.get("val/loss")
        return {} if found is None else {"val/loss": f"{float(found):.3f}"}

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        columns: list[Any] = super().configure_columns(trainer)
        return columns[:-1]  # the last one shows batches a second


class ResumeEarlyStopping(Callback):
    """A run that had stopped, and is resumed, trains no further epoch, unless it is to wait longer."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        stopping = trainer.early_stopping_callback
        assert stopping
        stopping.patience = self.patience  # the checkpoint had its own
        trainer.should_stop = stopping.wait_count >= self.patience


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore the process's random state and PyTorch's threads after a training."""
    threads, states = torch.get_num_threads(), (random.getstate(), np.random.get_state(), torch.get_rng_state())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _check_epochs(trainer: DictConfig) -> None:
    """Raises    ConfigError: what every training here sets itself, or epochs without a validation"""
    for name in SET_BY_TRAIN:
        if trainer.get(name) is not None:
            raise ConfigError(f"Expected no trainer.{name}, which is set here, got {trainer[name]}; leave it out")
    for name, needed in EPOCHS.items():
        given = trainer.get(name)
        if given not in (None, needed) or (isinstance(needed, float) and isinstance(given, int)):
            raise ConfigError(
                f"Expected a validation after each epoch, got trainer.{name}={show_value(given)}; leave it out"
            )
    fewest, most = trainer.get("min_epochs"), trainer.max_epochs
    if isinstance(fewest, int) and isinstance(most, int) and fewest > most:
        raise ConfigError(f"Expected trainer.min_epochs of at most trainer.max_epochs={most}, got {fewest}")


def build_trainer(cfg: DictConfig, folder: Path) -> L.Trainer:
    """The trainer of the configuration, with what every training here does: average, stop early, keep the best."""
    if not 0 <= cfg.weight_averaging < 1 or min(cfg.patience, cfg.threads) < 1:
        raise ConfigError(
            f"Expected weight_averaging from 0 to below 1, patience and threads >= 1, "
            f"got {cfg.weight_averaging}, {cfg.patience} and {cfg.threads}"
        )
    _check_epochs(cfg.trainer)
    torch.set_num_threads(min(cfg.threads, count_processors()))
    callbacks: list[Callback] = [
        _average(cfg),
        EarlyStopping("val/loss", patience=cfg.patience),
        ResumeEarlyStopping(cfg.patience),
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val/loss"),
        ModelCheckpoint(folder / "checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False),
        Losses(),
        EndWithCommand(),
    ]
    if cfg.trainer.enable_progress_bar:
        callbacks.append(Progress(refresh_rate=10, console_kwargs={"stderr": True}))
    loggers = [construct(cfg.logger)] if cfg.logger else []
    if loggers:
        callbacks.append(LearningRateMonitor("step"))
    return _construct(cfg, callbacks=callbacks, logger=loggers, default_root_dir=folder)


def describe_run(cfg: DictConfig, data: BarsDataModule) -> list[str]:
    """Return the settings, as overrides, and the bars that a resumed run must have: all but patience and devices."""
    settings = select_decisive(to_json(cfg), "split", "warm_start")
    del settings["patience"]
    settings["trainer"] = {name: value for name, value in settings["trainer"].items() if name not in DEVICES}
    bars = [f"bars of {each.name} with SHA-256 {hash_bars(select_seen(each))[:12]}…" for each in data.symbols]
    return [*to_overrides(settings), *bars]


def build_final_trainer(cfg: DictConfig, epochs: int) -> L.Trainer:
    """One of a single process that validates on nothing and leaves nothing on the disk."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # of the training before, whose other processes have ended
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "limit_val_batches": 0, "enable_progress_bar": False}
    silent = {"logger": False, "enable_checkpointing": False}
    return _construct(cfg, max_epochs=epochs, callbacks=[_average(cfg)], **alone, **silent)


def _average(cfg: DictConfig) -> WeightAveraging:
    return WeightAveraging(multi_avg_fn=ExponentialAverage(cfg.weight_averaging))


def _construct(cfg: DictConfig, **settings: Any) -> L.Trainer:
    precision = cfg.trainer.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_bf16() else "32-true"
    try:
        trainer: L.Trainer = construct(cfg.trainer, precision=precision, **settings)
    except ConfigError:
        raise
    except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(f"Expected settings Lightning accepts under trainer, got: {error}") from error
    return trainer


def read_losses(trainer: L.Trainer) -> tuple[float, ...]:
    """The validation loss after each epoch; of the last checkpoint, as other processes may have trained.

    A run that is resumed in another folder, and trains no further epoch, leaves none there.
    """
    last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    if not last.exists():
        (losses,) = (each for each in trainer.callbacks if isinstance(each, Losses))  # type: ignore[attr-defined]
        return tuple(losses.values)
    return tuple(read_checkpoint(last)["callbacks"][Losses.__qualname__]["values"])
