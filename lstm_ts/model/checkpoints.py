"""The run folder of a training: a new one, or that of an interrupted run, which resumes from its checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from lstm_ts.errors import ConfigError

RUN = "run"  # among the hyperparameters of a checkpoint


def create_run_folder(folder: Path) -> Path:
    """Raises    ConfigError: another run has the folder, such as one with the same `hydra.run.dir`"""
    try:
        (folder / "checkpoints").mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(
            f"Expected a run folder of its own, got {folder}, which another run has; set another hydra.run.dir"
        ) from None
    return folder


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read one of Lightning's, as tensors and plain values only."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def find_checkpoint(ckpt_path: str | None, outputs: Path, run: Sequence[str]) -> Path | None:
    """Find the checkpoint to resume from; `last` is the newest under `outputs` of such a run that left no model.

    run       settings and bars, as a checkpoint of the same run has them
    Raises    ConfigError: there is none, only those of other runs, or no file at the path
    """
    if ckpt_path is None:
        return None
    found = _find_interrupted(outputs) if ckpt_path == "last" else [_check_file(ckpt_path)]
    for path in found:
        if _read_run(path) == run:
            return path
    newest = _read_run(found[0])
    others = ", ".join(text for text in newest if text not in run)
    others = others or ("fewer settings" if newest else "an older version, or a damaged one")
    raise ConfigError(
        f"Expected ckpt_path={ckpt_path} with a run of these settings and bars, got one of {others}; "
        f"configure that, or leave ckpt_path out"
    )


def _find_interrupted(outputs: Path) -> list[Path]:
    """Return the last checkpoint of each run that left no model, the newest first."""
    unended = (path for path in outputs.glob("**/checkpoints/last.ckpt") if not (path.parents[1] / "model").exists())
    found = [path for path in unended if is_zipfile(path)]  # a full disk truncates one
    if not found:
        raise ConfigError(
            f"Expected an interrupted run under {outputs} for ckpt_path=last, got none; leave ckpt_path out"
        )
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _check_file(ckpt_path: str) -> Path:
    if not Path(ckpt_path).is_file():
        raise ConfigError(f"Expected ckpt_path=last or a checkpoint, got {ckpt_path}, which is no file")
    if not is_zipfile(ckpt_path):
        raise ConfigError(f"Expected a whole checkpoint at {ckpt_path}, got a damaged file; leave ckpt_path out")
    return Path(ckpt_path)


def _read_run(path: Path) -> list[str]:
    """Return the settings and bars of its run; none: of an older version, or no checkpoint."""
    try:
        run: list[str] = read_checkpoint(path).get("hyper_parameters", {}).get(RUN, [])
    except Exception:  # of pickle, zip or torch: a damaged file must not hide the others
        return []
    return run
