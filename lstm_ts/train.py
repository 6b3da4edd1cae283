"""`python -m lstm_ts.train`: stored hourly bars → a trained, scored, hashed model."""

import hashlib
import logging
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning as L
import polars as pl
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
from omegaconf import DictConfig, OmegaConf
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lstm_ts.cli import construct, entry_point, processed_store, run_folder
from lstm_ts.data import BarsDataModule
from lstm_ts.errors import ConfigError
from lstm_ts.evaluate import Span, check_lightgbm, score
from lstm_ts.forecaster import Forecaster, NetShape, Provenance, build_net
from lstm_ts.model import LSTMForecaster, Optimisation
from lstm_ts.tracking import close, log_results
from lstm_ts.windows import find_origins

log = logging.getLogger(__name__)
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 calls what torch 2.13 deprecates
LIBRARIES = ("torch", "lightning", "polars", "numpy", "pandas_market_calendars", "safetensors")


def train(
    data: BarsDataModule,
    shape: NetShape,
    optimisation: Optimisation,
    trainer: L.Trainer,
    *,
    ckpt_path: Path | None,
) -> tuple[LSTMForecaster, float]:
    """Fit, and go back to the weights of the epoch with the lowest validation loss, which is returned beside."""
    data.setup()
    net = build_net(shape, data.reference)
    model = LSTMForecaster(
        net, levels=data.spec.levels, reference=data.reference, optimisation=optimisation, seed=data.seed
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    checkpoint = trainer.checkpoint_callback
    assert isinstance(checkpoint, ModelCheckpoint)
    if not checkpoint.best_model_path:
        raise ConfigError(f"Expected at least one epoch to train, got trainer.max_epochs={trainer.max_epochs}")
    best = torch.load(checkpoint.best_model_path, weights_only=True)
    model.load_state_dict(best["state_dict"])
    loss = float(cast(torch.Tensor, checkpoint.best_model_score))
    log.info("Validation loss %.4f of the volatility forecast's", loss)
    return model, loss


def build_trainer(cfg: DictConfig, folder: Path) -> L.Trainer:
    """The trainer of the configuration, with what every training here does: average, stop early, keep the best."""
    precision = cfg.trainer.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_bf16() else "32-true"
    if not 0 <= cfg.weight_averaging < 1 or cfg.patience < 1:
        raise ConfigError(
            f"Expected weight_averaging within 0..1 and patience >= 1, got {cfg.weight_averaging} and {cfg.patience}"
        )
    callbacks: list[Callback] = [
        WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(cfg.weight_averaging)),  # type: ignore[no-untyped-call]
        EarlyStopping("val/loss", patience=cfg.patience),
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val/loss"),
        ModelCheckpoint(folder / "checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False),
        RichProgressBar(refresh_rate=10, console_kwargs={"stderr": True}),
    ]
    loggers = [construct(cfg.logger)] if cfg.logger else []
    if loggers:
        callbacks.append(LearningRateMonitor("step"))
    try:
        trainer: L.Trainer = construct(
            cfg.trainer, precision=precision, callbacks=callbacks, logger=loggers, default_root_dir=folder
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"Expected settings Lightning accepts under trainer, got: {error}") from error
    return trainer


def has_bf16() -> bool:
    """Whether multiplying in bf16 is an instruction here: on the GPU, or AVX-512 bf16 on the CPU."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def find_checkpoint(ckpt_path: str | None, outputs: Path) -> Path | None:
    """`last` is the newest checkpoint under `outputs` of a run that did not come to leave a model.

    Raises    ConfigError: there is none, or no file at the path
    """
    if ckpt_path is None:
        return None
    if ckpt_path != "last":
        if not Path(ckpt_path).is_file():
            raise ConfigError(f"Expected ckpt_path=last or a checkpoint, got {ckpt_path}, which is no file")
        return Path(ckpt_path)
    found = [path for path in outputs.glob("**/checkpoints/last.ckpt") if not (path.parents[1] / "model").exists()]
    if not found:
        raise ConfigError(
            f"Expected an interrupted run under {outputs} for ckpt_path=last, got none; leave ckpt_path out"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def describe(data: BarsDataModule, cfg: DictConfig, *, symbol: str, source: str) -> Provenance:
    seen = data.hourly_bars.filter(pl.col("ts") < data.test_from)
    return Provenance(
        symbol=symbol,
        source=source,
        data_start=seen["ts"][0].isoformat(),
        data_end=data.test_from.isoformat(),
        data_sha256=hash_bars(seen),
        trained_until=data.valid_from.isoformat(),
        seed=data.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code_revision=code_revision(),
        versions={name: version(name) for name in LIBRARIES} | {"python": sys.version.split()[0]},
        config=cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)),
    )


def hash_bars(bars: pl.DataFrame) -> str:
    """SHA-256 of the values, column by column, whatever file they came from."""
    digest = hashlib.sha256()
    for name in bars.columns:
        digest.update(bars[name].to_physical().to_numpy().tobytes())
    return digest.hexdigest()


def code_revision() -> str:
    """The commit, with a plus sign where the tree differs from it; `unknown` outside a checkout or without git."""
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+")
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Returns the best validation loss, for the sweepers."""
    L.seed_everything(cfg.seed, verbose=False)
    store = processed_store(cfg)
    session, shape, optimisation = construct(cfg.session), construct(cfg.net), construct(cfg.optimisation)
    data: BarsDataModule = construct(
        cfg.data, hourly_bars=store.read(), session=session, spec=construct(cfg.spec), split=construct(cfg.split)
    )
    data.setup()
    check_lightgbm(cfg.lightgbm_steps, horizon=data.spec.horizon)
    provenance = describe(data, cfg, symbol=cfg.symbol, source=store.source)
    checkpoint = find_checkpoint(cfg.ckpt_path, Path(cfg.paths.outputs) / "train")
    folder = checkpoint.parents[1] if checkpoint and cfg.ckpt_path == "last" else claim(run_folder())
    trainer = build_trainer(cfg, folder)
    try:
        model, loss = train(data, shape, optimisation, trainer, ckpt_path=checkpoint)
        forecaster = Forecaster(
            model.net.cpu(), shape, data.scaler, data.reference, data.spec, session, provenance, scores={}
        )
        scores = score(
            forecaster,
            data.hourly_bars,
            test_span(data),
            source=provenance.source,
            lightgbm_steps=cfg.lightgbm_steps,
            folder=folder / "scores",
        )
        replace(forecaster, scores=scores.to_json()).save(folder / "model")
        log_results(trainer.loggers, scores, folder)
    finally:
        close(trainer.loggers)
    print(folder / "model")
    return loss


def claim(folder: Path) -> Path:
    """Raises    ConfigError: another run, started in the same second perhaps, has the folder"""
    try:
        (folder / "checkpoints").mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(
            f"Expected a run folder of its own, got {folder}, which another run has; run it again"
        ) from None
    return folder


def test_span(data: BarsDataModule) -> Span:
    """What comes after the validation; the validation itself where nothing does."""
    after = find_origins(data.grid, data.spec, start=data.test_from, end=data.split.test_until)
    if len(after.rows_N):
        return Span(data.test_from, data.split.test_until)
    log.warning(
        "No bars after split.test_from: the scores are those of the validation span, on which the epoch was chosen"
    )
    return Span(data.valid_from, data.test_from)


if __name__ == "__main__":
    main()
