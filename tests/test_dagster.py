"""`python -m lstm_ts.pipeline` as a user starts it, asked by GraphQL, as its pages do."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from processes import ROOT, WAIT_S, child, end, free_port, output, python, read_line, wait_for
from test_pipeline import synthetic_minutes
from test_retrain import SETTINGS

from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.disk import hold_lock

NEVER = '"0 0 29 2 *"'
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [f"{TODAY - timedelta(days=age):%Y-%m-%d}" for age in range(56, 0, -1)]
SOURCE = (f"source.start={DAYS[0]}", f"source.end={TODAY + timedelta(days=2):%Y-%m-%d}")
BACKFILL = """mutation($it: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $it) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status jobName tags { key value } } } } }"
LOG = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
    ... on MessageEvent { message } } } } }"""
STOP_SCHEDULE = """mutation($id: String!) { stopRunningSchedule(id: $id) {
    __typename ... on PythonError { message } } }"""
CANCEL = """mutation($ids: [String!]!) { terminateRuns(runIds: $ids) {
    __typename ... on PythonError { message } } }"""
SCHEDULES = """{ repositoriesOrError { ... on RepositoryConnection { nodes { schedules {
    name scheduleState { id status } } } } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
ASSETS = "{ assetNodes { assetKey { path } partitionDefinition { description } dependencyKeys { path } } }"


class Dagster:
    """A session of processes of its own."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.port = free_port()
        paths = (f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", f"port={self.port}")
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lstm_ts.pipeline", *paths, *overrides],
                cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def ask(self, query: str, **variables: Any) -> Any:
        reply = httpx.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=30
        ).json()
        assert "errors" not in reply, reply
        return reply["data"]

    def wait(self, what: Callable[[], Any], seconds: float) -> Any:
        """Until it is something true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                found = what()
            except httpx.TransportError:
                found = None
            if found:
                return found
            time.sleep(0.5)
        raise AssertionError(f"{what} gave {found} after {seconds} s:\n{self.log.read_text()}")

    def runs(self, **tags: str) -> list[Any]:
        results = self.ask(RUNS)["runsOrError"]["results"]
        wanted = {f"dagster/{key}": value for key, value in tags.items()}.items()
        return [run for run in results if wanted <= {tag["key"]: tag["value"] for tag in run["tags"]}.items()]

    def processes(self) -> dict[int, str]:
        """Command lines by process id, of all that were started."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                session = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3])
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if session == self.process.pid and command:
                found[int(folder.name)] = command
        return found

    def stop_schedules(self) -> None:
        """Cancel the queued runs and wait for the others: Dagster's code server waits 30 s, then logs a traceback."""
        (repository,) = self.ask(SCHEDULES)["repositoriesOrError"]["nodes"]
        for schedule in repository["schedules"]:
            if (state := schedule["scheduleState"])["status"] == "RUNNING":
                self.ask(STOP_SCHEDULE, id=state["id"])
        self.ask(CANCEL, ids=[run["runId"] for run in self.runs() if run["status"] == "QUEUED"])
        self.wait(lambda: all(run["status"] in ENDED for run in self.runs()), 300)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        for _ in range(60):
            if not self.processes():
                break
            time.sleep(0.5)


@pytest.fixture
def dagster(tmp_path: Path) -> Iterator[Dagster]:
    running = Dagster(
        tmp_path,
        f"first_day={DAYS[0]}",
        f"ingest='{' '.join(SOURCE)}'",
        f'retrain="{" ".join(SETTINGS)}"',
        f"cron={{hourly: {NEVER}, nightly: '* * * * *', weekly: '* * * * *'}}",
        "instance.run_monitoring.poll_interval_seconds=2",
        "instance.run_retries.max_retries=3",
    )
    try:
        yield running
    finally:
        for id in running.processes():
            with suppress(ProcessLookupError):
                os.kill(id, signal.SIGKILL)
        running.process.wait(60)


@pytest.mark.slow
def test_a_backfill_by_its_pages_a_killed_run_and_a_scheduled_retraining(dagster: Dagster, tmp_path: Path) -> None:
    nodes = dagster.wait(lambda: dagster.ask(ASSETS)["assetNodes"], 120)
    assets = {node["assetKey"]["path"][1]: node for node in nodes}
    assert {name: [key["path"][1] for key in node["dependencyKeys"]] for name, node in assets.items()} == {
        "minute_bars": [], "hourly_bars": ["minute_bars"], "outcomes": ["hourly_bars"], "model": ["hourly_bars"],
    }  # fmt: skip
    assert assets["minute_bars"]["partitionDefinition"]["description"].startswith(f"Daily, starting {DAYS[0]} UTC")

    selection = [{"path": ["XAGUSD", name]} for name in ("minute_bars", "hourly_bars")]
    launched = dagster.ask(BACKFILL, it={"assetSelection": selection, "partitionNames": DAYS})
    id = launched["launchPartitionBackfill"]["backfillId"]
    started = dagster.wait(lambda: [run for run in dagster.runs(backfill=id) if run["status"] == "STARTED"], 180)
    os.kill(dagster.wait(lambda: process_of(dagster, started[0]["runId"]), 180), signal.SIGKILL)

    def ended() -> Any:
        status = dagster.ask(BACKFILL_STATUS, id=id)["partitionBackfillOrError"]
        return status if status["status"].startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    assert dagster.wait(ended, 480) == {"status": "COMPLETED_SUCCESS", "error": None}
    statuses = sorted(run["status"] for run in dagster.runs(backfill=id))
    assert statuses.count("FAILURE") == 1
    truth = synthetic_minutes(*SOURCE).filter(pl.col("ts") < TODAY)
    store = BarStore(tmp_path / "data/raw/XAGUSD", BAR_SCHEMA)
    assert store.read(end=TODAY).equals(truth)

    def succeeded(schedule: str) -> Any:
        return [run for run in dagster.runs(schedule_name=schedule) if run["status"] == "SUCCESS"]

    assert dagster.wait(lambda: succeeded("XAGUSD_weekly"), 180)[0]["jobName"] == "XAGUSD_retraining"
    assert dagster.wait(lambda: succeeded("XAGUSD_nightly"), 180)[0]["jobName"] == "XAGUSD_bars"
    assert store.read(end=TODAY).equals(truth)
    dagster.stop_schedules()
    dagster.stop()
    wait_for(lambda: not dagster.processes())
    assert "Traceback" not in dagster.log.read_text()


@pytest.mark.slow
def test_a_second_pipeline_is_refused_until_the_first_is_killed_which_leaves_no_process(
    dagster: Dagster, tmp_path: Path
) -> None:
    dagster.wait(lambda: dagster.ask(ASSETS)["assetNodes"], 120)
    assert len(dagster.processes()) >= 4  # its pages, its daemon, our code, and the one that watches them
    with beside(tmp_path) as second:
        _, said = output(second)
    assert second.returncode == 2
    assert said == (
        f"Error: Expected no other pipeline of XAGUSD in {tmp_path}/data, got one that runs (process "
        f"{dagster.process.pid}, http://127.0.0.1:{dagster.port}); stop that one, or set another paths.data\n"
    )
    dagster.process.kill()
    dagster.process.wait(WAIT_S)
    wait_for(lambda: not dagster.processes())
    with beside(tmp_path) as third:
        address = next(line for line in iter(lambda: read_line(third), None) if line.startswith("Open "))[5:]
        assert httpx.get(address, trust_env=False).status_code == 200
        end(third)


@pytest.mark.slow
def test_a_dagster_that_is_killed_leaves_no_process_and_no_lock(dagster: Dagster, tmp_path: Path) -> None:
    dagster.wait(lambda: dagster.ask(ASSETS)["assetNodes"], 120)
    (killed,) = (
        id
        for id, command in dagster.processes().items()
        if " dagster dev " in command and "dagster_process" not in command
    )
    os.kill(killed, signal.SIGKILL)
    assert dagster.process.wait(WAIT_S) == 128 + signal.SIGKILL
    wait_for(lambda: not dagster.processes())
    hold_lock(tmp_path / "data/pipeline-XAGUSD.lock", "this test")


@pytest.mark.slow
def test_a_pipeline_whose_code_server_is_killed_ends_so_that_it_can_be_started_again(dagster: Dagster) -> None:
    dagster.wait(lambda: dagster.ask(ASSETS)["assetNodes"], 120)
    (killed,) = (id for id, command in dagster.processes().items() if " grpc " in command)
    os.kill(killed, signal.SIGKILL)
    assert dagster.process.wait(2 * WAIT_S) == 1
    wait_for(lambda: not dagster.processes())


def beside(folder: Path) -> AbstractContextManager["subprocess.Popen[str]"]:
    """A pipeline on the store of the first, on a port that is free while that one runs."""
    paths = (f"paths.data={folder}/data", f"paths.outputs={folder}/other", f"port={free_port()}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return child(python("-m", "lstm_ts.pipeline", *paths), **pipes)


def process_of(dagster: Dagster, run_id: str) -> int | None:
    """As the run's history says, once it says so."""
    messages = [event["message"] for event in dagster.ask(LOG, id=run_id)["logsForRun"]["events"]]
    found = re.search(r"\(pid: (\d+)\)", "\n".join(messages))
    return int(found[1]) if found else None
