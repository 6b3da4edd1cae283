"""A server that a benchmark starts, asks and ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.servers import HOST, free_port

READY_S, END_S = 180.0, 15.0


@dataclass
class MeasuredServer:
    name: str
    port: int
    ready_s: float
    pid: int  # and its group
    latencies_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    failed: int = 0


@contextmanager
def running(name: str, *command: str) -> Iterator[MeasuredServer]:
    """A server of its own, ready, on a free port; ended with every process that it started."""
    port = free_port()
    started = time.perf_counter()
    arguments = [part.format(port=port) for part in command]
    environment = {key: value for key, value in os.environ.items() if key != "LSTM_TS_API_KEYS"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not is_ready(port):
            if process.poll() is not None or time.perf_counter() - started > READY_S:
                sys.exit(f"Expected {name} to be ready in {READY_S:g} s, got none; run python {' '.join(arguments)}")
            time.sleep(0.05)
        yield MeasuredServer(name, port, time.perf_counter() - started, process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_ready(port: int) -> bool:
    try:
        read(port, "/health")
    except OSError:
        return False
    return True


def read(port: int, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return bytes(reply.read())
