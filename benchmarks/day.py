"""`python -m benchmarks.day FOLDER [KEPT]`: weeks of real minutes through everything that runs in production.

FOLDER holds silver's minutes of 2013 to 2015 (`xagusd_m1_<year>.parquet`); KEPT, a new folder, keeps stores, registry
and logs for the dashboard. March, April and a week of May 2015 come from the simulated TWS, six hours at a time, and
once the drift is found a day at a time; the time is read from a file.
At each step the commands of `deploy/cron/crontab` run as processes, the monitor is killed at some steps, clients send
requests to the service, and alerts go to a local webhook. The monitor stops a harmful challenger and promotes a better
one; an operator names the challengers and restarts what was killed. Planted events (`planted_market` changes prices):

the market      hourly returns revert from 2014 on; version 1, the champion, was trained on 2013
a bad model     version 2, trained on a market whose returns go on instead: the first challenger
a good model    version 3, trained on 2014: the second challenger
a feed outage   TWS is away from the 11th, 08:00, to 20:00
a killed service on the 13th
another regime  returns are 2.5 times as large from the 16th on
concept drift   from the 19th on returns go on instead of reverting

Here, a drift can be judged 400 hours after it began, not 1,000 (`JUDGING`). The exit code is 1 unless each alert was
sent once and its end once, both verdicts came, the drift was cured by a version that was judged only on later hours,
the regime was found without an alert, and no outcome was lost or counted twice.
"""

import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.installation import FORKS, PRELOAD, SYMBOL, Installation
from benchmarks.planted_market import MarketPhase, plant
from benchmarks.servers import free_port
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitor import RETRAIN
from tests.tws import Tws
from tests.webhook import open_webhook

COLUMNS = ("ts", "open", "high", "low", "close", "volume")
BEGINS, OUTAGE, BACK, KILLED, REGIME, DRIFT, FOUND, ENDS = (
    datetime(2015, month, day, hour, 5 if hour else 0, tzinfo=UTC)
    for month, day, hour in (
        *((3, 1, 20), (3, 11, 8), (3, 11, 20), (3, 13, 2), (3, 16, 0), (3, 19, 0), (3, 24, 20)),
        (5, 6, 20),
    )
)
REVERTING_SINCE, LIVE_SINCE = datetime(2014, 1, 1, tzinfo=UTC), datetime(2015, 3, 1, tzinfo=UTC)
STEP, DAY = timedelta(hours=6), timedelta(days=1)
REVERTING = MarketPhase(REVERTING_SINCE, 0.4)
MARKET = (REVERTING, MarketPhase(REGIME, 0.4, 2.5), MarketPhase(DRIFT, -0.3, 2.5))
OPPOSITE = (MarketPhase(datetime(2013, 1, 1, tzinfo=UTC), -0.3),)
TRAINING = ("horizon=12", "trainer.max_epochs=8", "trainer.enable_progress_bar=false")
JUDGING = ("gate.min_origins=200",)
NOT_JUDGED = ("gate.min_origins=100000", "retrain.start=scratch")  # registered, and no champion
IB = (
    "source=ib",
    "source.pacing.scale=0",
    "source.connect_s=2",
    "source.retries={attempts: 2, first_s: 0.1, longest_s: 0.5, closed_s: 0}",
)
KILL_EVERY = 6  # steps: a monitor is killed, and runs again
EXPECTED = {"challenger_stopped", "concept_drift", "service_no_answer"}
LATE = {"data_stale", "pipeline_late"}


def prepare(minutes: pl.DataFrame, at: Installation) -> None:
    """Fill the live store up to March, and register three versions, the first of them as champion."""
    at.set_clock(BEGINS)
    stores = {
        "data": plant(minutes, MARKET),
        "opposite": plant(minutes, OPPOSITE),
        "good": plant(minutes, MARKET).filter(pl.col("ts") >= REVERTING_SINCE),
    }
    for name, bars in stores.items():
        file = at.folder / f"{name}.parquet"
        bars.filter(pl.col("ts") < LIVE_SINCE).write_parquet(file)
        at.run("ingest", "source=files", f"source.paths={file}", "source.zone=UTC", data=name)
        at.run("process", data=name)
    at.run("retrain", f"span.end={REVERTING_SINCE:%Y-%m-%d}", *TRAINING)
    at.run("retrain", *TRAINING, *NOT_JUDGED, data="opposite")
    at.run("retrain", *TRAINING, *NOT_JUDGED, data="good")


class SimulatedOperator:
    """Operator that reads alerts and the output of commands, and acts on some of them."""

    def __init__(self, at: Installation) -> None:
        self.at, self.read = at, 0
        self.reported: Counter[tuple[int, str]] = Counter()  # times that an incident's opening or end was told
        self.rules: dict[int, str] = {}
        self.next_challenger: str | None = "3"

    def log_line(self, text: str) -> None:
        print(f"{self.at.now:%a %d %b %H:%M}  {text}", flush=True)

    def alias(self, *overrides: str) -> None:
        self.log_line(self.at.run("registry", *overrides)[1].strip())

    def challenge(self, version: str) -> None:
        self.alias("action=promote", f"version={version}", "alias=challenger", "reason=canary")

    def read_messages(self) -> None:
        messages, self.read = self.at.hook.received[self.read :], len(self.at.hook.received)
        for message in messages:
            self.log_line(f"alert: {message['title']}")
            for block in message["message"].split("\n\n"):
                print(f"{'':18}{block.splitlines()[0]}", flush=True)
                if found := re.search(r"^Incident (\d+): (\w+) of ", block, re.MULTILINE):
                    kind = "ended" if block.startswith("Ended ") else "opened"
                    self.reported[int(found[1]), kind] += 1
                    self.rules[int(found[1])] = found[2]
            if "Stop: the challenger" in message["message"] and self.next_challenger:
                self.challenge(self.next_challenger)
                self.next_challenger = None

    def read_monitor(self, code: int, printed: str) -> None:
        if better := re.search(r"The challenger of .*The challenger is better than the champion.*", printed):
            self.log_line(better[0])
        if code == RETRAIN:
            said = self.at.run("retrain", *TRAINING, *JUDGING)[1]
            gate = said[said.index("Gate: ") :].splitlines()
            self.log_line("a retraining is due")
            print(*(f"{'':18}{line}" for line in gate if line.startswith(("Gate", "- ", "Champion"))), sep="\n")


