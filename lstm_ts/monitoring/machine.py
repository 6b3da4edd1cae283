"""Checks of a machine: free disk space, free memory, and files that its processes may still open."""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lstm_ts.errors import ConfigError
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.scoring.tables import percent

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class MachineLimits:
    """Limits of a machine, as shares, and the name of its host in findings."""

    host: str | None  # name that its findings have; None: the machine's own
    min_disk_free: float
    min_memory_free: float
    max_files_open: float  # by one process, of what it may

    def __post_init__(self) -> None:
        for name in ("min_disk_free", "min_memory_free", "max_files_open"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 < share < 1:
                raise ConfigError(f"Expected checks.machine.{name} as a share between 0 and 1, got {share}; correct it")


def check_machine(folders: Sequence[Path], limits: MachineLimits) -> list[Finding]:
    """folders    may share a disk, which is checked once, and need not exist yet"""
    host = str(limits.host or socket.gethostname())
    disks = [_check_disk(folder, host, limits) for folder in _one_each(folders)]
    return [*disks, _check_memory(host, limits), _check_files(host, limits)]


def _one_each(folders: Sequence[Path]) -> list[Path]:
    """Return the first folder on each disk."""
    disks: dict[object, Path] = {}
    for folder in folders:
        try:
            disks.setdefault(_existing(folder).stat().st_dev, folder)
        except OSError:
            disks[folder] = folder
    return list(disks.values())


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _check_disk(folder: Path, host: str, limits: MachineLimits) -> Finding:
    subject, command = f"{host}:{folder}", f"df -h {folder}"
    try:
        usage = psutil.disk_usage(str(_existing(folder)))
    except OSError as error:
        sentence = f"The disk of {folder} cannot be read: {os.strerror(error.errno or 0)}."
        return Finding("disk", subject, Health.UNKNOWN, sentence, command)
    free = usage.free / max(usage.free + usage.used, 1)
    sentence = f"{percent(free)} of the disk of {folder} on {host} is free, {usage.free / GIB:.1f} GiB."
    return Finding("disk", subject, _bad_if(free < limits.min_disk_free), sentence, command)


def _check_memory(host: str, limits: MachineLimits) -> Finding:
    memory = psutil.virtual_memory()
    free = memory.available / memory.total
    sentence = f"{percent(free)} of the memory of {host} is free, {memory.available / GIB:.1f} GiB."
    return Finding("memory", host, _bad_if(free < limits.min_memory_free), sentence, "free -h")


def _check_files(host: str, limits: MachineLimits) -> Finding:
    """Check the process that is nearest to its limit, of those that the user may inspect."""
    fullest = max(_open_files(), default=None)
    if fullest is None:
        sentence = f"No process of {host} says how many files it has open."
        return Finding("file_handles", host, Health.UNKNOWN, sentence, "lsof")
    share, pid, name, opened, most = fullest
    sentence = f"Process {pid} ({name}) on {host} has {opened} files open of the {most} that it may."
    return Finding("file_handles", host, _bad_if(share > limits.max_files_open), sentence, f"ls -l /proc/{pid}/fd")


def _open_files() -> Iterator[tuple[float, int, str, int, int]]:
    """Yield share, pid, name, files open and allowed of each process; none if the system does not report the limits."""
    if not hasattr(psutil, "RLIMIT_NOFILE"):
        return
    for process in psutil.process_iter():
        try:
            opened, (most, _) = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)
            if most > 0:  # else without a limit
                yield opened / most, process.pid, process.name(), opened, most
        except (psutil.Error, OSError):  # it has ended, or is not ours
            continue


def _bad_if(bad: bool) -> Health:
    return Health.BAD if bad else Health.GOOD
