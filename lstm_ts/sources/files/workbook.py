"""The sheets of a workbook as text, read in a subprocess of bounded memory.

A few bytes of a workbook can name a cell so far away, or a text so often, that the library which reads it runs out of
memory, which ends its process.

`python -m lstm_ts.sources.files.workbook PARENT FILE FOLDER` is the subprocess: it writes a file of each sheet into the
folder, named by its number, and the names of the sheets on stdout.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import polars as pl

from lstm_ts.errors import DataError
from lstm_ts.lifetime import end_with
from lstm_ts.sources.files.recognition.columns import printable

MEMORY_BYTES = 2 << 30  # a sheet that is full of minutes in nine columns takes 1.7 GB
MAX_TEXT_BYTES = 400_000_000
POLL_S = 0.2
LONGEST_S = 600  # where memory is short, Polars may wait for ever instead of failing
DAMAGED, NO_MEMORY = 3, 4  # exit codes
PACKAGES = str(Path(__file__).parents[3])  # in which a process elsewhere finds lstm_ts
ONE_AT_A_TIME = Lock()  # so that a dashboard of many visitors takes no more memory


def read_sheets(file: Path, on_read: Callable[[int], None]) -> dict[str, bytes]:
    """Return each sheet's rows as lines of cells separated by tabs, by its name.

    on_read    called with 0 from time to time; what it raises ends the reading
    Raises     DataError
    """
    while not ONE_AT_A_TIME.acquire(timeout=POLL_S):
        on_read(0)
    try:
        with TemporaryDirectory(prefix="lstm_ts_") as folder:
            names = _run(file, folder, on_read)
            return {name: Path(folder, str(number)).read_bytes() for number, name in enumerate(json.loads(names))}
    finally:
        ONE_AT_A_TIME.release()


def _run(file: Path, folder: str, on_read: Callable[[int], None]) -> bytes:
    """Return what the subprocess prints.    Raises    DataError: it has failed"""
    with _begin(file, folder) as process:
        try:
            names, errors = _wait(process, on_read)
        finally:
            process.kill()
    if process.returncode == DAMAGED:
        raise DataError(f"Expected a whole workbook, got a cut or damaged one: {file}; export it as CSV")
    if process.returncode in (NO_MEMORY, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGALRM):
        raise DataError(
            f"Expected a workbook whose cells, with the empty ones between them, fit into "
            f"{MEMORY_BYTES >> 20:,} MB of memory, got {file}; export it as CSV"
        )
    if process.returncode:
        last = printable(errors.decode(errors="replace").splitlines()[-1:])
        raise DataError(
            f"Expected a process that reads {file}, got exit code {process.returncode} of {sys.executable}: "
            f"{last or 'it says nothing'}; correct that, or export it as CSV"
        )
    return names


def _begin(file: Path, folder: str) -> subprocess.Popen[bytes]:
    """Raises    DataError: no interpreter"""
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(file), folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ
            | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, PACKAGES]))},
        )
    except (OSError, TypeError) as error:
        raise DataError(
            f"Expected an interpreter of Python that reads {file}, got {sys.executable!r} ({error}); set "
            "sys.executable, or export it as CSV"
        ) from None


def _wait(process: subprocess.Popen[bytes], on_read: Callable[[int], None]) -> tuple[bytes, bytes]:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=POLL_S)
        on_read(0)


def _bound_memory() -> None:
    import resource

    with suppress(ValueError):  # the limit in force is lower
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this process ends, not another


def _write_sheets(file: str, folder: Path) -> list[str]:
    sheets, left = _read(file), MAX_TEXT_BYTES
    for number, sheet in enumerate(sheets.values()):
        cells = sheet.select(pl.all().cast(pl.String).fill_null(""))
        lines = cells.select(pl.concat_str(pl.all(), separator="\t")).to_series() if sheet.width else pl.Series([])
        text = "\n".join(lines.to_list()).encode()
        left -= len(text)
        if left < 0:
            raise MemoryError
        (folder / str(number)).write_bytes(text)
    return list(sheets)


def _read(file: str) -> dict[str, pl.DataFrame]:
    try:
        return pl.read_excel(
            file, sheet_id=0, engine="calamine", has_header=False, infer_schema_length=0, raise_if_empty=False
        )
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException):  # fastexcel's and calamine's errors have no common root
        sys.exit(DAMAGED)


if __name__ == "__main__":
    parent, file, folder = sys.argv[1:]
    end_with(int(parent), signal.SIGKILL)
    signal.alarm(LONGEST_S)
    _bound_memory()
    try:
        print(json.dumps(_write_sheets(file, Path(folder))))
    except MemoryError:
        sys.exit(NO_MEMORY)
