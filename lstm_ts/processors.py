"""Count the processors that a training may use."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, where the kernel is Linux with cgroup v2


def wait_passively() -> None:
    """Let OpenMP's threads sleep at barriers instead of occupying a processor in a loop.

    Call this before the first import of PyTorch; a user's own setting stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def count_processors(quota: Path = QUOTA) -> int:
    """Return how many processors this process may run on, at most its container's share of time."""
    return max(1, min(_count_allowed(), _read_quota(quota)))


def _count_allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_quota(path: Path) -> int:
    """Return the quota in whole processors; without a quota, the processors that are allowed."""
    try:
        time_us, period_us = path.read_text().split()
        return int(time_us) // int(period_us)
    except (OSError, ValueError):
        return _count_allowed()
