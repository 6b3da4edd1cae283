"""Temporary storage for one file's rows between the pass that analyses them and the pass that delivers them."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import polars as pl


class Spool:
    """Blocks in order of arrival: the last one in memory, all others in a temporary folder."""

    def __init__(self) -> None:
        self._last: pl.DataFrame | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._written = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(self, block: pl.DataFrame) -> None:
        if self._last is not None:
            self._last.write_ipc(self._part(self._written))
            self._written += 1
        self._last = block

    def read(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        for number in range(self._written):
            yield pl.scan_ipc(self._part(number), glob=False).select(columns or pl.all()).collect()
        if self._last is not None:
            yield self._last.select(columns or pl.all())

    def _part(self, number: int) -> Path:
        self._folder = self._folder or TemporaryDirectory(prefix="lstm_ts_")
        return Path(self._folder.name) / f"{number}.arrow"
