"""File names that an upsert creates or is about to drop: the proof that a store may delete them after a crash."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lstm_ts.errors import DataError
from lstm_ts.store.disk import fsync_folder

JOURNAL = "upsert.journal"
HEADER = "lstm_ts: names of an upsert that has not ended\n"
STORE_FILE = re.compile(r"(revisions-)?\d{4}-\d{2}-[0-9a-f]{12}\.parquet")
STAGING = re.compile(r"staging-[0-9a-f]{12}")
STAGED_FILE = re.compile(rf"\d{{4}}-\d{{2}}\.\d+\.parquet|{STORE_FILE.pattern}|manifest\.json")


class Journal:
    """A file that exists while an upsert runs; each name is on the disk before its file is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL

    def add(self, names: Iterable[str]) -> None:
        with self.path.open("a") as file:
            if not file.tell():
                file.write(HEADER)
            file.writelines(f"{name}\n" for name in names)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(self.path.parent)

    def names(self) -> list[str]:
        """Return the names; a truncated last line names nothing that was made.    Raises    DataError: not a journal"""
        try:
            header, *lines = self.path.read_text(errors="replace").splitlines(keepends=True) or [HEADER]
        except FileNotFoundError:
            return []
        names = [line.removesuffix("\n") for line in lines if line.endswith("\n")]
        if not HEADER.startswith(header) or not all(STORE_FILE.fullmatch(n) or STAGING.fullmatch(n) for n in names):
            raise DataError(
                f"Expected {self.path} as an interrupted upsert leaves it, got another file; move it elsewhere"
            )
        return names

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def remove_staging(folder: Path) -> None:
    """Remove an upsert's files from the folder, and the folder once it is empty."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if STAGED_FILE.fullmatch(path.name):
            path.unlink()
    with suppress(OSError):  # it holds a foreign file
        folder.rmdir()
