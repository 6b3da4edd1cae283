"""Kill commands and fill the disk under them at random moments; each time the same command again must end as if
nothing had been.

    python -m benchmarks.faults [--trials 50] [--seed 0]

Needs root, to mount a small disk of memory. After each fault the stores' content, the registered versions, the aliases
and what the command printed are compared with those of a clean run.
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

from lstm_ts.artifact import WEIGHTS
from lstm_ts.disk import hash_file
from lstm_ts.ledger import Ledger
from lstm_ts.manifest import read_manifest
from lstm_ts.registry import Registry

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
WEIGHTED = [name for name in STEPS for _ in range(1 if name in ("train", "evaluate", "backtest", "retrain") else 4)]
State = dict[str, Any]
Child = tuple[int, Path]  # its process, and the file of what it says


@dataclass(frozen=True)
class Clean:
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
        importlib.import_module(f"lstm_ts.{command}")  # once, before the forks
    with mounted() as disk, tempfile.TemporaryDirectory() as aside:
        clean = {command: run_clean(command, disk, Path(aside)) for command in STEPS}
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


def run_clean(command: str, disk: Path, aside: Path) -> Clean:
    before = aside / command
    shutil.copytree(disk, before)
    used, began = used_bytes(disk), time.monotonic()
    code, said = wait_for(start(command, disk))
    if code:
        raise SystemExit(f"{command} ended with {code}: {said}")
    seconds = time.monotonic() - began
    print(f"{command:<9} {seconds:5.1f} s, {used_bytes(disk) - used:>10,} bytes", flush=True)
    return Clean(seconds, used_bytes(disk) - used, before, read_state(disk))


def try_fault(command: str, fault: str, share: float, clean: Clean, disk: Path) -> str:
    """What was not as it should be; empty where all was."""
    for path in disk.iterdir():
        shutil.rmtree(path)
    shutil.copytree(clean.before, disk, dirs_exist_ok=True)
    if fault == "full":
        resize(disk, used_bytes(disk) + int(share * clean.grown))
    child = start(command, disk)
    if fault == "kill":
        time.sleep(share * clean.seconds)
        os.kill(child[0], signal.SIGKILL)
    code, said = wait_for(child)
    resize(disk, DISK_MB << 20)
    if fault == "full" and (code not in (0, 2) or "Traceback" in said or (code == 2) != (said.count("Error: ") == 1)):
        return f"ended with {code}: {said[-400:]}"
    code, said = wait_for(start(command, disk))
    if code:
        return f"did not go on: {said[-400:]}"
    found = read_state(disk)
    return "" if found == clean.after else f"differs: {found} from {clean.after}"


def start(command: str, disk: Path) -> Child:
    model = next(iter(sorted(disk.glob("outputs/train/**/model"))), "")
    arguments = [argument.format(model=model) for argument in STEPS[command]]
    sys.argv = ["lstm_ts", f"paths.data={disk}/data", f"paths.outputs={disk}/outputs", *arguments]
    return fork(importlib.import_module(f"lstm_ts.{command}").main)


def fork(task: Callable[[], None]) -> Child:
    """A process whose libraries are loaded; this one runs nothing of them, and so has none of their threads."""
    said = Path(tempfile.mkstemp()[1])
    if child := os.fork():
        return child, said
    with said.open("w") as file:
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
    said = child[1].read_text(errors="replace")
    child[1].unlink()
    return os.waitstatus_to_exitcode(status), said


def used_bytes(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(size, 4096)}", str(disk)], check=True)


def read_state(disk: Path) -> State:
    """What a later command sees: bars by their hashes, folds, versions, aliases."""
    code, said = wait_for(fork(lambda: print(json.dumps(_state(disk)))))
    if code:
        return {"unreadable": said[-400:]}
    state: State = json.loads(said.splitlines()[-1])
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
