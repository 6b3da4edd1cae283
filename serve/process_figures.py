"""CPU, memory and files of each process: prometheus_client exports none of these in multiprocess mode."""

import math
import resource
import threading
import time

import psutil

from serve.metrics import CPU_SECONDS, MAX_FILES, MEMORY, OPEN_FILES


def report_process(kind: str, poll_s: float) -> None:
    """Report this process's figures under `kind` from now on, in a thread."""
    threading.Thread(target=_report, args=(kind, poll_s), name="process figures", daemon=True).start()


def _report(kind: str, poll_s: float) -> None:
    process, counted_s = psutil.Process(), 0.0
    while True:
        with process.oneshot():
            times = process.cpu_times()
            MEMORY.labels(kind).set(process.memory_info().rss)
            OPEN_FILES.labels(kind).set(process.num_fds())
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        MAX_FILES.labels(kind).set(most if most != resource.RLIM_INFINITY else math.inf)
        used_s = times.user + times.system
        CPU_SECONDS.labels(kind).inc(used_s - counted_s)
        counted_s = used_s
        time.sleep(poll_s)
