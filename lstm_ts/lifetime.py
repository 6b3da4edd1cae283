"""How processes end: with the one that has started them, however that one ends, and in order at a signal.

`python -m lstm_ts.lifetime HOST PORT COMMAND …` runs a command that does, and prints its address once it answers there.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL
from http.client import HTTPConnection, HTTPException

PR_SET_PDEATHSIG = 1
ANSWER_S = 5.0  # until one try is given up
PAUSE_S = 0.5


def end_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel, where it is Linux, send this process the signal once that parent has ended."""
    if sys.platform == "linux":
        CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


@contextmanager
def exit_at_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C end this process as `sys.exit` does, so that what it has begun is undone; until the block ends
    or has handlers of its own.
    """
    before = {number: signal.signal(number, lambda *_: sys.exit(0)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def answers(host: str, port: int) -> bool:
    """Whether a page is shown there."""
    connection = HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def tell_once_it_answers(host: str, port: int, ended: threading.Event) -> None:
    while not ended.wait(PAUSE_S):
        if answers(host, port):
            shown = f"[{host}]" if ":" in host else host
            print(f"Open http://{shown}:{port}", flush=True)
            return


def run_to_its_end(command: Sequence[str], host: str, port: int) -> int:
    """Run a command that stops in order at SIGTERM: handed on from this process, or sent when this one is killed.

    It shows pages at that host and port.

    Files that are inheritable stay open in it: a lock is held until the last of the two has ended.

    Returns    its exit code; of one that was killed, as a shell has it
    """
    here = os.getpid()
    child = subprocess.Popen(
        command, close_fds=False, process_group=0, preexec_fn=lambda: end_with(here, signal.SIGTERM)
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # Ctrl-C does not reach it: its group is its own
        signal.signal(number, lambda *_: child.terminate())
    ended = threading.Event()
    threading.Thread(target=tell_once_it_answers, args=(host, port, ended), daemon=True).start()
    code = child.wait()
    ended.set()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)  # what it could not stop, as it was killed itself
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run_to_its_end(sys.argv[3:], sys.argv[1], int(sys.argv[2])))
