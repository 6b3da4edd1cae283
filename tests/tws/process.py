"""The server in a process of its own, which ends with the test that started it."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from .market import PRICES

ROOT = Path(__file__).parents[2]
ANSWER_S = 60


@dataclass(frozen=True)
class Status:
    connections: int
    messages: Mapping[str, int]  # by the name of the request
    orders: tuple[str, ...]  # order messages, each of them refused
    faults: tuple[
        Mapping[str, Any], ...
    ]  # those that happened: fault, meets, start (of the span, an epoch), bars (that it touched)
    pace_violations: int  # by the client, beside the `pacing` faults
    bars_sent: int


class _Process:
    """A server's process, a child of the forker of this one."""

    def __init__(self, arguments: list[str]) -> None:
        (stdin, self._input), (self._output, stdout) = os.pipe(), os.pipe()
        forker = _forker()
        socket.send_fds(forker, [json.dumps(arguments).encode()], [stdin, stdout])
        os.close(stdin)
        os.close(stdout)
        self._pid = int(forker.recv(64))
        self._commands, self._answers = os.fdopen(self._input, "w"), os.fdopen(self._output)

    def write(self, line: str) -> None:
        self._commands.write(f"{line}\n")
        self._commands.flush()

    def read(self) -> str:
        """Its next line, empty at its end; a server that is silent for ANSWER_S is killed."""
        timer = threading.Timer(ANSWER_S, self._kill)
        timer.start()
        try:
            return self._answers.readline()
        finally:
            timer.cancel()

    def end(self) -> None:
        with suppress(BrokenPipeError):
            self._commands.close()
        while self.read():
            pass
        self._answers.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


@cache
def _forker() -> socket.socket:
    """Of this process, with which it ends."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen([sys.executable, "-m", "tests.tws.forker"], cwd=ROOT, stdin=its.fileno())
    ours.settimeout(ANSWER_S)

    def end() -> None:
        ours.close()
        process.wait(ANSWER_S)

    atexit.register(end)
    return ours


class Tws:
    """`with Tws(bars, faults="silence@2", pace=0) as tws:` serves on `tws.port`; the options are those of the command.

    bars   a frame or a file, or several by symbol; `truth` is the frame of the first
    """

    def __init__(self, bars: pl.DataFrame | Path | Mapping[str, pl.DataFrame | Path], **options: object) -> None:
        self._bars = bars if isinstance(bars, Mapping) else {"XAGUSD": bars}
        self._options = options

    def __enter__(self) -> "Tws":
        self._folder = tempfile.TemporaryDirectory(prefix="tws_")
        arguments = ["--control"]
        for symbol, bars in self._bars.items():
            arguments += ["--bars", f"{symbol}={self._file(symbol, bars)}"]
        for name, value in self._options.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        self._process = _Process(arguments)
        line = self._process.read()
        if not line.startswith("listening on "):
            self.__exit__()
            raise RuntimeError(f"Expected the server to listen, got {line!r}")
        self.port = int(line.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        with self._folder:
            self._process.end()

    @property
    def truth(self) -> pl.DataFrame:
        bars = next(iter(self._bars.values()))
        return bars if isinstance(bars, pl.DataFrame) else pl.read_parquet(bars)

    def status(self) -> Status:
        return self._ask("status")

    def set_clock(self, stamp: datetime) -> Status:
        """IB's clock from now on; it goes on from there."""
        return self._ask(f"clock {stamp.isoformat()}")

    def set_faults(self, faults: str) -> Status:
        """Other faults from now on, counted from 1."""
        return self._ask(f"faults {faults}")

    def revised(self) -> pl.DataFrame:
        """Every bar so far that was given other values than the truth: symbol and BAR columns."""
        names = ["symbol", "epoch", *PRICES]
        rows = pl.DataFrame(self._command("revised"), schema=names, orient="row")
        ts = pl.from_epoch(pl.col("epoch").cast(pl.Int64)).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        return rows.select("symbol", *PRICES, ts=ts)

    def _command(self, command: str) -> Any:
        self._process.write(command)
        return json.loads(self._process.read())

    def _ask(self, command: str) -> Status:
        answer = self._command(command)
        return Status(**answer | {"orders": tuple(answer["orders"]), "faults": tuple(answer["faults"])})

    def _file(self, symbol: str, bars: pl.DataFrame | Path) -> Path:
        if isinstance(bars, Path):
            return bars.resolve()
        path = Path(self._folder.name) / f"{symbol}.parquet"
        bars.write_parquet(path)
        return path
