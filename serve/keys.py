"""API keys, compared in constant time."""

import codecs
import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from lstm_ts.errors import ConfigError


class Keys:
    """Keys given directly, and those of a file, which is read again when it changes. An empty file admits nobody."""

    def __init__(self, given: str, file: str | None) -> None:
        """given   separated by commas    Raises    ConfigError: no such file, or none among those given"""
        self._given = _digests(os.fsencode(given).split(b","))
        if given and not self._given:
            raise ConfigError(f"Expected at least one key in api_keys.given, got {given!r}; leave it empty for none")
        self._file = Path(file) if file else None
        self._stamp: tuple[int, int, int] | None = None
        self._of_file: list[bytes] = []
        if self._file and not self._file.is_file():
            raise ConfigError(f"Expected a file with one API key a line, got none at {file}; write it first")

    @property
    def are_set(self) -> bool:
        return bool(self._given) or self._file is not None

    def accept(self, key: str | None) -> bool:
        """Return whether the key is known; every key is compared, even after a match."""
        offered = hashlib.sha256((key or "").encode("latin-1", "replace").strip()).digest()  # of the bytes that came
        return sum([hmac.compare_digest(offered, known) for known in [*self._given, *self._read()]]) > 0

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            found = self._file.stat()
            stamp = found.st_mtime_ns, found.st_size, found.st_ino
            if stamp != self._stamp:
                lines = self._file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
                self._of_file, self._stamp = _digests(lines), stamp
        except OSError:  # while the file is away, its last keys stay valid
            pass
        return self._of_file


def _digests(keys: Iterable[bytes]) -> list[bytes]:
    return [hashlib.sha256(key.strip()).digest() for key in keys if key.strip()]
