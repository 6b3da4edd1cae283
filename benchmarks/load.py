"""Load while processes are killed: clients, an operator, and ingest, process and monitor in a continuous loop."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl

from benchmarks.installation import SYMBOL, Installation
from benchmarks.supervised import WELL_S
from lstm_ts.errors import LedgerError, RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.registry.registry import Registry
from lstm_ts.store.bar_store import BarStore

BARS_START, BEGINS = datetime(2019, 1, 1, tzinfo=UTC), datetime(2019, 5, 1, 12, tzinfo=UTC)
STEP = timedelta(hours=3)  # of the clock, in each round
MONITORED = (0, 3)  # exit codes: done, and done with a retraining due
CLIENTS, PAUSE_S = 3, 0.1  # about 30 requests a second; nginx takes 50 of an address


@dataclass(frozen=True)
class TimedReply:
    at: float
    status: int  # 0: none
    request_id: str = ""


@dataclass
class Load:
    """Clients, operator and commands, each in a thread of its own, with the answers and results that they received."""

    at: Installation
    url: str  # of nginx
    registry: str
    ledger: str
    replies: list[TimedReply] = field(default_factory=list)
    moves: list[tuple[float, int]] = field(default_factory=list)  # when, and which of the operator's moves was made
    stored: dict[str, set[datetime]] = field(default_factory=dict)  # stamps by stage, once a command has succeeded
    lost_bars: int = 0
    rounds: list[tuple[float, float]] = field(default_factory=list)  # of those that have succeeded, start and end
    running: tuple[str, Any] = ("", None)  # a command and its process
    done: threading.Event = field(default_factory=threading.Event)

    def threads(self) -> list[threading.Thread]:
        return [threading.Thread(target=target) for target in (*[self._ask] * CLIENTS, self._work, self._operate)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False, params={"symbol": SYMBOL}) as client:
            while not self.done.wait(PAUSE_S):
                try:
                    answer = client.get("/forecast")
                    request_id = answer.json()["request_id"] if answer.status_code == 200 else ""
                    self.replies.append(TimedReply(time.monotonic(), answer.status_code, request_id))
                except httpx.HTTPError:
                    self.replies.append(TimedReply(time.monotonic(), 0))

    def _work(self) -> None:
        while not self.done.is_set():
            started = time.monotonic()
            self.at.set_clock(self.at.now + STEP)
            source = (f"source.start={BARS_START:%Y-%m-%d}", f"source.end={self.at.now:%Y-%m-%dT%H:%M:%S}")
            steps = (("ingest", source, (0,)), ("process", (), (0,)), ("monitor", (), MONITORED))
            if all(self._run(name, *overrides) in allowed for name, overrides, allowed in steps):
                self.rounds.append((started, time.monotonic()))

    def _run(self, name: str, *overrides: str) -> int:
        process = self.at.start(name, *overrides)
        self.running = (name, process)
        process.join()
        self.running = ("", None)
        if name != "monitor":
            stage, schema = ("data/raw", BAR_SCHEMA) if name == "ingest" else ("data/processed", HOURLY_SCHEMA)
            self.compare(stage, schema, keep=process.exitcode == 0)
        return int(process.exitcode or 0)

    def compare(self, stage: str, schema: pl.Schema, *, keep: bool) -> None:
        """Count the bars that are missing since the last call with `keep`; keep: compare the next calls with these."""
        found = set(BarStore(self.at.folder / stage / SYMBOL, schema).read_stamps())
        self.lost_bars += len(self.stored.get(stage, set()) - found)
        if keep:
            self.stored[stage] = found

    def _operate(self) -> None:
        """Record decisions on versions that do not exist; promote version 2 to challenger and release it in turn."""
        with closing(Ledger(self.ledger)) as ledger:
            registry, number = Registry(self.registry, ledger), 0
            while not self.done.wait(0.5):
                number += 1
                decision = DecisionRow("drill", number, self.at.now, "reject", False, None, (), BEGINS, BEGINS, "")
                try:
                    ledger.record_decision(decision)
                    self._move(registry, number)
                except (LedgerError, RegistryError):
                    continue
                self.moves.append((time.monotonic(), number))

    def _move(self, registry: Registry, number: int) -> None:
        actor, reason = "an operator", f"move {number}"
        if registry.holder(SYMBOL, "challenger"):
            registry.release(SYMBOL, 2, actor=actor, reason=reason)
        else:
            registry.promote(SYMBOL, 2, alias="challenger", actor=actor, reason=reason)

    def lost_decisions(self, since: float) -> int:
        """Count decisions made `since` that the ledger does not contain; a move and its decision count as one."""
        taken = {number for at, number in self.moves if at >= since}
        with closing(Ledger(self.ledger)) as ledger:
            decided = {row.version for row in ledger.decisions("drill")}
            moved = {row.reason for row in ledger.alias_changes(SYMBOL, "challenger") if row.state == "done"}
        return sum(number not in decided or f"move {number}" not in moved for number in taken)

    def lost_outcomes(self) -> int:
        with closing(Ledger(self.ledger)) as ledger, ledger.transaction() as connection:
            return sum(vars(self.at.count_lost(connection, 1, since=BEGINS)).values())


@contextmanager
def at_work(load: Load) -> Iterator[None]:
    threads = load.threads()
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + WELL_S
        while not (load.rounds and load.moves) and time.monotonic() < until:
            time.sleep(0.1)
        yield
    finally:
        load.done.set()
        for thread in threads:
            thread.join()
