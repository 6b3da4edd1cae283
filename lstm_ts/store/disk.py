"""Durable writes and locks of files."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Return once the bytes are on the disk; the name is after `fsync_folder`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file in one step: what is at `path` is the old content or the new."""
    part = path.with_name(f".{path.name}.part")
    try:
        write_durably(part, content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    with _opened(folder, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock on the file until the block ends; the kernel frees it when the process dies.

    operation   fcntl.LOCK_EX, which makes the file where there is none, or LOCK_SH, which does not
    """
    with _opened(path, os.O_RDWR | os.O_CREAT if operation & fcntl.LOCK_EX else os.O_RDONLY) as descriptor:
        fcntl.flock(descriptor, operation)
        yield


@contextmanager
def temporary_lock(path: Path) -> Iterator[None]:
    """Hold a lock on a file that is there only until the block ends.

    Raises    BlockingIOError: another process holds it
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:  # its holder has removed it since it was opened
            raise BlockingIOError(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def hold_lock(path: Path, holder: str) -> None:
    """Hold the lock for as long as this process lives, or one that inherits it, and write the holder into its file.

    Raises    BlockingIOError: another process holds it, whose text is the error's
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
    except BlockingIOError:
        held_by = os.read(descriptor, 200).decode(errors="replace")
        os.close(descriptor)
        raise BlockingIOError(held_by) from None
    os.set_inheritable(descriptor, True)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
