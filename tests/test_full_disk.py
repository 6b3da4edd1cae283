"""A disk that is full, or read-only, under each command and server; `benchmarks.faults` fills it at random moments."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import httpx
import pytest
from commands import mistake, run, succeed
from processes import WAIT_S, child, end, free_port, output, python, wait_for
from test_faults import at_most

from lstm_ts.ledger.ledger import Ledger

pytestmark = pytest.mark.slow
TINY = ("tsteps=24", "horizon=6", "net.hidden=8", "net.decoder=8", "trainer.max_epochs=1", "spec.max_missing=6",
        "trainer.enable_progress_bar=false")  # fmt: skip
RETRAIN = (*TINY, "retrain.valid=1mo", "retrain.holdout=1mo", "gate.min_origins=100")
WALK = (*TINY, "walk.every=1mo", "walk.start=2019-04-01", "walk.valid=1mo", "hydra/launcher=basic")
COMMANDS = {
    "train": ("train", *TINY),
    "retrain": ("retrain", *RETRAIN, "seed=3"),
    "backtest": ("backtest", *WALK),
    "evaluate": ("evaluate", "model={model}", "span.start=2019-04-01"),
    "predict": ("predict", "model={model}"),
    "promote": ("registry", "action=promote", "version=2", "alias=challenger", "reason=tried"),
    "export": ("registry", "action=export", "version=1", "to={folder}/exported"),
}
LIMITS = (20_000, 60_000)  # of SQLite's files, the models' and pictures'
CASES = [("predict", 200), *((name, limit) for name in COMMANDS for limit in LIMITS if name != "predict")]
DISK_MB = 64


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and outputs of four months: a model, and two registered versions, the first the champion."""
    folder = tmp_path_factory.mktemp("worked")
    succeed("ingest", folder, "source.start=2019-01-01", "source.end=2019-05-01")
    for command, *arguments in (("process",), ("train", *TINY), ("retrain", *RETRAIN), ("retrain", *RETRAIN, "seed=2")):
        succeed(command, folder, *arguments)
    assert "champion" in " ".join(succeed("registry", folder))
    return folder


def models(folder: Path) -> set[Path]:
    """What a later command takes for whole, and its files; but for folds, of which those that are finished stay."""
    kept = ("outputs/*/**/model/*", "exported/*", "outputs/evaluate/**/scores.json")
    found = {path.relative_to(folder) for pattern in kept for path in folder.glob(pattern)}
    return {path for path in found if "folds" not in path.parts}


@pytest.mark.parametrize(("name", "limit"), CASES)
def test_a_command_on_a_full_disk_leaves_what_there_was_and_goes_on_later(
    name: str, limit: int, worked: Path, tmp_path: Path
) -> None:
    shutil.copytree(worked, tmp_path, dirs_exist_ok=True)
    before, versions = models(tmp_path), succeed("registry", tmp_path)
    model = next(tmp_path.glob("outputs/train/**/model"))
    command, *arguments = (argument.format(model=model, folder=tmp_path) for argument in COMMANDS[name])
    with at_most(limit):
        done = run(command, tmp_path, *arguments, "hydra.run.dir=${paths.outputs}/full")
    if done.returncode == 0:  # it needs no longer files
        return
    said = mistake(done)
    assert said.startswith("Expected ") and "disk" in said and "Background" not in said
    assert models(tmp_path) == before
    assert succeed("registry", tmp_path) == versions
    succeed(command, tmp_path, *arguments)


@pytest.fixture
def disk(worked: Path, tmp_path: Path) -> Iterator[Path]:
    """One of its own, with what `worked` has."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", tmp_path], capture_output=True, timeout=WAIT_S
    )
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    try:
        shutil.copytree(worked, tmp_path, dirs_exist_ok=True)
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True, timeout=WAIT_S)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True, timeout=WAIT_S)


def fill(disk: Path, room: int = 0) -> None:
    remount(disk, f"size={shutil.disk_usage(disk).used + room}")


def start(
    module: str, disk: Path, port: int, *overrides: str, stdout: IO[str] | int = subprocess.PIPE
) -> AbstractContextManager["subprocess.Popen[str]"]:
    paths = (f"paths.data={disk}/data", f"paths.outputs={disk}/outputs", f"port={port}")
    return child(
        python("-m", module, *paths, *overrides),
        stdout=stdout, stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(disk), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_the_service_answers_on_a_full_disk_and_writes_down_what_it_said_once_there_is_room(
    fault: str, disk: Path
) -> None:
    port, began = free_port(), datetime.now(UTC)
    remount(disk, "ro") if fault == "read-only" else fill(disk)
    log = disk.parent / "log"
    with log.open("w") as told, start("serve.server", disk, port, "poll_s=0.5", stdout=told) as server:
        wait_for(lambda: answers(port, "/health"), process=server)
        assert answers(port, "/forecast?symbol=XAGUSD")
        assert "registry/ledger.db to answer, got: " in httpx.get(f"http://127.0.0.1:{port}/health").json()["reason"]
        remount(disk, f"rw,size={DISK_MB}m")
        with closing(Ledger(f"sqlite:///{disk}/outputs/registry/ledger.db")) as ledger:
            wait_for(lambda: ledger.forecasts("XAGUSD", since=began, until=began + timedelta(hours=1)))
        end(server)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_the_dashboard_shows_its_pages_on_a_full_disk(fault: str, disk: Path) -> None:
    port = free_port()
    remount(disk, "ro") if fault == "read-only" else fill(disk)
    with start("dashboard.server", disk, port) as server:
        wait_for(lambda: answers(port, "/health"), process=server)
        assert answers(port, "/?page=data")
        end(server)
        assert "Traceback" not in output(server)[0]


@pytest.mark.parametrize("room", [0, 100_000, None])
def test_a_pipeline_on_a_full_disk_is_one_sentence_and_starts_once_there_is_room(room: int | None, disk: Path) -> None:
    port = free_port()
    remount(disk, "ro") if room is None else fill(disk, room)
    with start("lstm_ts.pipeline", disk, port) as refused:
        (said,) = output(refused)[0].splitlines()
    assert refused.returncode == 2
    expected = f"Expected {disk}/data/pipeline-XAGUSD.lock to be" if room is None else "Expected room on the disk"
    assert said.startswith(f"Error: {expected}")
    remount(disk, f"rw,size={DISK_MB}m")
    log = disk.parent / "log"
    with log.open("w") as told, start("lstm_ts.pipeline", disk, port, stdout=told) as pipeline:
        wait_for(lambda: answers(port, "/server_info"), 2 * WAIT_S, process=pipeline)
        end(pipeline)
    assert "Traceback" not in log.read_text()
