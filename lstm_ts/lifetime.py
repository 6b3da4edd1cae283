"""End of processes: with the process that has started them, however it ends, and in order at a signal."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL
from pathlib import Path
from threading import Timer, main_thread
from typing import Any

PR_SET_PDEATHSIG = 1
AGAIN_S = 0.05


def end_with(parent: int, number: signal.Signals) -> None:
    """Have the Linux kernel send this process the signal once its parent has ended; do nothing on other systems."""
    if sys.platform == "linux":
        CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def repeat_lost(number: signal.Signals, error: type[BaseException], otherwise: Callable[[Any], object]) -> None:
    """Repeat a signal whose exception Python cannot raise, since a destructor or a callback of weakref was running.

    error       what the signal's handler raises
    otherwise   hook for other exceptions that cannot be raised
    """

    def hook(lost: Any) -> None:
        if isinstance(lost.exc_value, error):
            Timer(AGAIN_S, signal.pthread_kill, [main_thread().ident, number]).start()
        else:
            otherwise(lost)

    sys.unraisablehook = hook


@contextmanager
def exit_without_reader() -> Iterator[None]:
    """Flush stdout at the end of the block; exit silently where its reader has ended, as `head`.

    The exit code is that of the block, or 1. Where stdout is closed, what is printed is lost.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    code: str | int | None = 1
    try:
        try:
            yield
        except SystemExit as ended:
            code = ended.code or code
            _flush()
            raise
        _flush()
    except BrokenPipeError:  # the interpreter would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(code)


def _flush() -> None:
    """Raises    OSError: stdout takes no more; the error names it"""
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = sys.stdout.name
        raise


@contextmanager
def exit_at_signals() -> Iterator[None]:
    """End this process at SIGTERM and Ctrl-C as `sys.exit` does, so that what it has begun is undone; until the block
    ends or sets handlers of its own.

    Objects whose construction a signal interrupts may fail in `__del__`; these errors are not printed.
    """

    def leave(number: int, _: object) -> None:
        repeat_lost(signal.Signals(number), SystemExit, lambda _: None)
        sys.exit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
