"""What a training tells Weights & Biases; offline, in files to `wandb sync`, while no key is set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import Logger, WandbLogger

from lstm_ts.errors import ConfigError
from lstm_ts.scoring.scores import Scores

if TYPE_CHECKING:
    import wandb


def wandb_logger(*, project: str, save_dir: str, group: str) -> WandbLogger:
    """Raises    ConfigError: the extra is not installed"""
    try:
        import wandb
    except ModuleNotFoundError:
        raise ConfigError("Expected wandb to be installed for logger=wandb; pip install 'lstm_ts[wandb]'") from None
    mode = "online" if wandb.login(prompt=False) else "offline"
    return WandbLogger(project=project, save_dir=save_dir, group=group, mode=os.environ.get("WANDB_MODE", mode))


def log_results(loggers: Sequence[Logger], scores: Scores, folder: Path) -> None:
    """The score table, the report's pictures, the configuration and the model as an artifact."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _log_run(logger.experiment, scores, folder)
            record_address(logger.experiment, folder)


def record_address(run: "wandb.Run", folder: Path) -> None:
    """Where the run is looked at, in a file of its folder; none while offline."""
    if not run.offline:
        (folder / "wandb_url.txt").write_text(f"{run.url}\n")


def close(loggers: Sequence[Logger]) -> None:
    """End the runs: the next training in this process, as in a sweep, begins one of its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _log_run(run: "wandb.Run", scores: Scores, folder: Path) -> None:
    import json

    import wandb

    manifest = json.loads((folder / "model" / "manifest.json").read_text())
    run.config.update(manifest["provenance"]["config"])  # type: ignore[no-untyped-call]
    run.log({picture.stem: wandb.Image(str(picture)) for picture in sorted((folder / "scores").glob("*.png"))})
    table = wandb.Table(columns=["step", "forecaster", "pinball_bps", "mae_bps", "skill", "dm_p"])
    for step, horizon in scores.horizons.items():
        table.add_data(int(step), "lstm", horizon.pinball_bps, horizon.mae_bps, None, None)
        for name, baseline in horizon.baselines.items():
            row = (baseline.pinball_bps, baseline.mae_bps, horizon.skill[name], horizon.dm_p[name])
            table.add_data(int(step), name, *row)
    run.log({"scores": table})
    artifact = wandb.Artifact(f"{scores.symbol}-forecaster", type="model")
    artifact.add_dir(str(folder / "model"))
    run.log_artifact(artifact)
