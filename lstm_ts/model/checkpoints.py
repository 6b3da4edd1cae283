"""The run folder of a training: a new one, or that of an interrupted run, which resumes from its checkpoint."""

from pathlib import Path
from zipfile import is_zipfile

from lstm_ts.errors import ConfigError


def create_run_folder(folder: Path) -> Path:
    """Raises    ConfigError: another run, perhaps started in the same second, has the folder"""
    try:
        (folder / "checkpoints").mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(
            f"Expected a run folder of its own, got {folder}, which another run has; run it again"
        ) from None
    return folder


def find_checkpoint(ckpt_path: str | None, outputs: Path) -> Path | None:
    """Find the checkpoint to resume from; `last` is the newest under `outputs` of a run that left no model.

    Raises    ConfigError: there is none, or no file at the path
    """
    if ckpt_path is None:
        return None
    if ckpt_path != "last":
        if not Path(ckpt_path).is_file():
            raise ConfigError(f"Expected ckpt_path=last or a checkpoint, got {ckpt_path}, which is no file")
        if not is_zipfile(ckpt_path):
            raise ConfigError(f"Expected a whole checkpoint at {ckpt_path}, got a damaged file; leave ckpt_path out")
        return Path(ckpt_path)
    unended = (path for path in outputs.glob("**/checkpoints/last.ckpt") if not (path.parents[1] / "model").exists())
    found = [path for path in unended if is_zipfile(path)]  # a full disk truncates one
    if not found:
        raise ConfigError(
            f"Expected an interrupted run under {outputs} for ckpt_path=last, got none; leave ckpt_path out"
        )
    return max(found, key=lambda path: path.stat().st_mtime)
