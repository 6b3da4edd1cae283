"""The address of a registry: a SQLite file, or a server."""

import re
from pathlib import Path
from urllib.request import url2pathname

from lstm_ts.errors import RegistryError

ARTIFACTS = "artifacts"  # a folder beside a SQLite registry


def sqlite_path(uri: str) -> Path | None:
    """Raises    RegistryError: no URI at all"""
    if not uri:
        raise RegistryError("Expected registry.uri such as sqlite:///outputs/registry/mlflow.db, got none; set it")
    return Path(uri.removeprefix("sqlite:///").split("?")[0]) if uri.startswith("sqlite:///") else None


def check_there(uri: str, opened: int = 0) -> int:
    """Return the number of a SQLite registry's file, of which a copy has another; 0 for a server.

    opened    the number of the file that is open; 0: none
    Raises    RegistryError: it is not there, and opening would make it; or another file is in the place of the one that
              is open, which never sees that one's changes
    """
    path = sqlite_path(uri)
    try:
        file = path.stat().st_ino if path else 0
    except (FileNotFoundError, NotADirectoryError):
        raise RegistryError(
            f"Expected a registry at {path}, got none; python -m lstm_ts.retrain makes it, or if there was one, put "
            f"that back"
        ) from None
    except OSError as error:
        raise RegistryError(
            f"Expected a registry at {path}, got: {error.strerror}; check registry.uri, and that its folder is yours"
        ) from None
    if opened and file != opened:
        raise RegistryError(f"Expected the registry {uri} that was opened, got another file; restart what has it open")
    return file


def is_elsewhere(location: str, ours: str | None) -> bool:
    """Return whether `location` is the models' folder of a moved or copied registry: it ends as `ours`, but differs."""
    return ours is not None and location != ours and location.split("/")[-2:] == ours.split("/")[-2:]


def find_source(source: str, path: Path | None) -> str:
    """Return the model folder of a version; that of a SQLite registry lies beside the file, even if both were moved."""
    tail = source.split("/")[-5:]  # artifacts, name, run, artifacts, model
    if path and tail[::3] == [ARTIFACTS, ARTIFACTS]:
        beside = path.parent.resolve().joinpath(*map(url2pathname, tail))
        if beside.exists():
            return beside.as_uri()
    return source


def hide_password(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", text)