def run_schedule(at: Installation, operator: SimulatedOperator, port: int, *, kill_after_s: float | None) -> None:
    """Run the steps as cron does, but skip the others after a failed ingest, which cron does not; always watch."""
    code, _ = at.run("ingest", *IB, f"source.port={port}", allowed=(0, 1, 2))
    if code == 0:
        at.run("process")
        if kill_after_s is not None:
            at.kill_monitor(kill_after_s)
        monitored = at.run("monitor", "on_better=promote", "drift.min_origins=200", allowed=(0, RETRAIN))
        operator.read_monitor(*monitored)
    at.run("monitor", "action=watch", f"service={at.url}", "checks.service.attempts=1")
    operator.read_messages()


def list_steps() -> list[datetime]:
    early = [BEGINS + number * STEP for number in range((FOUND - BEGINS) // STEP + 1)]
    return early + [early[-1] + number * DAY for number in range(1, (ENDS - FOUND) // DAY + 1)]


def simulate(minutes: pl.DataFrame, at: Installation) -> SimulatedOperator:
    operator, chance, arms = SimulatedOperator(at), random.Random(0), Counter[str]()
    live = plant(minutes, MARKET).filter(pl.col("ts") >= LIVE_SINCE - timedelta(days=7)).drop("volume")
    operator.challenge("2")
    with Tws(live, pace=0) as tws, at.serving():
        for number, ts in enumerate(list_steps()):
            at.set_clock(ts)
            tws.set_clock(at.now)
            is_away = OUTAGE <= at.now < BACK
            kill_after_s = chance.uniform(0.5, 5) if number % KILL_EVERY == 0 else None
            if at.now - STEP < KILLED <= at.now:
                at.kill_service()
            run_schedule(at, operator, free_port() if is_away else tws.port, kill_after_s=kill_after_s)
            at.start_service()  # where it does not run
            arms += at.ask()
    operator.log_line(f"answers to clients: {dict(arms)}")
    return operator


def find_faults(at: Installation, operator: SimulatedOperator) -> list[str]:
    """Return what deviated from the expected course of events, a sentence each."""
    faults = [
        f"incident {number}, {operator.rules[number]}, was told {times} times that it {kind}"
        for (number, kind), times in operator.reported.items()
        if times > 1
    ]
    faults += [
        f"incident {n}, {rule}, has no end" for n, rule in operator.rules.items() if not operator.reported[n, "ended"]
    ]
    rules = set(operator.rules.values())
    faults += [f"no alert of {rule}" for rule in EXPECTED - rules]
    if not LATE & rules:
        faults.append(f"no alert of {' or '.join(sorted(LATE))}")
    with closing(Ledger(f"sqlite:///{at.folder}/outputs/registry/ledger.db", make=False)) as ledger:
        champions = [change.to_version for change in ledger.alias_changes(SYMBOL, "champion")]
        released = [change for change in ledger.alias_changes(SYMBOL, "challenger") if change.action == "release"]
        if 3 not in champions:
            faults.append("version 3 was not found better")
        if not any(change.from_version == 2 and "Stop: " in change.reason for change in released):
            faults.append("version 2 was not stopped")
        cures = [row for row in ledger.decisions(SYMBOL) if row.verdict == "promote" and row.span_start > DRIFT]
        if [row.version for row in cures] != champions[-1:]:
            faults.append("the drift was not cured")
        with ledger.transaction() as connection:
            if not any(row.rule == "regime" and row.health == "bad" for row in tables.read_findings(connection)):
                faults.append("the regime was not told")
            for version in (1, 3):
                lost = at.count_lost(connection, version, since=BEGINS)
                faults += [f"version {version}: {n} {what.replace('_', ' ')}" for what, n in vars(lost).items() if n]
    return faults


@contextmanager
def kept_in(folder: Path | None) -> Iterator[Path]:
    if folder:
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="day_") as name:
        yield Path(name)


def main() -> None:
    data, *kept = map(Path, sys.argv[1:])
    os.environ["OMP_NUM_THREADS"] = "1"
    FORKS.set_forkserver_preload([f"lstm_ts.{name}" for name in PRELOAD])
    files = [data / f"xagusd_m1_{year}.parquet" for year in (2013, 2014, 2015)]
    minutes = pl.concat([pl.read_parquet(file).select(COLUMNS) for file in files]).filter(pl.col("ts") < ENDS)
    with kept_in(kept[0] if kept else None) as folder, open_webhook() as hook:
        at = Installation(folder, hook, BEGINS)
        prepare(minutes.with_columns(pl.col("volume").cast(pl.Float64)), at)
        operator = simulate(minutes, at)
        for module, *overrides in (("registry", "action=history"), ("alerts", "days=40"), ("monitor", "action=status")):
            print(f"\n{module}\n{at.run(module, *overrides)[1].strip()}")
        print()
        faults = find_faults(at, operator)
    print(*(faults or ["Each alert and each end was told once; no outcome was lost or counted twice."]), sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
