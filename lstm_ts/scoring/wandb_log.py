"""Log a training to Weights & Biases; without a key, offline into files for `wandb sync`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import Logger, WandbLogger

from lstm_ts.errors import ConfigError
from lstm_ts.scoring.scores import Scores

if TYPE_CHECKING:
    import wandb


def wandb_logger(*, project: str, save_dir: str, group: str) -> WandbLogger:
    """Raises    ConfigError: the extra is not installed"""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of errors to W&B, even offline
    try:
        import wandb
    except ModuleNotFoundError:
        raise ConfigError("Expected wandb to be installed for logger=wandb; pip install 'lstm_ts[wandb]'") from None
    mode = "online" if wandb.login(prompt=False) else "offline"
    return WandbLogger(project=project, save_dir=save_dir, group=group, mode=os.environ.get("WANDB_MODE", mode))


def log_results(loggers: Sequence[Logger], scores: Mapping[Path, Scores], model: Path) -> None:
    """Log tables and pictures of each symbol's scores, the configuration, and the model as an artifact.

    scores   by the folder of their report, the first symbol's first
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _log_run(logger.experiment, scores, model)
            record_address(logger.experiment, model.parent)


def record_address(run: "wandb.Run", folder: Path) -> None:
    """Write the run's W&B address into a file of its folder; nothing while offline."""
    if not run.offline:
        (folder / "wandb_url.txt").write_text(f"{run.url}\n")


def close(loggers: Sequence[Logger]) -> None:
    """End the runs, so that the next training in this process, as in a sweep, begins its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _log_run(run: "wandb.Run", scores: Mapping[Path, Scores], model: Path) -> None:
    import json

    import wandb

    first, *_ = scores.values()
    manifest = json.loads((model / "manifest.json").read_text())
    run.config.update(manifest["symbols"][first.symbol]["provenance"]["config"])  # type: ignore[no-untyped-call]
    for folder, its in scores.items():
        prefix = f"{its.symbol}/" if its is not first else ""
        pictures = {f"{prefix}{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
        run.log({**pictures, f"{prefix}scores": _make_table(its)})
    artifact = wandb.Artifact(f"{first.symbol}-forecaster", type="model")
    artifact.add_dir(str(model))
    run.log_artifact(artifact)


def _make_table(scores: Scores) -> "wandb.Table":
    import wandb

    table = wandb.Table(columns=["step", "forecaster", "pinball_bps", "mae_bps", "skill", "dm_p"])
    for step, horizon in scores.horizons.items():
        table.add_data(int(step), scores.model, horizon.pinball_bps, horizon.mae_bps, None, None)
        for name, baseline in horizon.baselines.items():
            row = (baseline.pinball_bps, baseline.mae_bps, horizon.skill[name], horizon.dm_p[name])
            table.add_data(int(step), name, *row)
    return table
