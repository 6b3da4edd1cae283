"""The folder of a service's sockets and counters; a killed service leaves it, and it shows the forecasts it lost."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

from lstm_ts.errors import LedgerError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.store.disk import locked

LOGGED, LOST = "lstm_ts_forecast_log_total", "lost"  # a counter; the outcome of forecasts of a killed service
LOCK = "lock"  # held as long as the service lives
BATCH = "batch_"  # prefix of a process's note of the rows that it is writing


@contextmanager
def own_folder(port: int) -> Iterator[Path]:
    """Make a folder for the service at this port; remove it at the end unless forecasts of its own were lost."""
    folder = Path(mkdtemp(prefix=_prefix(port)))
    try:
        with locked(folder / LOCK, fcntl.LOCK_EX):
            yield folder
    finally:
        if not _count_lost(folder)[0]:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def noted(folder: Path, rows: Sequence[ForecastRow], written: int) -> Iterator[None]:
    """Keep a note of rows until they are counted: a kill may fall between their commit and the count.

    written    forecasts that this process has counted as written before
    """
    note, last = folder / f"{BATCH}{os.getpid()}", rows[-1]
    with suppress(OSError):  # without the note, the next service may count written forecasts as lost
        note.write_text(json.dumps([written, len(rows), last.request_id, last.arm, last.at.isoformat()]))
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink()


def collect_lost(port: int, ledger_url: str) -> tuple[int, int]:
    """Count the forecasts that earlier services at this port lost, and remove their folders.

    Returns   those that nobody has counted, and those that a service had counted before it was itself killed
    """
    lost, counted = 0, 0
    for folder in Path(gettempdir()).glob(f"{_prefix(port)}*"):
        with suppress(OSError):
            if folder.stat().st_uid == os.geteuid():
                with locked(folder / LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    own, earlier = _count_lost(folder)
                    lost, counted = lost + own - _count_written(folder, ledger_url), counted + earlier
                    shutil.rmtree(folder)
    return lost, counted


def _prefix(port: int) -> str:
    return f"lstm_ts_{port}_"


def _count_lost(folder: Path) -> tuple[int, int]:
    """Return the forecasts without an outcome by the folder's counters, and those of earlier services."""
    samples = _read_counts(folder, "*.db")
    made = sum(each.value for each in samples if each.name == "lstm_ts_forecasts_total")
    became = {each.labels["outcome"]: each.value for each in samples if each.name == LOGGED}
    earlier = became.pop(LOST, 0)
    return int(made - sum(became.values())), int(earlier)


def _count_written(folder: Path, ledger_url: str) -> int:
    """Return the forecasts that are in the ledger though their process was killed before it counted them."""
    written = 0
    for note in folder.glob(f"{BATCH}*"):
        with suppress(ValueError, LedgerError):  # an incomplete note; an unreachable ledger
            before, count, request_id, arm, at = json.loads(note.read_text())
            samples = _read_counts(folder, f"*_{note.name.removeprefix(BATCH)}.db")
            if before != sum(
                each.value for each in samples if each.name == LOGGED and each.labels["outcome"] == "written"
            ):
                continue  # it was counted
            with closing(Ledger(ledger_url, make=False)) as ledger:
                written += count * ledger.has_forecast(request_id, arm, datetime.fromisoformat(at))
    return written


def _read_counts(folder: Path, files: str) -> list[Any]:
    """Return the samples of all processes whose files match."""
    from prometheus_client.multiprocess import MultiProcessCollector  # imported once its folder is set

    merged = MultiProcessCollector.merge(map(str, folder.glob(files)))  # type: ignore[no-untyped-call]
    return [sample for metric in merged for sample in metric.samples]
