"""The folder of a registered model, checked and loaded."""

from pathlib import Path

from lstm_ts.errors import ArtifactError, OtherWindows, RegistryError
from lstm_ts.model.artifact import SUMS, load_forecaster
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.version import Version
from lstm_ts.store.disk import hash_file

MODEL_SHA256 = "sha256"  # a tag: of the file SHA256SUMS


def load_registered(version: Version, folder: Path) -> Forecaster:
    """Raises    RegistryError: a file is not as it was registered, or the model reads windows of another kind"""
    sums = folder / SUMS
    try:
        if sums.is_file() and hash_file(sums) != version.tags.get(MODEL_SHA256):
            raise ArtifactError(f"Expected {sums} as it was registered, got other bytes; restore it")
        return load_forecaster(folder, version.tags.get("symbol"))
    except OtherWindows as error:
        raise RegistryError(
            f"Expected {version} to read the windows of this code, got this of its files, which are as they were "
            f"registered: {error}; start another line of models with name=…, or return to the code that trained it"
        ) from error
    except ArtifactError as error:
        got = error if folder.is_dir() else f"none at {folder}"
        raise RegistryError(
            f"Expected the files of {version} as they were registered, got this: {got}; restore them from a backup, or "
            f"promote another version"
        ) from error
