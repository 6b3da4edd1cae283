"""A dropped file, read as hourly bars: within limits, and with what was recognised, in words."""

import gzip
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dashboard.settings import Limits, Settings
from lstm_ts.bars import BarBatch
from lstm_ts.errors import DataError, LstmTsError, WrongZone
from lstm_ts.hours import check_hours
from lstm_ts.sources.blocks import open_blocks
from lstm_ts.sources.files import Files

GZIP = b"\x1f\x8b"
BLOCK_BYTES = 1 << 20


class OverLimit(LstmTsError):
    """More rows, or more time, than an upload may take."""


@dataclass(frozen=True)
class Recognised:
    words: str
    zoned: bool  # the stamps say their zone, or the format does


@dataclass(frozen=True)
class Read:
    hourly_bars: pl.DataFrame
    rows: int
    rejected: int
    minutes: bool


def unzip(path: Path, name: str, limits: Limits) -> None:
    """Put a gzip file's content in its place, if it is one.    Raises    OverLimit, DataError"""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            return
    plain, left = path.with_suffix(".plain"), limits.max_bytes
    try:
        with gzip.open(path) as zipped, plain.open("wb") as out:
            while block := zipped.read(BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    raise OverLimit(f"Expected at most {limits.max_bytes:,} bytes unpacked, got more; send the latest.")
                out.write(block)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"Expected a whole gzip file, got a cut or damaged one: {name}; fetch it again") from None
    plain.replace(path)


def recognise_file(path: Path, name: str, symbol: str) -> Recognised:
    """Raises    DataError, with `name` for the path"""
    try:
        found = open_blocks(path, 1, symbol=symbol, dates=None)
    except DataError as error:
        raise type(error)(str(error).replace(str(path), name)) from None
    return Recognised(found.words, found.utc or found.zone is not None)


def read(path: Path, name: str, symbol: str, zone: str, settings: Settings, tell: Callable[[int], None]) -> Read:
    """tell      is called with the rows read so far
    Raises    DataError, with `name` for the path; OverLimit
    """
    files = Files(
        paths=str(path),
        symbol=symbol,
        zone=zone,
        dates=None,
        price_factor=1.0,
        batch_rows=settings.upload.batch_rows,
        stamps="open",
        keep_spikes=False,
    )
    try:
        batches = _within(settings.upload, files, tell)
        hourly_bars = check_hours(
            batches,
            settings.session,
            name,
            min_minutes_share=settings.min_minutes_share,
            max_mismatch=settings.max_mismatch,
        )
    except WrongZone as error:
        text = str(error).split("; set source.zone")[0].replace(str(path), name)
        raise WrongZone(f"{text}. Choose another zone.") from None
    except DataError as error:
        raise type(error)(str(error).replace(str(path), name)) from None
    rejected, rows = (sum(getattr(batch, kind).height for batch in batches) for kind in ("rejects", "bars"))
    return Read(hourly_bars, rows + rejected, rejected, any(batch.minutes < 60 for batch in batches))


def _within(limits: Limits, files: Files, tell: Callable[[int], None]) -> list[BarBatch]:
    batches, rows, until = [], 0, time.monotonic() + limits.max_s
    for batch in files.read_batches():
        batches.append(batch)
        rows += batch.bars.height + batch.rejects.height
        if rows > limits.max_rows:
            raise OverLimit(f"Expected at most {limits.max_rows:,} rows, got more; send the latest part of the file.")
        if time.monotonic() > until:
            raise OverLimit(f"Reading took longer than {limits.max_s:g} s; send the latest part of the file.")
        tell(rows)
    return batches
