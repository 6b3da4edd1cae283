"""Commands in the process of the test: a process of its own takes seconds to start."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one sentence."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err and "Logging error" not in self.err, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        return line.removeprefix("Error: ")


Command = Callable[..., Ended]


@contextmanager
def own_logging() -> Iterator[None]:
    """Hydra sets up the root logger."""
    root, complaining = logging.getLogger(), logging.raiseExceptions
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            with suppress(OSError):  # a log that cannot be written
                handler.close()
        root.handlers[:], logging.raiseExceptions = handlers, complaining
        root.setLevel(level)


def call(main: Callable[[], None]) -> int:
    """The exit code of an entry point with the command line of `sys.argv`."""
    with own_logging():
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0
