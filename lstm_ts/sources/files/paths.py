"""Find the files that `source.paths` names."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from lstm_ts.errors import ConfigError, NoSuchFile
from lstm_ts.store.object_storage import copy_matches, is_url


def check_paths(paths: object) -> list[str]:
    """Return `source.paths` as a list of patterns.    Raises    ConfigError: it is no text, or none"""
    patterns = [paths] if isinstance(paths, str) else list(paths) if isinstance(paths, Sequence) else []
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ConfigError(f"Expected source.paths as a file, a glob or a list of them, got {paths}; name one")
    return patterns


def find_files(pattern: str) -> list[Path]:
    """Return the files that a pattern matches, by name.    Raises    NoSuchFile: it matches none"""
    found = sorted(copy_matches(pattern) if is_url(pattern) else _find_here(pattern))
    if not found and Path(pattern).is_dir():
        raise NoSuchFile(
            f"Expected a file, or a glob that matches one, got the folder source.paths={pattern}; set source.paths to "
            f"the files in it, such as {Path(pattern) / '*.csv'}"
        )
    if not found:
        raise NoSuchFile(f"Expected a file, or a glob that matches one, got source.paths={pattern}; correct the path")
    return found


def _find_here(pattern: str) -> Iterator[Path]:
    # Path.glob takes no absolute pattern.
    matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207
    return (path for path in map(Path, matches) if path.is_file())
