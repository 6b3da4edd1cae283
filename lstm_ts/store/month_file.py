"""A month's bars, or their revisions, in a Parquet file named by its content, which is checked whenever it is read."""

import hashlib
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from lstm_ts.errors import DataError
from lstm_ts.store.disk import hash_file, write_durably


@dataclass(frozen=True)
class MonthFile:
    file: str
    rows: int
    sha256: str

    def read(self, folder: Path, columns: list[str] | None = None) -> pl.DataFrame:
        """Raises    DataError: not as it was written"""
        path = folder / self.file
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _damaged(path)
        return pl.read_parquet(content, columns=columns)

    def copy(self, folder: Path, target: Path) -> None:
        """Raises    DataError: not as it was written"""
        shutil.copyfile(folder / self.file, target / self.file)
        if hash_file(target / self.file) != self.sha256:
            raise _damaged(folder / self.file)

    def is_in(self, folder: Path) -> bool:
        """Raises    DataError: someone has put another file there, which stays"""
        path = folder / self.file
        if path.exists() and hash_file(path) != self.sha256:
            raise DataError(f"Expected no file of another kind at {path}, got one; move it elsewhere")
        return path.exists()


def write_month(folder: Path, name: str, rows: pl.DataFrame) -> MonthFile:
    """name   2015-03, or revisions-2015-03"""
    buffer = BytesIO()
    rows.write_parquet(buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=1 << 16)
    sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
    written = MonthFile(f"{name}-{sha256[:12]}.parquet", rows.height, sha256)
    write_durably(folder / written.file, buffer.getvalue())
    return written


def _damaged(path: Path) -> DataError:
    return DataError(f"Expected {path} as it was written, got other bytes or none; delete {path.parent} and refill it")
