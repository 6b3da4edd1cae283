"""Stored hourly bars → trained forecasters, as configured.

Shared by `train`, `retrain`, `backtest` and `lstm_ts.fit`.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import lightning as L
import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from lstm_ts.configuration.parts import choose_symbols, construct, processed_store, to_json
from lstm_ts.errors import ConfigError
from lstm_ts.market.levels import close_range
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.model.baselines import BASELINES
from lstm_ts.model.checkpoints import RUN, read_checkpoint
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.evaluation import Span
from lstm_ts.model.export import export
from lstm_ts.model.features import compute_returns_GH
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.lightning_module import ForecastModule, Optimisation
from lstm_ts.model.location import weigh_location
from lstm_ts.model.nets import NetConfig, build_net, describe_net, start_from
from lstm_ts.model.network import Network
from lstm_ts.model.provenance import describe
from lstm_ts.model.scaler import Scaler
from lstm_ts.model.symbol_data import SymbolBars, SymbolData
from lstm_ts.model.windows import find_origins
from lstm_ts.registry.version import CHAMPION
from lstm_ts.training.trainer import build_final_trainer, describe_run, read_losses

TAKEN = {*BASELINES, CHAMPION, "lightgbm", "garch", "from_scratch", "from_previous"}  # forecasts beside a model's

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """Result of a training: forecasters, and the validation loss after each epoch until the final ones."""

    forecasters: tuple[Forecaster, ...]  # one a symbol, in the order of the data
    losses: tuple[float, ...]  # over that of har_rolling on the same validation hours
    steps_per_epoch: int
    seconds: float

    @property
    def forecaster(self) -> Forecaster:
        """Forecaster of the first symbol."""
        return self.forecasters[0]

    @property
    def loss(self) -> float:
        return min(self.losses)


def build_module(
    data: BarsDataModule, config: NetConfig, optimisation: Optimisation, *, start: Network | None
) -> ForecastModule:
    """start     a network of the same settings whose weights are the first ones; None: from scratch
    Raises    ConfigError: the network has the name of another forecast
    """
    if config.name in TAKEN:
        raise ConfigError(
            f"Expected a network of another name than {', '.join(sorted(TAKEN))}, got {config.name}; rename it"
        )
    data.setup()
    net = build_net(config, data.start_HQ, volatilities=data.volatilities)
    if start is not None:
        start_from(net, start.weights)
    return ForecastModule(
        net,
        levels=data.spec.levels,
        start_HQ=data.start_HQ,
        start_pinball_H=data.start_pinball_H,
        optimisation=optimisation,
        seed=data.seed,
    )


def train(model: ForecastModule, data: BarsDataModule, trainer: L.Trainer, *, ckpt_path: Path | None) -> None:
    """Fit the model, then restore the weights of the epoch with the lowest validation loss.

    Raises    ConfigError: no epoch to train, or settings that Lightning refuses, as fewer epochs than a checkpoint has
    """
    try:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(f"Expected settings Lightning accepts under trainer, got: {error}") from error
    except RuntimeError as error:
        if not str(error).startswith("Early stopping conditioned on metric"):
            raise
        raise ConfigError(
            "Expected at least one whole epoch before its validation, got fewer steps; raise trainer.max_steps or "
            "trainer.max_time, or leave them out"
        ) from error
    checkpoint = trainer.checkpoint_callback
    assert isinstance(checkpoint, ModelCheckpoint)
    if not checkpoint.best_model_path:
        raise ConfigError(f"Expected at least one epoch to train, got trainer.max_epochs={trainer.max_epochs}")
    model.load_state_dict(read_checkpoint(checkpoint.best_model_path)["state_dict"])


def read_bars(cfg: DictConfig) -> list[SymbolBars]:
    """Read the stored hourly bars of the symbols of the configuration."""
    stores = {symbol: processed_store(cfg, symbol) for symbol in choose_symbols(cfg)}
    return [SymbolBars(symbol, store.read(), store.source) for symbol, store in stores.items()]


def make_data(
    cfg: DictConfig,
    bars: Sequence[SymbolBars],
    split: Split,
    *,
    kept_scalers: Mapping[str, Scaler] | None = None,
    drift_weights: Mapping[str, float | None] | None = None,
) -> BarsDataModule:
    """Make the data module of the configuration, and set it up."""
    data: BarsDataModule = construct(
        cfg.data,
        bars=bars,
        spec=construct(cfg.spec),
        split=split,
        kept_scalers=kept_scalers,
        drift_weights=drift_weights,
    )
    data.setup()
    return data


def fit(
    cfg: DictConfig,
    data: BarsDataModule,
    trainer: L.Trainer,
    *,
    ckpt_path: Path | None = None,
    start: Forecaster | None = None,
) -> Fitted:
    """Train as configured, from a seed of its own; the forecasters have no scores yet."""
    L.seed_everything(cfg.seed, verbose=False)
    config = construct(cfg.net)
    optimisation = construct(cfg.optimisation, **({} if start is None else {"lr": cfg.warm_lr}))
    started = time.perf_counter()
    model = build_module(data, config, optimisation, start=start.network if start else None)
    model.save_hyperparameters({RUN: describe_run(cfg, data)}, logger=False)  # for its checkpoints
    train(model, data, trainer, ckpt_path=ckpt_path)
    if not trainer.is_global_zero:  # one process continues, and writes the model
        sys.exit(0)
    network = export_net(model, config, data)
    steps_per_epoch = len(data.train_dataloader())
    weights = [weigh_location(network, each.valid_windows, data.spec.levels) for each in data.symbols]
    if optimisation.final_epochs:
        drifts = {each.name: each.drift_weight for each in data.symbols}
        data = make_data(cfg, data.bars, data.split, kept_scalers=data.kept_scalers, drift_weights=drifts)
        network = export_net(train_on_all(cfg, data, config, network), config, data)
    seconds = round(time.perf_counter() - started, 2)
    settings = to_json(cfg) | {"split": data.split.plain()}  # backtest and retrain split by other settings than `split`
    forecasters = tuple(
        Forecaster(
            network,
            each.scaler,
            each.reference,
            data.spec,
            each.bars.symbol.session,
            describe(each, seed=data.seed, config=settings),
            scores={},
            closes=close_range(each.train_closes),
            quote=each.bars.symbol.quote,
            location_weight=weight,
        )
        for each, weight in zip(data.symbols, weights, strict=True)
    )
    fitted = Fitted(forecasters, read_losses(trainer), steps_per_epoch, seconds)
    log.info("Validation loss: %.4f times that of har_rolling on the same hours", fitted.loss)
    for each, weight in zip(data.symbols, weights, strict=True):
        drift = "kept" if each.drift_weight is None else f"{each.drift_weight:.2f}"
        log.info("Weights by validation, %s: median %.2f, drift %s", each.name, weight, drift)
    return fitted


def export_net(model: ForecastModule, config: NetConfig, data: BarsDataModule) -> Network:
    return export(model.net.cpu(), describe_net(config), data.spec, volatilities=data.volatilities)


def train_on_all(cfg: DictConfig, data: BarsDataModule, config: NetConfig, start: Network) -> ForecastModule:
    """Train the final epochs from the weights of `start`.

    data    without a validation
    """
    optimisation = construct(cfg.optimisation, lr=cfg.warm_lr)
    log.info("%d epochs on all hours until %s", optimisation.final_epochs, data.test_from)
    model = build_module(data, config, optimisation, start=start)
    build_final_trainer(cfg, optimisation.final_epochs).fit(model, datamodule=data)
    return model


def load_start(cfg: DictConfig, data: BarsDataModule) -> Forecaster:
    """Load the model of the first weights.    Raises    ConfigError: they cannot be; ArtifactError: no model"""
    start = load_forecaster(Path(str(cfg.warm_start)))
    if obstacle := find_obstacle(start, construct(cfg.net), data):
        raise ConfigError(f"Expected warm_start with a model {obstacle}; take another one")
    return start


def find_obstacle(start: Forecaster, config: NetConfig, data: BarsDataModule) -> str:
    """Return why a training cannot begin with the weights of `start`, such as "of …, got …"; empty: it can."""
    theirs = {**start.network.config, "volatilities": start.network.volatilities}
    ours = describe_net(config) | {"volatilities": data.volatilities}
    if theirs != ours:
        return f"of {ours}, got {theirs}"
    seen = start.provenance.trained_until
    if datetime.fromisoformat(seen) > data.valid_from:
        return f"trained before the validation from {data.valid_from.isoformat()}, got one until {seen}"
    return ""


def find_test_spans(cfg: DictConfig, data: BarsDataModule) -> list[Span]:
    """Find each symbol's span after the validation, or the validation's if some step has no outcome there.

    Raises    ConfigError: the validation's span is to be trained on, too
    """
    spans = [_find_test_span(each, data.split) for each in data.symbols]
    for each, span in zip(data.symbols, spans, strict=True):
        if span.start != data.test_from and cfg.optimisation.final_epochs:
            raise ConfigError(
                f"Expected bars of {each.name} after split.test_from={data.split.test_from} to score, got none, or too "
                f"few for one horizon; move it, or set optimisation.final_epochs=0"
            )
    return spans


def _find_test_span(data: SymbolData, split: Split) -> Span:
    after = find_origins(data.grid, data.spec, start=data.test_from, end=split.test_until)
    if np.isfinite(compute_returns_GH(data.grid, horizon=data.spec.horizon)[after.rows_N]).any(axis=0).all():
        return Span(data.test_from, split.test_until)
    log.warning(
        "Forecasts of %s after split.test_from have no outcome at some of their steps: the scores are those of the "
        "validation span, on which the epoch was chosen",
        data.name,
    )
    return Span(data.valid_from, data.test_from)
