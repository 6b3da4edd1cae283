"""Kill commands and servers, or fill their disk, at random moments; the same command, run again, must then end as if
nothing had happened.

    python -m benchmarks.faults [--trials 50] [--seed 0]

Needs root, to mount a small tmpfs. After each fault, a second run without faults must succeed; then the content of the
stores, the folds, the registered versions and the aliases are compared with those of a clean run. A server is killed
while it starts or answers; it must leave no process, and its next start must answer, and end at SIGTERM.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.faulty_server import SERVERS, FaultyServer
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.model.artifact import WEIGHTS
from lstm_ts.registry.registry import Registry
from lstm_ts.store.disk import hash_file
from lstm_ts.store.manifest import read_manifest

DISK_MB = 512
TINY = ("tsteps=24", "horizon=6", "net.hidden=8", "net.decoder=8", "trainer.max_epochs=1", "spec.max_missing=6",
        "trainer.enable_progress_bar=false")  # fmt: skip
STEPS: dict[str, tuple[str, ...]] = {  # in the order of their work, each on what those before have left
    "ingest": ("source.start=2019-01-01", "source.end=2019-05-01"),
    "process": (),
    "train": TINY,
    "evaluate": ("model={model}", "span.start=2019-04-01"),
    "predict": ("model={model}",),
    "backtest": (*TINY, "walk.every=1mo", "walk.start=2019-04-01", "walk.valid=1mo", "hydra/launcher=basic"),
    "retrain": (*TINY, "retrain.valid=1mo", "retrain.holdout=1mo", "gate.min_origins=100"),
    "registry": ("action=promote", "version=1", "reason=tried"),
}
OFTEN = {"ingest": 4, "process": 4, "predict": 4, "registry": 4, "serve": 3, "dashboard": 3, "pipeline": 2}
WEIGHTED = [name for name in (*STEPS, *SERVERS) for _ in range(OFTEN.get(name, 1))]
ASKED_S = 5  # that a server answers for before it is told to end
State = dict[str, Any]
Child = tuple[int, Path]  # its process, and the file of what it says


@dataclass(frozen=True)
class CleanRun:
    seconds: float
    grown: int  # bytes
    before: Path  # a copy of the disk
    after: State


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    for command in STEPS:
        importlib.import_module(module_of(command))  # once, before the forks
    with mounted() as disk, tempfile.TemporaryDirectory() as aside:
        clean = {name: run_clean(name, disk, Path(aside)) for name in (*STEPS, *SERVERS)}
        chosen, counts = random.Random(asked.seed), Counter[str]()
        for number in range(asked.trials):
            command, fault = chosen.choice(WEIGHTED), ("kill", "full")[number % 2]
            problem = try_fault(command, fault, chosen.random(), clean[command], disk)
            counts[f"{command:<9} {fault}: {problem or 'as after a clean run'}"] += 1
            print(f"{number + 1:>3} {command:<9} {fault:<5} {problem or 'ok'}", flush=True)
    print(*(f"{n:>3} {outcome}" for outcome, n in sorted(counts.items())), sep="\n")
    sys.exit(any("as after a clean run" not in outcome for outcome in counts))


@contextmanager
def mounted() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="faults_") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def run_clean(command: str, disk: Path, aside: Path) -> CleanRun:
    before = aside / command
    shutil.copytree(disk, before)
    used, began = used_bytes(disk), time.monotonic()
    if problem := run_once(command, disk):
        raise SystemExit(f"{command}: {problem}")
    seconds = time.monotonic() - began
    print(f"{command:<9} {seconds:5.1f} s, {used_bytes(disk) - used:>10,} bytes", flush=True)
    return CleanRun(seconds, used_bytes(disk) - used, before, read_state(disk))


def try_fault(command: str, fault: str, share: float, clean: CleanRun, disk: Path) -> str:
    """Run a command or server under a fault, then again without; return what went wrong, empty if nothing did."""
    for path in disk.iterdir():
        shutil.rmtree(path)
    shutil.copytree(clean.before, disk, dirs_exist_ok=True)
    if fault == "full":
        resize(disk, used_bytes(disk) + int(share * clean.grown))
    inject = inject_server_fault if command in SERVERS else inject_command_fault
    problem = inject(command, disk, share * clean.seconds if fault == "kill" else None)
    resize(disk, DISK_MB << 20)
    if problem:
        return problem
    if problem := run_once(command, disk):
        return f"did not go on: {problem}"
    found = read_state(disk)
    return "" if found == clean.after else f"differs: {found} from {clean.after}"


def inject_command_fault(command: str, disk: Path, killed_after: float | None) -> str:
    """killed_after    seconds; None: the full disk is the fault"""
    child = start(command, disk)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child[0], signal.SIGKILL)
    code, output = wait_for(child)
    return "" if killed_after is not None or ended_cleanly(code, output) else f"ended with {code}: {output[-400:]}"


def inject_server_fault(name: str, disk: Path, killed_after: float | None) -> str:
    server = FaultyServer(name, disk)
    if killed_after is None:
        server.answers()
        code = server.end()
        output = server.output()
        left = server.left()
        well = code == 0 or ended_cleanly(code, output)  # Dagster logs tracebacks of a disk that fills while it runs
        return "" if well and not left else f"ended with {code}, left {left}: {output[-400:]}"
    time.sleep(killed_after)
    server.process.kill()
    server.process.wait()
    return f"left {left}" if (left := server.left()) else ""


def ended_cleanly(code: int, output: str) -> bool:
    """Return whether a process succeeded, or ended with code 2 and one error message, without a traceback."""
    return code in (0, 2) and "Traceback" not in output and (code == 2) == (output.count("Error: ") == 1)


def run_once(name: str, disk: Path) -> str:
    """Run a command or server to its end, without a fault.    Returns    what went wrong; empty if nothing did"""
    if name not in SERVERS:
        code, output = wait_for(start(name, disk))
        return f"ended with {code}: {output[-400:]}" if code else ""
    server = FaultyServer(name, disk)
    if not server.answers():
        return f"no answer: {server.output()[-400:]} {server.end()}"
    time.sleep(ASKED_S)
    code, left = server.end(), server.left()
    return f"ended with {code}, left {left}: {server.output()[-400:]}" if code or left else ""


def start(command: str, disk: Path) -> Child:
    model = next(iter(sorted(disk.glob("outputs/train/**/model"))), "")
    arguments = [argument.format(model=model) for argument in STEPS[command]]
    sys.argv = ["lstm_ts", f"paths.data={disk}/data", f"paths.outputs={disk}/outputs", *arguments]
    return fork(importlib.import_module(module_of(command)).main)


def module_of(command: str) -> str:
    return "lstm_ts.registry.__main__" if command == "registry" else f"lstm_ts.{command}"


def fork(task: Callable[[], None]) -> Child:
    """Run the task in a child process, whose libraries are already loaded.

    This process itself runs nothing of those libraries, so that it has none of their threads when it forks.
    """
    output = Path(tempfile.mkstemp()[1])
    if child := os.fork():
        return child, output
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        task()
        sys.stdout.flush()
        os._exit(0)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    except BaseException as error:
        os.write(2, f"Traceback: {error!r}".encode())
        os._exit(1)


def wait_for(child: Child) -> tuple[int, str]:
    _, status = os.waitpid(child[0], 0)
    output = child[1].read_text(errors="replace")
    child[1].unlink()
    return os.waitstatus_to_exitcode(status), output


def used_bytes(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(size, 4096)}", str(disk)], check=True)


def read_state(disk: Path) -> State:
    """Return the state that a later command reads: bars by their hashes, folds, versions, aliases."""
    code, output = wait_for(fork(lambda: print(json.dumps(_state(disk)))))
    if code:
        return {"unreadable": output[-400:]}
    state: State = json.loads(output.splitlines()[-1])
    return state


def _state(disk: Path) -> State:
    state: State = {}
    for stage in ("raw", "processed"):
        manifest = read_manifest(disk / "data" / stage / "XAGUSD")
        state[stage] = sorted(manifest.files)
    state["folds"] = sorted(path.name for path in disk.glob("outputs/backtest/folds/[0-9a-f]*"))
    if (disk / "outputs/registry/mlflow.db").exists():
        with closing(Ledger(f"sqlite:///{disk}/outputs/registry/ledger.db")) as ledger:
            registry = Registry(f"sqlite:///{disk}/outputs/registry/mlflow.db", ledger)
            for version in registry.versions("XAGUSD"):
                registry.load(version)
                kept = {key: version.tags[key] for key in ("verdict", "request_sha256")}
                kept["weights"] = hash_file(Path(urlsplit(version.source).path) / WEIGHTS)
                state[str(version)] = [list(version.aliases), kept]
            state["history"] = [
                (row.from_version, row.to_version, row.action)
                for alias in ("champion", "challenger")
                for row in registry.history("XAGUSD", alias)
            ]
    return state


if __name__ == "__main__":
    main()
