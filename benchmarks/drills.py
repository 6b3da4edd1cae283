"""Processes that `benchmarks.kill` kills, and how each is found."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.load import Load
from benchmarks.supervised import Supervised

Pick = Callable[[psutil.Process], psutil.Process]


@dataclass(frozen=True)
class Drill:
    """Kill of one process: its name, how to find the process, and what kind of process it is."""

    name: str
    find: Callable[[], Any]  # the process; raises    StopIteration, psutil.Error: there is none
    of_replica: bool = False
    of_command: bool = False


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
    """Return a function that waits until the command is running, and returns its process."""

    def find() -> Any:
        while (running := load.running)[0] != name:
            time.sleep(0.01)
        time.sleep(0.3)
        return running[1]

    return find


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
