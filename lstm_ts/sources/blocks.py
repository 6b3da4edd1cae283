"""A file as blocks of rows, whatever its kind: text or gzip in the formats of `formats.py`, and Parquet.

Its kind is recognised by its content, and a block is all that is ever in memory.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import islice
from pathlib import Path

import polars as pl

from lstm_ts.bars import PRICES
from lstm_ts.errors import DataError, NoRows, UnknownFormat
from lstm_ts.sources.formats import SAMPLE_LINES, Zone, parse, recognise


@dataclass(frozen=True)
class Blocks:
    rows: Iterator[pl.DataFrame]  # as from formats.parse
    utc: bool
    ticks: bool
    zone: Zone | None = None  # of stamps without an offset, where the file names it
    notes: list[str] = field(default_factory=list)  # whole once the rows have been read


def open_blocks(file: Path, batch_rows: int, *, symbol: str, dates: str | None) -> Blocks:
    """Raises    NoRows, UnknownFormat; DataError: a damaged gzip or Parquet file"""
    return (_open_parquet if _starts_with(file, b"PAR1") else _open_text)(file, batch_rows)


def _starts_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(magic)) == magic


def _open_parquet(file: Path, batch_rows: int) -> Blocks:
    scan = pl.scan_parquet(file)
    try:
        schema = scan.collect_schema()
    except pl.exceptions.ComputeError:
        raise DataError(f"Expected a whole Parquet file, got a cut or damaged one: {file}; fetch it again") from None
    stamp = schema.get("ts")
    if not isinstance(stamp, pl.Datetime) or not set(PRICES) <= set(schema):
        found = ", ".join(f"{column} {dtype}" for column, dtype in schema.items())
        raise UnknownFormat(f"Expected Parquet columns ts (a datetime), open, high, low, close, got {found} in {file}")
    rows = scan.select(
        pl.col("ts").cast(pl.Datetime("us", stamp.time_zone)).alias("stamp"),
        pl.col(PRICES).cast(pl.Float64),
        volume=pl.col("volume").cast(pl.Float64).fill_nan(None) if "volume" in schema else pl.lit(None, pl.Float64),
        text=pl.lit(None, pl.String),
        reason=pl.lit(None, pl.String),
    )
    total = scan.select(pl.len()).collect().item()
    if total == 0:
        raise NoRows(f"Expected rows, got an empty file: {file}; leave it out of source.paths")
    blocks = (
        rows.slice(offset, batch_rows).collect().with_row_index("line", offset + 1)
        for offset in range(0, total, batch_rows)
    )
    return Blocks(blocks, utc=stamp.time_zone is not None, ticks=False)


def _open_text(file: Path, batch_rows: int) -> Blocks:
    with _text(file) as opened:
        first_lines = list(islice((line.strip() for line in opened if line.strip()), SAMPLE_LINES))
    layout = recognise(first_lines, file=str(file))
    blocks = (parse(lines, layout) for lines in _line_blocks(file, batch_rows, header=layout.header))
    return Blocks(blocks, utc=layout.utc, ticks=layout.ticks)


@contextmanager
def _text(file: Path) -> Iterator[TextIOWrapper]:
    compressed = _starts_with(file, b"\x1f\x8b")
    try:
        with (
            file.open("rb") as raw,
            gzip.GzipFile(fileobj=raw) if compressed else raw as plain,
            TextIOWrapper(plain, encoding="utf-8-sig", errors="replace") as text,
        ):
            yield text
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"Expected a whole gzip file, got a cut or damaged one: {file}; fetch it again") from None


def _line_blocks(file: Path, batch_rows: int, *, header: bool) -> Iterator[pl.DataFrame]:
    """Frames `line` (from 1), `text`, without the blank lines and the header."""
    offset = 1
    with _text(file) as text:
        while lines := list(islice(text, batch_rows)):
            block = pl.DataFrame({"text": lines}).with_row_index("line", offset)
            offset += len(lines)
            block = block.with_columns(pl.col("text").str.strip_chars()).filter(pl.col("text") != "")
            if header and block.height:
                block, header = block[1:], False
            yield block
