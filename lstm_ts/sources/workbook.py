"""The sheets of a workbook as text, read in a subprocess of bounded memory.

A few bytes of a workbook can name a cell so far away, or a text so often, that the library which reads it runs out of
memory, which ends its process.

`python -m lstm_ts.sources.workbook PARENT FILE FOLDER` is the subprocess: it writes a file of each sheet into the
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

import polars as pl

from lstm_ts.errors import DataError
from lstm_ts.lifetime import end_with

MEMORY_BYTES = 2 << 30  # a sheet that is full of minutes takes a quarter
MAX_TEXT_BYTES = 400_000_000
POLL_S = 0.2
DAMAGED = 3  # exit code


def read_sheets(file: Path, on_read: Callable[[int], None]) -> dict[str, bytes]:
    """Return each sheet's rows as lines of cells separated by tabs, by its name.

    on_read    called with 0 from time to time; what it raises ends the reading
    Raises     DataError
    """
    with TemporaryDirectory(prefix="lstm_ts_") as folder, _begin(file, folder) as process:
        try:
            names = _wait(process, on_read)
        finally:
            process.kill()
        if process.returncode == DAMAGED:
            raise DataError(f"Expected a whole workbook, got a cut or damaged one: {file}; export it as CSV")
        if process.returncode:
            raise DataError(
                f"Expected a workbook whose cells, with the empty ones between them, fit into "
                f"{MEMORY_BYTES >> 20:,} MB of memory, got {file}; export it as CSV"
            )
        return {name: Path(folder, str(number)).read_bytes() for number, name in enumerate(json.loads(names))}


def _begin(file: Path, folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid()), str(file), folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
    )


def _wait(process: subprocess.Popen[bytes], on_read: Callable[[int], None]) -> bytes:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=POLL_S)[0]
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
    _bound_memory()
    print(json.dumps(_write_sheets(file, Path(folder))))
