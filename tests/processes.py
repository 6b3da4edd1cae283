"""Child processes of the tests: every wait for one is bounded, and none is left behind."""

import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import pytest

ROOT = Path(__file__).parents[1]
WAIT_S = 90  # two cores may have more to do; less than the timeout of a test, whose stack dump says less
Found = TypeVar("Found")


@contextmanager
def child(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in the repository's root, killed at the end where it still runs; its pipes are text."""
    process = subprocess.Popen(command, **{"cwd": ROOT, "text": True} | options)
    try:
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[Any]") -> None:
    """Kill it, reap it and close its pipes."""
    process.kill()
    process.wait(WAIT_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def end(process: "subprocess.Popen[Any]", seconds: float = 60) -> None:
    """Ask it to end by SIGTERM, and see that it does; kill it where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        stop(process)
        pytest.fail(f"Expected {process.args} to end within {seconds:g} s of SIGTERM, got a running process")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Let none of them run in the body, as if each hung."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def python(*arguments: str | Path) -> list[str | Path]:
    """A command line of this interpreter."""
    return [sys.executable, *arguments]


def output(process: subprocess.Popen[str], seconds: float = WAIT_S) -> tuple[str, str]:
    """Wait for its end; what it wrote to stdout and to stderr, empty where that is no pipe."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        written = process.communicate(timeout=WAIT_S)  # a child may hold the pipes
        pytest.fail(f"Expected an end within {seconds:g} s of {process.args}, got none; it wrote {written}")
    return out or "", err or ""


@contextmanager
def killed_after(process: "subprocess.Popen[Any]", seconds: float = WAIT_S) -> Iterator[None]:
    """Kill the process where the body takes longer, so that reading its pipes comes to their end."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_line(process: "subprocess.Popen[str]", pipe: IO[str] | None = None, seconds: float = WAIT_S) -> str:
    """Its next line on stdout, or on `pipe`, without the line break."""
    pipe = pipe or process.stdout
    assert pipe is not None
    with killed_after(process, seconds):
        line = pipe.readline()
    assert line, f"Expected a line of {process.args}, got its end with {process.wait(WAIT_S)}"
    return line.rstrip("\n")


def let_go(process: subprocess.Popen[str]) -> None:
    """Give it the line that it waits for."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(address: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


def wait_for(condition: Callable[[], Found], seconds: float = WAIT_S, *, process: Any = None) -> Found:
    """Wait until the condition holds; where `process` is given, it has to run meanwhile."""
    until = time.monotonic() + seconds
    last: Found | httpx.TransportError | None = None
    while True:
        try:
            if last := condition():
                return last
        except httpx.TransportError as error:  # of a server that need not answer yet
            last = error
        assert process is None or process.poll() is None, f"{process.args} has ended with {process.returncode}"
        assert time.monotonic() < until, f"it did not happen within {seconds:g} s; the last look found {last!r}"
        time.sleep(0.02)


PRELOAD = (
    "lstm_ts.retrain",
    "pytest",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)


def fork(task: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process that runs the task, of a server that has imported what is slow; it ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD])
    process = context.Process(target=task, args=arguments, daemon=True)
    process.start()
    return process


def join(thread: threading.Thread, seconds: float = WAIT_S) -> None:
    thread.join(seconds)
    assert not thread.is_alive(), f"Expected thread {thread.name} to end within {seconds:g} s, got a running one"
