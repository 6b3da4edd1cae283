"""API keys, compared in constant time."""

import hashlib
import hmac
from pathlib import Path

from lstm_ts.errors import ConfigError


class Keys:
    """Given ones, and those of a file, which is read again when it has changed. An emptied file lets nobody in."""

    def __init__(self, given: str, file: str | None) -> None:
        """given   separated by commas    Raises    ConfigError: no such file"""
        self._given = [_digest(key.strip()) for key in given.split(",") if key.strip()]
        self._file = Path(file) if file else None
        self._stamp: tuple[int, int, int] | None = None
        self._of_file: list[bytes] = []
        if self._file and not self._file.is_file():
            raise ConfigError(f"Expected a file with one API key a line, got none at {file}; write it first")

    @property
    def are_set(self) -> bool:
        return bool(self._given) or self._file is not None

    def accept(self, key: str | None) -> bool:
        """Every key is compared, whichever fits."""
        offered = _digest(key or "")
        return sum([hmac.compare_digest(offered, known) for known in [*self._given, *self._read()]]) > 0

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        try:
            found = self._file.stat()
            stamp = found.st_mtime_ns, found.st_size, found.st_ino
            if stamp != self._stamp:
                lines = [line.strip() for line in self._file.read_text(errors="surrogateescape").splitlines()]
                self._of_file, self._stamp = [_digest(line) for line in lines if line], stamp
        except OSError:  # for as long as it is away, what it held last
            pass
        return self._of_file


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
