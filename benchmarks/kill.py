"""`python -m benchmarks.kill [NAME …]`: kill -9 each process of an installation under load, and count what was lost.

Two replicas behind nginx (`deploy/nginx`), an MLflow server, PostgreSQL for MLflow and the ledger, the dashboard and
the schedule, all in a temporary folder. Meanwhile clients ask nginx for forecasts, an operator moves an alias, and
ingest, process and monitor take a few hours of synthetic bars each time, by a clock that lies in a file. Whatever has
ended is started again as systemd does with `deploy/systemd`: what is left of its session is killed, and after two
seconds the same command runs. Each kill is looked at once everything is well again and a whole round of ingest,
process and monitor has succeeded:

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
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx
import psutil

from benchmarks.drills import Drill, make_drills
from benchmarks.faults import TINY
from benchmarks.installation import FORKS, PRELOAD, SYMBOL, Installation
from benchmarks.load import BARS_START, BEGINS, Load, at_work
from benchmarks.servers import free_port, nginx_command
from benchmarks.supervised import WELL_S, Supervised, await_all, make_pipeline, make_postgres
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.scoring.tables import align
from tests.webhook import open_webhook

LONG_AGO, FAR = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
RETRAIN = (*TINY, "retrain.valid=1mo", "retrain.holdout=1mo", "gate.min_origins=100")
MOST_MISSING_S = 1.0
HEADS = ("killed", "not 200", "without, s", "bars", "decisions", "outcomes", "missing", "of, s", "counted", "well, s")


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


def make_model(at: Installation) -> None:
    """Version 1, the champion, and version 2."""
    at.set_clock(BEGINS)
    at.run("ingest", f"source.start={BARS_START:%Y-%m-%d}", f"source.end={BEGINS:%Y-%m-%dT%H:%M:%S}")
    at.run("process")
    at.run("retrain", *RETRAIN)
    at.run("retrain", *RETRAIN, "seed=2")


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
    at = Installation(folder, stack.enter_context(open_webhook()), BEGINS)
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


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kill_") as name, ExitStack() as stack:
        Path(name).chmod(0o755)  # PostgreSQL runs as another user
        found = run(Path(name), sys.argv[1:], stack)
    print(table(found))
    sys.exit(not all(each.is_good() for each in found))


if __name__ == "__main__":
    main()
