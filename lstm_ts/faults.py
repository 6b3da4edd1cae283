"""Faults of the machine as sentences: a full disk, a folder that cannot be written, too many open files."""

import errno
import os
import re
from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
MISPLACED = {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
DAMAGED = {errno.EIO, errno.ESTALE, errno.ENOTCONN}
SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
FAULTS = FULL | FORBIDDEN | MISPLACED | DAMAGED | SCARCE
# Rust's libraries and SQLite give the number in their text, or none.
IN_TEXT = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
KERNELS = ("/proc/", "/sys/")  # where nothing can be made, which the system reports as missing
STDOUT = "<stdout>"  # as Python names it
NO_TEMPORARY_FOLDER = "No usable temporary directory found"
PHRASES = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
} | {os.strerror(number): number for number in (*FULL, errno.EROFS, errno.ENOMEM)}


def is_disk_full(error: BaseException) -> bool:
    return any(_number(each) in FULL for each in _chain(error))


def describe_fault(error: BaseException) -> str | None:
    """A sentence; None where the machine is not to blame."""
    for each in _chain(error):
        if (number := _number(each)) in FAULTS:
            return _sentence(number, each)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    text = str(error)
    if NO_TEMPORARY_FOLDER in text:
        return errno.EACCES
    if isinstance(error, FileNotFoundError) and _path(error).startswith(KERNELS):
        return errno.EROFS
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if found := IN_TEXT.search(text):
        return int(found[1] or found[2])
    return next((number for phrase, number in PHRASES.items() if phrase in text), 0)


def _sentence(number: int, error: BaseException) -> str:
    reason, path = os.strerror(number), _path(error)
    if path == STDOUT:
        return f"Expected room on the disk of stdout, got: {reason}; the command has ended, and only its output is lost"
    if number in FULL:
        where = f"the disk of {path}" if path else "the disk"
        return (
            f"Expected room on {where}, got: {reason}; free some, or set paths.data and paths.outputs, or the "
            f"folder that was named, to another disk, and run the same command again"
        )
    if number in FORBIDDEN:
        return (
            f"Expected {path or 'files'} to be readable and writable by this user, got: {reason}; "
            f"change the rights, or set paths.data and paths.outputs, or the folder that was named, to folders of this "
            f"user"
        )
    if number in MISPLACED:
        return f"Expected a place for {path or 'a file'}, got: {reason}; move away what lies there, or set another path"
    if number in SCARCE:
        return (
            f"Expected more memory or open files than there are, got: {reason}; "
            f"end other processes, or raise the limits"
        )
    return f"Expected a disk that reads and writes {path or 'files'}, got: {reason}; check the disk"


def _path(error: BaseException) -> str:
    """The one that was written to, where the error says it."""
    if NO_TEMPORARY_FOLDER in str(error):
        return "one of TMPDIR, /tmp, /var/tmp"
    if not isinstance(error, OSError):
        return ""
    name = error.filename2 or error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""
