"""SIGTERM while a server starts, at any moment: the whole tree of processes ends, and no folder of its own is left."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from processes import WAIT_S, end, free_port, python, wait_for

pytestmark = pytest.mark.slow
MOMENTS = 8
BEFORE = 2  # of the moments, before the server has made its folder


def processes(session: int) -> list[int]:
    """Ids of all of a session, but for those that have ended and are not reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, *_, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files, which lie in sockets' paths: those are short."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("module", ["serve.server", "dashboard.server"])
def test_a_server_that_is_told_to_end_while_it_starts_leaves_nothing(
    module: str, moment: int, tmp_path: Path, short: Path
) -> None:
    log, own, chosen = tmp_path / "log", short, random.Random(moment)
    paths = (f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", f"port={free_port()}")
    environment = os.environ | {"TMPDIR": str(own), "OMP_NUM_THREADS": "1"}
    with log.open("w") as told:
        command = python("-m", module, *paths)
        server = subprocess.Popen(command, stdout=told, stderr=told, env=environment, start_new_session=True)
    try:
        if moment >= BEFORE:
            wait_for(lambda: list(own.glob("lstm_ts_*")), process=server)
        time.sleep(chosen.uniform(0, 3 if moment >= BEFORE else 2))
        end(server, WAIT_S)
        wait_for(lambda: not processes(server.pid))
    finally:
        for pid in processes(server.pid):
            os.kill(pid, signal.SIGKILL)
    assert not list(own.glob("lstm_ts_*"))
    ended_well = server.returncode == 0 or (moment < BEFORE and server.returncode == -signal.SIGTERM)
    assert ended_well, (server.returncode, log.read_text()[-3000:])
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


INTERRUPTED = """
import os, signal
from lstm_ts.lifetime import exit_at_signals

class Loop:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        self.socket = None

    def __del__(self):
        self.socket

with exit_at_signals():
    Loop()
print("not reached")
"""


def test_a_signal_within_a_constructor_ends_the_process_without_a_traceback() -> None:
    ended = subprocess.run(python("-c", INTERRUPTED), capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


LOST = """
import os, signal, sys, time
from lstm_ts.lifetime import exit_at_signals, repeat_lost

class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.{number})

if signal.{number} == signal.SIGINT:
    repeat_lost(signal.SIGINT, KeyboardInterrupt, sys.__unraisablehook__)
    try:
        Closing()
        time.sleep(100)
    except KeyboardInterrupt:
        sys.exit(0)
with exit_at_signals():
    Closing()
    time.sleep(100)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_within_a_destructor_is_not_lost(number: str) -> None:
    command = python("-c", LOST.format(number=number))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
