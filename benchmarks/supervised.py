"""Servers that are started again whenever they have ended, as systemd does with `deploy/systemd`."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.servers import processes_of
from lstm_ts.clock import CLOCK

RESTART_S, WELL_S = 2.0, 180.0


@dataclass
class Supervised:
    """A command that is started again whenever its process has ended, with all that it has started."""

    name: str
    command: Sequence[str | Path]
    url: str  # answers 200 while all is well
    folder: Path
    user: str | None = None
    ending: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _supervise(self) -> None:
        while not self.ending:
            with (self.folder / f"{self.name}.log").open("ab") as log:
                options: dict[str, Any] = {"user": self.user, "group": self.user, "start_new_session": True}
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder, **options)
            self.process.wait()
            self._kill_session()
            time.sleep(0 if self.ending else RESTART_S)

    def _kill_session(self) -> None:
        for pid in processes_of(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        self.ending = True
        self._kill_session()
        self._thread.join()

    def is_well(self) -> bool:
        if not self.url.startswith("http"):
            return subprocess.run(["pg_isready", "--quiet", "-d", self.url]).returncode == 0
        try:
            return httpx.get(self.url, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def await_all(parts: Sequence[Supervised], until: float) -> None:
    while missing := [part.name for part in parts if not part.is_well()]:
        if time.monotonic() > until:
            sys.exit(f"Not well: {', '.join(missing)}; see the logs in {parts[0].folder}")
        time.sleep(0.1)


def make_postgres(folder: Path, port: int) -> Supervised:
    """Start it with an empty database for MLflow and one for the ledger."""
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    home = folder / "postgres"
    home.mkdir()
    if user:
        shutil.chown(home, user, user)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    programs = found[-1]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "user": user, "group": user, "cwd": home}
    subprocess.run(
        [programs / "initdb", "-D", home / "cluster", "-U", "lstm", "--auth=trust", "--locale=C", "--encoding=UTF8"],
        **quiet,
    )
    settings = ("-h", "127.0.0.1", "-p", str(port), "-k", home)
    url = f"postgresql://lstm@127.0.0.1:{port}/postgres"
    server = Supervised("postgres", [programs / "postgres", "-D", home / "cluster", *settings], url, home, user)
    await_all([server], time.monotonic() + WELL_S)
    for name in ("mlflow", "ledger"):
        subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lstm", name], **quiet)
    return server


def make_pipeline(folder: Path, port: int) -> Supervised:
    """The schedule on an installation of its own, by the machine's clock: the last days once more each minute."""
    folder.mkdir()
    day = timedelta(days=1)
    first, end = (f"{datetime.now(UTC) + days * day:%Y-%m-%d}" for days in (-7, 2))
    settings = (f"port={port}", f"first_day={first}", f"ingest='source.start={first} source.end={end}'")
    cron = "cron={hourly: '0 0 29 2 *', nightly: '* * * * *', weekly: '0 0 29 2 *'}"
    paths = [f"paths.{name}={folder}/{name}" for name in ("data", "outputs")]
    databases = [f"registry.{name}=sqlite:///{folder}/{name}.db" for name in ("uri", "ledger")]
    command = [sys.executable, "-m", "lstm_ts.pipeline", *settings, cron, *paths, *databases]
    return Supervised("pipeline", ["env", "-u", CLOCK, *command], f"http://127.0.0.1:{port}/server_info", folder)
