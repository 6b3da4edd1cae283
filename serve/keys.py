"""API keys, compared in constant time."""

import codecs
import hashlib
import hmac
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from lstm_ts.errors import ConfigError

log = logging.getLogger(__name__)


class Keys:
    """Keys given directly, and those of a file, which is read again when it changes. An empty file admits nobody."""

    def __init__(self, given: str | None, file: str | None) -> None:
        """given    separated by commas; None or empty: none
        file     with one a line; None: no file
        Raises    ConfigError: none among those given, or no such file
        """
        self._given = _digests(os.fsencode(given or "").split(b","))
        if given and not self._given:
            raise ConfigError(f"Expected at least one key in api_keys.given, got {given!r}; leave it empty for none")
        if file is not None and not (isinstance(file, str) and Path(file).is_file()):
            raise ConfigError(
                f"Expected api_keys.file as a file with one API key a line, without comments, got {file!r}; write it "
                f"first, or leave it out"
            )
        self._file = None if file is None else Path(file)
        self._stamp: tuple[int, int, int] | None = None
        self._of_file: list[bytes] = []
        self._read()

    @property
    def are_set(self) -> bool:
        return bool(self._given) or self._file is not None

    def accept(self, key: str | None) -> bool:
        """Return whether the key is known; every key is compared, even after a match."""
        self.follow_file()
        offered = hashlib.sha256((key or "").encode("latin-1", "replace").strip()).digest()  # of the bytes that came
        return sum([hmac.compare_digest(offered, known) for known in [*self._given, *self._of_file]]) > 0

    def follow_file(self) -> None:
        """Read the file again if it has changed; while it is missing or not in UTF-8, its last keys stay valid."""
        try:
            self._read()
        except OSError:
            pass
        except ConfigError as error:
            log.error("Keeping the previous API keys: %s", error)

    def _read(self) -> None:
        """Raises    OSError; ConfigError: the file, which has changed, is not in UTF-8"""
        if self._file is None:
            return
        found = self._file.stat()
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        if stamp == self._stamp:
            return
        content = self._file.read_bytes()
        self._stamp = stamp
        if b"\0" in content:
            raise ConfigError(f"Expected API keys in UTF-8 in {self._file}, got NUL as in UTF-16; save it as UTF-8")
        self._of_file = _digests(content.removeprefix(codecs.BOM_UTF8).splitlines())


def _digests(keys: Iterable[bytes]) -> list[bytes]:
    return [hashlib.sha256(key.strip()).digest() for key in keys if key.strip()]
