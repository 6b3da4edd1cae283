"""`python -m lstm_ts.schedule.dagster_process HOST PORT COMMAND …`: Dagster as a child; either process ends the other.

It prints Dagster's address once Dagster answers there.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

from lstm_ts.lifetime import end_with
from lstm_ts.ports import show_address

ANSWER_S = 5.0  # deadline of one attempt
PAUSE_S = 0.5
CODE_PAUSE_S, CODE_TRIES = 10.0, 3
END_S, LOOK_S = 10.0, 0.1  # given to what Dagster has started, once Dagster has ended; between two looks at it
CODE = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"


def answers(host: str, port: int) -> bool:
    """Return whether a page is served at host and port."""
    connection = HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def has_code(host: str, port: int) -> bool:
    """Return whether Dagster reaches the process with the schedule's code; True if Dagster does not answer."""
    connection = HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("POST", "/graphql", json.dumps({"query": CODE}), {"Content-Type": "application/json"})
        return b"PythonError" not in connection.getresponse().read()
    except (OSError, HTTPException):
        return True
    finally:
        connection.close()


def print_address_when_ready(host: str, port: int, ended: threading.Event) -> None:
    while not ended.wait(PAUSE_S):
        if answers(host, port):
            print(f"Open http://{show_address(host, port)}", flush=True)
            return


def wait_while_it_has_code(host: str, port: int, ended: threading.Event) -> None:
    """Wait until `ended`, or until the code's process is lost for a while: Dagster runs no schedule then, nor ends."""
    failed = 0
    while failed < CODE_TRIES and not ended.wait(CODE_PAUSE_S):
        failed = 0 if has_code(host, port) else failed + 1


def end_group(group: int) -> None:
    """End all processes of a group, by SIGKILL those that have not ended END_S after SIGTERM."""
    until = time.monotonic() + END_S
    with suppress(ProcessLookupError):  # none is left
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < until:
            time.sleep(LOOK_S)
            with suppress(ChildProcessError):  # process 1 of a container is the parent of all orphans
                os.waitpid(-group, os.WNOHANG)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def run_to_its_end(command: Sequence[str], host: str, port: int) -> int:
    """Run Dagster, with its pages at host and port, until it ends; return its exit code, 128 + n after signal n.

    It stops in order at SIGTERM, which this process forwards, and the kernel sends if this process is killed; what it
    leaves, such as a run that waits for its retry, is killed after END_S. It is stopped once it has lost the process
    with its code, which it does not replace.

    Inheritable files stay open in it: a lock is held until both processes have ended.
    """
    here = os.getpid()
    child = subprocess.Popen(
        command, close_fds=False, process_group=0, preexec_fn=lambda: end_with(here, signal.SIGTERM)
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # Ctrl-C does not reach the child: it has a process group of its own
        signal.signal(number, lambda *_: child.terminate())
    ended, lost = threading.Event(), threading.Event()

    def watch() -> None:
        print_address_when_ready(host, port, ended)
        wait_while_it_has_code(host, port, ended)
        if not ended.is_set():
            print("Error: the code server exited; the schedule has stopped", file=sys.stderr)
            lost.set()
            child.terminate()

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    ended.set()
    end_group(child.pid)
    if lost.is_set():
        return 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run_to_its_end(sys.argv[3:], sys.argv[1], int(sys.argv[2])))
