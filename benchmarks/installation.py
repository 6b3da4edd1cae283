"""An installation in a folder: its commands are processes, its clock a file, and a service that clients ask."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import numpy as np
from sqlalchemy import Connection

from benchmarks.servers import free_port
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.store.bar_store import BarStore
from tests.webhook import Webhook

SYMBOL = "XAGUSD"
MODULES = {"registry": "lstm_ts.registry.__main__"}
LOG, PRINTED = "log", "printed"
FORKS = get_context("forkserver")
PRELOAD = ("retrain", "ingest", "monitor", "registry.__main__", "alerts")
CLIENTS = 12  # each with a key of its own, which is its arm
READY_S = 180


def run_command(module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    """Run `python -m lstm_ts.MODULE`; stdout goes to a file of its own, stderr to the log."""
    os.environ.update(environment)
    for number, name, flags in ((1, PRINTED, os.O_TRUNC), (2, LOG, os.O_APPEND)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | flags), number)
    sys.argv = [module, *arguments]
    importlib.import_module(MODULES.get(module, f"lstm_ts.{module}")).main()


@dataclass(frozen=True)
class LostOutcomes:
    """Each 0 where nothing was lost or counted twice."""

    hours_without_forecast: int
    forecasts_too_many: int  # doubled, or of an hour without a bar
    outcomes_without_score: int
    scores_too_many: int  # doubled, or of an outcome that is not due


@dataclass
class Installation:
    """Stores, registry and ledger in a folder; its commands are processes, its clock a file."""

    folder: Path
    hook: Webhook
    now: datetime
    port: int = field(default_factory=free_port)
    service: "subprocess.Popen[bytes] | None" = None

    def set_clock(self, now: datetime) -> None:
        self.now, written = now, self.folder / "clock.new"
        written.write_text(now.isoformat())
        written.replace(self.folder / "clock")

    @property
    def environment(self) -> dict[str, str]:
        return {"LSTM_TS_CLOCK": str(self.folder / "clock"), "LSTM_TS_ALERT_URLS": self.hook.url}

    def arguments(self, *overrides: str, data: str = "data") -> list[str]:
        return [f"paths.data={self.folder / data}", f"paths.outputs={self.folder}/outputs", *overrides]

    def start(self, module: str, *overrides: str, data: str = "data") -> BaseProcess:
        """Run a command in a process of its own, whose imports are done; what it prints goes to the file `printed`."""
        task = (module, self.arguments(*overrides, data=data), self.environment, self.folder)
        process = FORKS.Process(target=run_command, args=task)
        process.start()
        return process

    def run(self, module: str, *overrides: str, data: str = "data", allowed: Sequence[int] = (0,)) -> tuple[int, str]:
        """Exit code, and what it printed."""
        process = self.start(module, *overrides, data=data)
        process.join()
        code, printed = process.exitcode or 0, (self.folder / PRINTED).read_text()
        with (self.folder / LOG).open("a") as log:
            log.write(printed)
        if code not in allowed:
            sys.exit(f"{module} {' '.join(overrides)} ended with {code}; see {self.folder / LOG}\n{printed}")
        return code, printed

    def kill_monitor(self, after_s: float) -> None:
        monitor = self.start("monitor")
        monitor.join(after_s)
        monitor.kill()
        monitor.join()

    def start_service(self) -> None:
        """Start the service unless it runs."""
        if self.service:
            return
        keys = self.folder / "keys"
        keys.write_text("".join(f"key-{number}\n" for number in range(CLIENTS)))
        serving = ("traffic=canary", "traffic.challenger_share=0.25", "poll_s=1", f"api_keys.file={keys}")
        with (self.folder / "service.log").open("ab") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "serve.server", *self.arguments(*serving, f"port={self.port}")],
                stdout=log, stderr=log, env=os.environ | self.environment, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + READY_S
        while not self.is_ready():
            if self.service.poll() is not None or time.monotonic() > until:
                sys.exit(f"The service is not ready; see {self.folder}/service.log")
            time.sleep(0.2)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        self.start_service()
        try:
            yield
        finally:
            self.kill_service()

    def kill_service(self) -> None:
        if self.service:
            os.killpg(self.service.pid, signal.SIGKILL)
            self.service.wait()
            self.service = None

    def ask(self) -> Counter[str]:
        """Arms of the answers to all clients."""
        with httpx.Client(base_url=self.url, timeout=30, params={"symbol": SYMBOL}) as client:
            headers = ({"X-API-Key": f"key-{number}"} for number in range(CLIENTS))
            replies = [client.get("/forecast", headers=each).raise_for_status().json() for each in headers]
        return Counter(reply["arm"] for reply in replies)

    def count_lost(self, connection: Connection, version: int, *, since: datetime) -> LostOutcomes:
        """Hours between the version's first and last origin that were lost or doubled, by the stored bars."""
        stamps = BarStore(self.folder / "data/processed" / SYMBOL, HOURLY_SCHEMA).read(start=since - HOUR)["ts"]
        closes = {ts + HOUR for ts in stamps}
        rows = tables.read_forecasts(connection, SYMBOL, version, since=since)
        origins = Counter(row.origin_ts for row in rows)
        first, last = min(origins), max(origins)
        targets = {row.origin_ts: as_utc(row.target_ts_H[0]) for row in rows}
        due = Counter(ts for ts, target in targets.items() if target in closes and target <= last)
        scores = tables.read_scores(connection, SYMBOL, version, since=since)
        scored = Counter(row.origin_ts for row in scores if row.step == 1)
        hours = Counter(ts for ts in closes if first <= ts <= last)
        print(f"Version {version}: {len(origins):,} hours forecast, {len(scored):,} of {len(due):,} outcomes scored")
        return LostOutcomes(
            (hours - origins).total(), (origins - hours).total(), (due - scored).total(), (scored - due).total()
        )


def as_utc(ts: np.datetime64) -> datetime:
    found: datetime = ts.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
