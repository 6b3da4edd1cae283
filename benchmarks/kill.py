"""`python -m benchmarks.kill [NAME …]`: kill -9 each process of an installation under load, and count what was lost.

Two replicas behind nginx (`deploy/nginx`), an MLflow server, PostgreSQL for MLflow and the ledger, the dashboard and
the schedule, all in a temporary folder. Meanwhile clients ask nginx for forecasts, an operator moves an alias, and
ingest, process and monitor take a few hours of synthetic bars each time, by a clock that lies in a file. Whatever has
ended is started again as systemd does with `deploy/systemd`: what is left of its session is killed, and after RESTART_S
the same command runs. Each kill is looked at once everything is well again and a whole round of ingest, process and
monitor has succeeded:

not 200      answers through nginx, and how long there was none
bars         that ingest or process had reported as stored, and that are not there
decisions    that the ledger had taken: the gate's, and alias moves
outcomes     hours between a version's first and last that have no forecast of the monitor's or no score, or two
missing      forecasts that clients got and the ledger has not, and since how long before the kill; how many of
             them the services count (`lstm_ts_forecast_log_total{outcome="lost"}`)

Exit code 1: a bar, a decision or an outcome was lost; or the kill of one replica cost a client its answer, or more
than a second's forecasts, or such as nobody counts. NAMEs choose among the processes.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil

from benchmarks.day import FORKS, PRELOAD, Installation, as_utc
from benchmarks.faults import TINY, processes_of
from benchmarks.servers import free_port, nginx_command
from lstm_ts.clock import CLOCK
from lstm_ts.errors import LedgerError, RegistryError
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.registry.registry import Registry
from lstm_ts.scoring.tables import align
from lstm_ts.store.bar_store import BarStore
from tests.webhook import open_webhook

SYMBOL = "XAGUSD"
BARS_START, BEGINS = datetime(2019, 1, 1, tzinfo=UTC), datetime(2019, 5, 1, 12, tzinfo=UTC)
LONG_AGO, FAR = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=3)  # of the clock, in each round
RETRAIN = (*TINY, "retrain.valid=1mo", "retrain.holdout=1mo", "gate.min_origins=100")
MONITORED = (0, 3)  # exit codes: done, and done with a retraining due
CLIENTS, PAUSE_S = 3, 0.1  # about 30 requests a second; nginx takes 50 of an address
RESTART_S, WELL_S = 2.0, 180.0
MOST_MISSING_S = 1.0
HEADS = ("killed", "not 200", "without, s", "bars", "decisions", "outcomes", "missing", "of, s", "counted", "well, s")
Pick = Callable[[psutil.Process], psutil.Process]


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


@dataclass(frozen=True)
class TimedReply:
    at: float
    status: int  # 0: none
    request_id: str = ""


@dataclass
class Load:
    """What goes on meanwhile, each in a thread of its own, and what it was told."""

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
        """Count the bars that have gone; keep: for the next time."""
        found = set(BarStore(self.at.folder / stage / SYMBOL, schema).read_stamps())
        self.lost_bars += len(self.stored.get(stage, set()) - found)
        if keep:
            self.stored[stage] = found

    def _operate(self) -> None:
        """Decisions of versions that there are not, and version 2 as challenger and not."""
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
        """Count those that were taken and are not there; a move and its decision are one."""
        taken = {number for at, number in self.moves if at >= since}
        with closing(Ledger(self.ledger)) as ledger:
            decided = {row.version for row in ledger.decisions("drill")}
            moved = {row.reason for row in ledger.alias_changes(SYMBOL, "challenger") if row.state == "done"}
        return sum(number not in decided or f"move {number}" not in moved for number in taken)

    def lost_outcomes(self) -> int:
        stamps = BarStore(self.at.folder / "data/processed" / SYMBOL, HOURLY_SCHEMA).read_stamps()
        closes = {ts + HOUR for ts in stamps}
        with closing(Ledger(self.ledger)) as ledger, ledger.transaction() as connection:
            forecasts = tables.read_forecasts(connection, SYMBOL, 1, since=LONG_AGO)
            scores = tables.read_scores(connection, SYMBOL, 1, since=LONG_AGO)
            origins = Counter(row.origin_ts for row in forecasts)
        scored = Counter(row.origin_ts for row in scores if row.step == 1)
        hours = [ts for ts in closes if min(origins) <= ts <= max(origins)]
        targets = {row.origin_ts: as_utc(row.target_ts_H[0]) for row in forecasts}
        due = [ts for ts, target in targets.items() if target in closes and target <= max(origins)]
        return sum(origins[ts] != 1 for ts in hours) + sum(scored[ts] != 1 for ts in due)


@dataclass(frozen=True)
class Drill:
    """What is killed, and what is said of it."""

    name: str
    find: Callable[[], Any]  # the process; raises    StopIteration, psutil.Error: there is none
    of_replica: bool = False
    of_command: bool = False


@dataclass
class Drilled:
    drill: Drill
    at: float
    bars: int
    decisions: int
    outcomes: int
    counted: int
    well_s: float
    failed: int = 0
    gap_s: float = 0.0
    missing: int = 0
    missing_s: float = 0.0

    def cells(self) -> tuple[str, ...]:
        numbers = (self.bars, self.decisions, self.outcomes, self.missing)
        gap, counted = f"{self.gap_s:.1f}", str(self.counted)
        first = (self.drill.name, str(self.failed), gap, *map(str, numbers))
        return (*first, f"{self.missing_s:.2f}", counted, f"{self.well_s:.0f}")

    def is_good(self) -> bool:
        kept = not (self.bars or self.decisions or self.outcomes)
        fleeting = self.missing_s <= MOST_MISSING_S and self.missing <= self.counted
        return kept and (not self.drill.of_replica or (fleeting and not self.failed))


def child(main: psutil.Process, holds: Callable[[psutil.Process], bool]) -> psutil.Process:
    return next(each for each in main.children(recursive=True) if holds(each))


def has(*words: str) -> Pick:
    return lambda main: child(main, lambda each: all(word in " ".join(each.cmdline()) for word in words))


def listener(main: psutil.Process) -> psutil.Process:
    return child(main, lambda each: any(socket.status == "LISTEN" for socket in each.net_connections("tcp")))


def registry_of(main: psutil.Process) -> psutil.Process:
    return child(main, lambda each: each.name() == "registry")


def worker(main: psutil.Process) -> psutil.Process:
    return child(main, lambda each: each.name() != "registry" and "spawn_main" in " ".join(each.cmdline()))


def process_of(part: Supervised, pick: Pick = lambda main: main) -> Callable[[], psutil.Process]:
    return lambda: pick(psutil.Process(part.process.pid))


def command_of(load: Load, name: str) -> Callable[[], Any]:
    """Wait until it is at work."""

    def find() -> Any:
        while (running := load.running)[0] != name:
            time.sleep(0.01)
        time.sleep(0.3)
        return running[1]

    return find


def is_back(drill: Drill, killed: int) -> bool:
    with suppress(StopIteration, psutil.Error):
        return drill.of_command or drill.find().pid != killed
    return False


def count_lost(replicas: Sequence[Supervised]) -> int:
    pages = [httpx.get(each.url.replace("/health", "/metrics"), trust_env=False).text for each in replicas]
    found = re.findall(r'^lstm_ts_forecast_log_total\{outcome="lost"\} (\S+)', "\n".join(pages), re.MULTILINE)
    return sum(int(float(value)) for value in found)


def carry_out(drill: Drill, load: Load, parts: Sequence[Supervised], replicas: Sequence[Supervised]) -> Drilled:
    bars, counted, since = load.lost_bars, count_lost(replicas), load.moves[-1][0]
    load.compare("other/data/raw", BAR_SCHEMA, keep=True)  # the schedule's
    process = drill.find()
    process.kill()
    killed = time.monotonic()
    while not is_back(drill, process.pid):
        if time.monotonic() > killed + WELL_S:
            sys.exit(f"Nothing takes the place of {drill.name} within {WELL_S:g} s; see the logs in {load.at.folder}")
        time.sleep(0.05)
    await_all(parts, killed + WELL_S)
    well_at = time.monotonic()
    while not (load.rounds[-1][0] > killed and load.moves[-1][0] > killed):
        if time.monotonic() > killed + WELL_S:
            sys.exit(f"Nothing works {WELL_S:g} s after the kill of {drill.name}; see the logs in {load.at.folder}")
        time.sleep(0.05)
    well_s = (load.rounds[-1][1] if drill.of_command else well_at) - killed
    load.compare("other/data/raw", BAR_SCHEMA, keep=True)
    lost = (load.lost_bars - bars, load.lost_decisions(since), load.lost_outcomes())
    drilled = Drilled(drill, killed, *lost, count_lost(replicas) - counted, well_s)
    judge_replies(drilled, load)
    print(*drilled.cells(), flush=True)
    return drilled


def await_all(parts: Sequence[Supervised], until: float) -> None:
    while missing := [part.name for part in parts if not part.is_well()]:
        if time.monotonic() > until:
            sys.exit(f"Not well: {', '.join(missing)}; see the logs in {parts[0].folder}")
        time.sleep(0.1)


def judge_replies(drilled: Drilled, load: Load) -> None:
    """Count what went wrong with the answers since a second and a half before the kill."""
    until = time.monotonic()
    time.sleep(1.5)  # forecasts are on their way to the ledger
    with closing(Ledger(load.ledger)) as ledger:
        kept = {row.request_id for row in ledger.forecasts(SYMBOL, since=LONG_AGO, until=FAR)}
    replies = sorted(
        (reply for reply in load.replies if drilled.at - 1.5 <= reply.at < until), key=lambda reply: reply.at
    )
    good = [reply for reply in replies if reply.status == 200]
    missing = [reply.at for reply in good if reply.request_id not in kept]
    drilled.failed, drilled.missing = len(replies) - len(good), len(missing)
    drilled.missing_s = drilled.at - min(missing, default=drilled.at)
    drilled.gap_s = max(later.at - earlier.at for earlier, later in pairwise(good))


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


def make_model(at: Installation) -> None:
    """Version 1, the champion, and version 2."""
    at.set_clock(BEGINS)
    at.run("ingest", f"source.start={BARS_START:%Y-%m-%d}", f"source.end={BEGINS:%Y-%m-%dT%H:%M:%S}")
    at.run("process")
    at.run("retrain", *RETRAIN)
    at.run("retrain", *RETRAIN, "seed=2")


def make_drills(load: Load, parts: Mapping[str, Supervised]) -> list[Drill]:
    first, pipeline = parts["replica 1"], parts["pipeline"]
    return [
        Drill("a replica", process_of(first), of_replica=True),
        Drill("its HTTP process", process_of(first, listener), of_replica=True),
        Drill("its worker", process_of(first, worker)),
        Drill("its registry process", process_of(first, registry_of), of_replica=True),
        *(Drill(name, process_of(parts[name])) for name in ("nginx", "postgres", "mlflow", "dashboard")),
        Drill("pipeline's daemon", process_of(pipeline, has("dagster", "daemon"))),
        Drill("pipeline's code server", process_of(pipeline, has("dagster", "grpc"))),
        *(Drill(name, command_of(load, name), of_command=True) for name in ("ingest", "process", "monitor")),
    ]


def table(found: Sequence[Drilled]) -> str:
    return "\n".join(align([HEADS, *(each.cells() for each in found)]))


def run(folder: Path, chosen: Sequence[str], stack: ExitStack) -> list[Drilled]:
    def supervise(part: Supervised) -> Supervised:
        stack.callback(part.end)
        parts[part.name] = part
        return part

    ports = {name: free_port() for name in ("postgres", "mlflow", "nginx", "dashboard", "pipeline", "1", "2")}
    parts: dict[str, Supervised] = {}
    base = f"postgresql+psycopg://lstm@127.0.0.1:{ports['postgres']}"
    registry, ledger = f"http://127.0.0.1:{ports['mlflow']}", f"{base}/ledger"
    os.environ |= {"MLFLOW_TRACKING_URI": registry, "LSTM_TS_LEDGER": ledger, "OMP_NUM_THREADS": "1"}
    FORKS.set_forkserver_preload([f"lstm_ts.{name}" for name in PRELOAD])  # once the environment is as it is to be
    at = Installation(folder, stack.enter_context(open_webhook()))
    os.environ |= at.environment

    def python(name: str, path: str, *command: str) -> Supervised:
        url = f"http://127.0.0.1:{ports[name.removeprefix('replica ')]}{path}"
        return supervise(Supervised(name, [sys.executable, "-m", *command], url, folder))

    def ours(name: str, module: str, path: str, *overrides: str) -> Supervised:
        port = f"port={ports[name.removeprefix('replica ')]}"
        return python(name, path, module, *at.arguments(port, *overrides))

    supervise(make_postgres(folder, ports["postgres"]))
    kept = (f"--backend-store-uri={base}/mlflow", f"--artifacts-destination={folder}/artifacts", "--workers=1")
    python("mlflow", "/health", "mlflow", "server", f"--port={ports['mlflow']}", *kept)
    await_all(list(parts.values()), time.monotonic() + WELL_S)
    make_model(at)
    replicas = [ours(f"replica {n}", "serve.server", "/health", "poll_s=1") for n in (1, 2)]
    nginx = nginx_command(folder / "nginx", ports["nginx"], [ports["1"], ports["2"]])
    supervise(Supervised("nginx", nginx, f"http://127.0.0.1:{ports['nginx']}/health", folder))
    ours("dashboard", "dashboard.server", "/?page=data")
    supervise(make_pipeline(folder / "other", ports["pipeline"]))
    await_all(list(parts.values()), time.monotonic() + WELL_S)

    load = Load(at, f"http://127.0.0.1:{ports['nginx']}", registry, ledger)
    with at_work(load):
        drills = [drill for drill in make_drills(load, parts) if not chosen or drill.name in chosen]
        return [carry_out(drill, load, list(parts.values()), replicas) for drill in drills]


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


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kill_") as name, ExitStack() as stack:
        Path(name).chmod(0o755)  # PostgreSQL runs as another user
        found = run(Path(name), sys.argv[1:], stack)
    print(table(found))
    sys.exit(not all(each.is_good() for each in found))


if __name__ == "__main__":
    main()
