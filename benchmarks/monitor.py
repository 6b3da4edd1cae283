"""`python -m benchmarks.monitor`: what monitoring costs, on synthetic bars in a temporary folder.

A model is trained and registered at the end of 2020. Then, by LSTM_TS_CLOCK, the monitor runs over 2021 in one go, over
one hour more, and over 2022 in steps of a week: seconds after imports, size of the ledger, memory.
"""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

from hydra import compose, initialize_config_dir

from lstm_ts.configuration.parts import CONF
from lstm_ts.monitor import run

REGISTERED = datetime(2020, 12, 31, 12, tzinfo=UTC)
YEAR, WEEK, HOUR = timedelta(days=365), timedelta(weeks=1), timedelta(hours=1)


def command(module: str, *overrides: str, now: datetime | None = None) -> None:
    arguments = (sys.executable, "-m", f"lstm_ts.{module}", *overrides)
    clock = {"LSTM_TS_CLOCK": now.isoformat()} if now else {}
    subprocess.run(arguments, check=True, capture_output=True, env=os.environ | clock)


def monitor(now: datetime, paths: list[str]) -> tuple[float, float]:
    """Seconds of one run in this process, by the clock and of the processor."""
    os.environ["LSTM_TS_CLOCK"] = now.isoformat()
    with initialize_config_dir(CONF, version_base="1.3", job_name="monitor"):
        cfg = compose("monitor", paths)
    started, worked = time.perf_counter(), time.process_time()
    with redirect_stdout(StringIO()):
        run(cfg)
    return time.perf_counter() - started, time.process_time() - worked


def describe(what: str, cost: Sequence[float], ledger: Path) -> None:
    """cost   seconds by the clock, and of the processor"""
    peak, size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, ledger.stat().st_size / 1e6
    with closing(sqlite3.connect(ledger)) as connection:
        ((scored,),) = connection.execute("SELECT count(*) FROM outcomes")
    print(
        f"{what}: {cost[0]:.1f} s, {cost[1]:.1f} s of the processor; {scored:,} outcomes, ledger {size:.1f} MB,"
        f" memory at most {peak:.0f} MB"
    )
    sys.stdout.flush()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
        command("ingest", *paths)
        command("process", *paths)
        command("retrain", "+experiment=quickstart", f"span.end={REGISTERED:%Y-%m-%d}", *paths, now=REGISTERED)
        ledger = Path(folder) / "outputs/registry/ledger.db"
        now = REGISTERED + YEAR
        describe("A year in one go", monitor(now, paths), ledger)
        describe("The same again", monitor(now, paths), ledger)
        describe("One hour more", monitor(now + HOUR, paths), ledger)
        for quarter in range(4):
            costs = [monitor(now + week * WEEK, paths) for week in range(13 * quarter + 1, 13 * quarter + 14)]
            total = [sum(part) for part in zip(*costs, strict=True)]
            describe(f"Quarter {quarter + 1} of the next year by weeks", total, ledger)


if __name__ == "__main__":
    main()
