"""The commands as a user types them: in this process, which has imported what is slow, or in one of their own."""

import contextlib
import importlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from processes import ROOT, WAIT_S

Done = subprocess.CompletedProcess[str]


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one sentence."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err and "Logging error" not in self.err, self.err
        return one_sentence(self.err)


Command = Callable[..., Ended]


@contextmanager
def own_logging() -> Iterator[None]:
    """Hydra sets up the root logger, and a log of JSON takes over stderr, warnings and uncaught errors."""
    root, complaining = logging.getLogger(), logging.raiseExceptions
    handlers, level, stderr = list(root.handlers), root.level, sys.stderr
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    try:
        yield
    finally:
        sys.stderr, (sys.excepthook, sys.unraisablehook, threading.excepthook) = stderr, hooks
        logging.captureWarnings(False)
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            with suppress(OSError):  # a log that cannot be written
                handler.close()
        root.handlers[:], logging.raiseExceptions = handlers, complaining
        root.setLevel(level)


def call(main: Callable[[], None]) -> int:
    """The exit code of an entry point with the command line of `sys.argv`, whose environment ends with it."""
    with own_logging(), mock.patch.dict(os.environ):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def list_group(name: str) -> str:
    """The choices of a group of conf/, as a message lists them."""
    return ", ".join(sorted(path.stem for path in (ROOT / "conf" / name).glob("*.yaml")))


def module_of(command: str) -> str:
    return "lstm_ts.registry.__main__" if command == "registry" else f"lstm_ts.{command}"


def run(command: str, folder: Path, *arguments: str, **environment: str) -> Done:
    """`python -m lstm_ts.<command>` with everything under `folder`, in this process."""
    overrides = [*_paths(folder), *arguments]
    main = importlib.import_module(module_of(command)).main
    with _as_a_process([command, *overrides], environment) as (stdout, stderr):
        code = _exit_code(main)
    return Done(overrides, code, stdout.getvalue(), stderr.getvalue())


def run_process(command: str, folder: Path, *arguments: str, **environment: str) -> Done:
    """The same in a process of its own, which takes seconds to start."""
    return subprocess.run(
        [sys.executable, "-m", f"lstm_ts.{command}", *_paths(folder), *arguments],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=8 * WAIT_S,
    )  # fmt: skip


def succeed(command: str, folder: Path, *arguments: str) -> list[str]:
    """Lines of stdout of `run`."""
    return _lines(run(command, folder, *arguments))


def succeed_process(command: str, folder: Path, *arguments: str) -> list[str]:
    """Lines of stdout of `run_process`."""
    return _lines(run_process(command, folder, *arguments))


def _lines(done: Done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def mistake(done: Done) -> str:
    """The one sentence of a user's mistake."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return one_sentence(done.stderr)


def one_sentence(stderr: str) -> str:
    """What a command has refused, as text or as JSON."""
    texts = [line.removeprefix("Error: ") for line in stderr.splitlines() if line.startswith("Error: ")]
    objects = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    (sentence,) = [*texts, *(told["message"] for told in objects if told.get("event") == "refused")]
    return str(sentence)


def _paths(folder: Path) -> tuple[str, str]:
    return f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"


def _exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _as_a_process(argv: list[str], environment: dict[str, str]) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Streams, arguments, environment and logging of its own; afterwards all is as it was."""
    hydra_config = HydraConfig.instance().cfg
    stdout, stderr = io.StringIO(), io.StringIO()
    GlobalHydra.instance().clear()
    try:
        with (
            own_logging(),
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", argv),
            contextlib.chdir(ROOT),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            warnings.simplefilter("default")
            yield stdout, stderr
    finally:
        HydraConfig.instance().cfg = hydra_config
