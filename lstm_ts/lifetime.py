"""How processes end: with the one that has started them, however that one ends, and in order at a signal.

`python -m lstm_ts.lifetime COMMAND …` runs a command that does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL

PR_SET_PDEATHSIG = 1


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


def run_to_its_end(command: Sequence[str]) -> int:
    """Run a command that stops in order at SIGTERM: handed on from this process, or sent when this one is killed.

    Files that are inheritable stay open in it: a lock is held until the last of the two has ended.

    Returns    its exit code; of one that was killed, as a shell has it
    """
    here = os.getpid()
    child = subprocess.Popen(
        command, close_fds=False, process_group=0, preexec_fn=lambda: end_with(here, signal.SIGTERM)
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # Ctrl-C does not reach it: its group is its own
        signal.signal(number, lambda *_: child.terminate())
    code = child.wait()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)  # what it could not stop, as it was killed itself
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run_to_its_end(sys.argv[1:]))
