"""Reading of an uploaded file as hourly bars, within limits, with a description of what was recognised."""

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dashboard.settings import DashboardSettings, UploadLimits
from lstm_ts.errors import ConfigError, DataError, LstmTsError, WrongZone
from lstm_ts.market.bars import BarBatch
from lstm_ts.market.close_stamps import describe_close_stamps
from lstm_ts.market.hours import check_hours
from lstm_ts.sources.files.chunks import open_chunks
from lstm_ts.sources.files.recognition.zones import parse_zone
from lstm_ts.sources.files.source import Files

GZIP = b"\x1f\x8b"
BLOCK_BYTES = 1 << 20
RECOGNISED_ROWS = 100_000  # read at a time, where the dates of all rows tell their order
CHOOSE = {  # by the beginning of the advice to those who type commands
    "set source.zone, or source.stamps=close": "Choose another zone, or that its bars are stamped when they close",
    "set source.zone or another session": "Choose another zone, or the symbol that the file is of",
    "set source.zone": "Choose another zone",
    "set source.dates": "Choose whether the day or the month comes first",
    "set source.stamps": "Choose that its bars are stamped when they close",
    "set source.price_factor": "Send prices in the currency, or take the unit out of the header",
    "set source.decimal": "Choose the decimal sign",
    "leave it out of source.paths": "Send another file",
    "correct symbol, or": "Choose that symbol, or give it another name",
    "correct symbol, set": "Choose that symbol, or leave out that column if it names no symbol",
    "add span.": "Send bars of one spacing alone",
}
PAGE_WORDS = {"source.stamps=open": "bars stamped when they open", "source.zone": "the chosen zone"}


class OverLimit(LstmTsError):
    """Upload with more unpacked bytes, more rows or a longer reading time than allowed."""


@dataclass(frozen=True)
class RecognisedFile:
    words: str
    zoned: bool  # the stamps say their zone, or the format or a column's name does
    named: bool  # the format or a column's name does
    check: Callable[[int], None]  # raises OverLimit, for the upload's rows so far and the time since it was recognised


@dataclass(frozen=True)
class ReadOptions:
    """Options for what a file leaves open: see `Files`."""

    zone: str = "UTC"
    dates: str | None = None
    decimal: str | None = None
    stamps: str = "open"


@dataclass(frozen=True)
class UploadedBars:
    hourly_bars: pl.DataFrame
    rows: int
    rejected: int
    minutes: bool
    zoned: bool  # read in the zone that the file says
    doubts: list[str]  # of the stamps
    notes: list[str]  # on how the file was read


def unzip(path: Path, name: str, limits: UploadLimits) -> None:
    """Replace a gzip file by its content; other files are left as they are.

    Raises    OverLimit, DataError; OSError: the disk does not take the content
    """
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            return
    plain, left = path.with_name(f"{path.name}.plain"), limits.max_bytes
    try:
        with gzip.open(path) as zipped, plain.open("wb") as out:
            while block := zipped.read(BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    raise OverLimit(f"Expected at most {limits.max_bytes:,} bytes unpacked, got more; send the latest.")
                out.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(f"Expected a whole gzip file, got a cut or damaged one: {name}; fetch it again") from None
    plain.replace(path)


def recognise_file(path: Path, name: str, symbol: str, options: ReadOptions, limits: UploadLimits) -> RecognisedFile:
    """Raises    ConfigError, DataError, with `name` for the path; OverLimit"""
    check = _make_check(limits)
    with _named(path, name):
        parts = open_chunks(
            path, RECOGNISED_ROWS, symbol=symbol, dates=options.dates, decimal=options.decimal, on_read=check
        )
    zoned = all(part.utc or part.zone is not None for part in parts)
    return RecognisedFile(parts[0].words, zoned, zoned and any(part.zone for part in parts), check)


def read(
    path: Path,
    name: str,
    symbol: str,
    options: ReadOptions,
    found: RecognisedFile,
    settings: DashboardSettings,
    on_progress: Callable[[int], None],
) -> UploadedBars:
    """Bars that fit no session in the zone that the file says are read in that of the options.

    found    what `recognise_file` has returned for these
    on_progress    called with the number of rows read so far
    Raises    ConfigError, DataError, with `name` for the path; OverLimit
    """
    files = Files(
        paths=str(path),
        symbol=symbol,
        zone=None if found.named else options.zone,
        dates=options.dates,
        decimal=options.decimal,
        price_factor=1.0,
        batch_rows=settings.upload.batch_rows,
        stamps=options.stamps,
        keep_spikes=False,
    )
    with _named(path, name):
        try:
            return _read(files, path, name, found, settings, on_progress)
        except WrongZone:
            if not (found.named or files.zone_is_unread):
                raise
            files.zone, files.utc_is_local = parse_zone(options.zone), True  # epochs of MT5 count by a server's clock
            return _read(files, path, name, found, settings, on_progress)


def _read(
    files: Files,
    path: Path,
    name: str,
    found: RecognisedFile,
    settings: DashboardSettings,
    on_progress: Callable[[int], None],
) -> UploadedBars:
    session = settings.session_of(files.symbol)
    batches = _within(found.check, files, on_progress)
    hourly_bars = check_hours(
        batches, session, name, min_minutes_share=settings.min_minutes_share, max_mismatch=settings.max_mismatch
    )
    rejected, rows = (sum(getattr(batch, kind).height for batch in batches) for kind in ("rejects", "bars"))
    doubts = describe_close_stamps(((batch.minutes, batch.bars["ts"]) for batch in batches), session)
    notes = [_reword(note, path, name) for batch in batches for note in batch.notes]
    minutes, zoned = any(batch.minutes < 60 for batch in batches), found.zoned and not files.utc_is_local
    return UploadedBars(hourly_bars, rows + rejected, rejected, minutes, zoned, doubts, notes)


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Raises    ConfigError, DataError, with `name` for the path, and what to do on the page for a command's options"""
    try:
        yield
    except (ConfigError, DataError) as error:
        text, _, advice = str(error).rpartition("; ")
        choose = next((words for beginning, words in CHOOSE.items() if advice.startswith(beginning)), "")
        raise type(error)(_reword(f"{text}. {choose}." if choose else str(error), path, name)) from None


def _reword(text: str, path: Path, name: str) -> str:
    for theirs, ours in {str(path): name, **PAGE_WORDS}.items():
        text = text.replace(theirs, ours)
    return text


def _within(check: Callable[[int], None], files: Files, on_progress: Callable[[int], None]) -> list[BarBatch]:
    batches, read, rows = [], 0, 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        check(read)

    files.on_read, files.on_rows = check, count
    for batch in files.read_batches():
        batches.append(batch)
        rows += batch.bars.height + batch.rejects.height
        check(rows)
        on_progress(rows)
    return batches


def _make_check(limits: UploadLimits) -> Callable[[int], None]:
    """Return a function that raises OverLimit if the number of rows that it is given, or the time, is too large."""
    until = time.monotonic() + limits.max_s

    def check(rows: int) -> None:
        if rows > limits.max_rows:
            raise OverLimit(f"Expected at most {limits.max_rows:,} rows, got more; send the latest part of the file.")
        if time.monotonic() > until:
            raise OverLimit(f"Reading took longer than {limits.max_s:g} s; send the latest part of the file.")

    return check
