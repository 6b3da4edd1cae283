"""How many processors a training may keep busy."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, where the kernel is Linux with cgroup v2


def wait_passively() -> None:
    """Have OpenMP's threads sleep at their barriers, so that one beside a busy processor does not spin away the other.

    Only before the first import of PyTorch; what the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def count_processors(quota: Path = QUOTA) -> int:
    """Those this process may run on, and no more than its container's share of time."""
    return max(1, min(_count_allowed(), _read_quota(quota)))


def _count_allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_quota(path: Path) -> int:
    """Whole processors of time; no limit where the file says max, or is not there."""
    try:
        time_us, period_us = path.read_text().split()
        return int(time_us) // int(period_us)
    except (OSError, ValueError):
        return _count_allowed()
