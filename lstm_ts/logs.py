"""The log of every process on stderr: text for people, or one JSON object a line, as described in docs/LOGS.md."""

import codecs
import getpass
import logging
import logging.config
import math
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from datetime import UTC, datetime
from io import TextIOBase
from types import MappingProxyType
from typing import Any, TextIO
from uuid import uuid4

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from lstm_ts import clock
from lstm_ts.errors import MISTAKE, ConfigError

TEXT, JSON = FORMATS = ("text", "json")
RUN = "LSTM_TS_RUN"  # a run's id: child processes inherit it, and who starts several commands may set it
LINE = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
RESERVED = {*RESERVED_ATTRS, "taskName", "color_message"}  # of every record, and uvicorn's copy of a message
STDERR_LOGGER = "stderr"  # logger of what libraries print there

_context: ContextVar[Mapping[str, Any]] = ContextVar("extra fields of log records", default=MappingProxyType({}))
_audit = logging.getLogger("lstm_ts.audit")
_uncaught = logging.getLogger("lstm_ts.uncaught")
_refused = logging.getLogger("lstm_ts.cli")


def check_format(kind: object) -> None:
    """Raises    ConfigError"""
    if kind not in FORMATS:
        raise ConfigError(f"Expected log=text or log=json, got {kind or 'none'}; choose one of them")


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields, but for empty ones, to the JSON of this thread's or task's records, other libraries' too."""
    token = _context.set({**_context.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _context.reset(token)


def audit(event: str, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log who changed, or was refused, what, to a logger of its own, whose lines can be kept longer than others."""
    _audit.log(level, "%s", message, extra={"event": event, **fields})


def user() -> str:
    """Return the name of the user of this process, or the number: in a container the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


class TextLines(logging.Formatter):
    """Formatter of text: a record's own fields follow its message."""

    def __init__(self) -> None:
        super().__init__(LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in RESERVED and not _is_empty(value)}
        fields.pop("event", None)
        return super().formatMessage(record) + "".join(f" {name}={value}" for name, value in fields.items())


class JsonLines(JsonFormatter):
    """Formatter of JSON, an object a line; `time` is the real time, `clock` that of LSTM_TS_CLOCK."""

    def __init__(self, command: str) -> None:
        super().__init__(reserved_attrs=[*RESERVED])
        encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
        is_utf8 = codecs.lookup(encoding).name == "utf-8"
        self._encode = JsonEncoder(allow_nan=False, ensure_ascii=not is_utf8).encode  # made once, not for each line
        self._process = {"command": command, "run": run_id()}

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        at = datetime.fromtimestamp(record.created, UTC)
        own = {"time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "level": record.levelname}
        said = record.msg.get("message") or record.msg if isinstance(record.msg, dict) else record.message
        own |= {"logger": _module(record.name), "message": str(said) or "nothing"}
        log_data |= {**own, **self._process, "pid": record.process, **_context.get()}
        own = {name: log_data[name] for name in (*own, *self._process, "pid")}
        super().add_fields(log_data, record, {})
        log_data |= {name: value for name, value in message_dict.items() if name not in ("exc_info", "stack_info")}
        log_data |= own  # whatever a library calls fields of its own
        if record.exc_info and record.exc_info[0]:
            log_data |= {"error": record.exc_info[0].__name__, "traceback": message_dict.get("exc_info")}
        with suppress(ConfigError):  # the command itself reports it
            log_data |= {"clock": clock.now()} if clock.read_clock() else {}

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return self._encode(log_data)
        except (TypeError, ValueError, RecursionError):  # of a library: NaN within a value, a key that is no text
            return self._encode(
                {str(name): value if type(value) is int else str(value) for name, value in log_data.items()}
            )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: _finite(value) for name, value in log_data.items() if not _is_empty(value)}


def _module(name: str) -> str:
    """Return the name of a logger's module; for `__main__`, the name of the command's module."""
    spec = sys.modules["__main__"].__spec__ if name == "__main__" else None
    return spec.name if spec else name


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _finite(value: Any) -> Any:
    """Convert NaN and infinity to text, since JSON has neither."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def run_id() -> str:
    return os.environ.setdefault(RUN, uuid4().hex[:12])


def make_formatter(kind: str, command: str) -> logging.Formatter:
    """Make a formatter for the configuration of logging; `check_format` refuses what is no format."""
    return JsonLines(command) if kind == JSON else TextLines()


class StderrHandler(logging.StreamHandler[TextIO]):
    """Handler that writes to the current stderr, past `StderrCapture`."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr.stream if isinstance(sys.stderr, StderrCapture) else sys.stderr


class StderrCapture(TextIOBase):
    """Stream in the place of `sys.stderr`: each line printed there becomes a record."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        self.stream, self.formatter, self._begun, self._lock = stream, formatter, "", threading.RLock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = f"{self._begun}{text}".split("\n")
            for line in filter(str.strip, lines):
                record = logging.LogRecord(STDERR_LOGGER, logging.INFO, "", 0, "%s", (line.rstrip(),), None)
                self.stream.write(f"{self.formatter.format(record)}\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return False


def are_json() -> bool:
    """Return whether this process logs JSON: then stderr must hold nothing else, such as a progress bar."""
    return isinstance(sys.stderr, StderrCapture)


def begin(kind: str, command: str) -> None:
    """Set up the log before there is a configuration, so that earlier errors have the requested format."""
    if kind == JSON and not are_json():
        handler = StderrHandler()
        handler.setFormatter(make_formatter(kind, command))
        logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
        take_over()


def configure(config: Mapping[str, Any]) -> None:
    logging.config.dictConfig(deepcopy(dict(config)))
    take_over()


def take_over() -> None:
    """Route warnings, uncaught errors and what is printed to stderr into the log, if that is JSON."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers if isinstance(handler, StderrHandler)]
    if not formatters or not isinstance(formatters[0], JsonLines):
        return
    if isinstance(sys.stderr, StderrCapture):
        sys.stderr.formatter = formatters[0]
        return
    sys.stderr = StderrCapture(sys.stderr, formatters[0])
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, traceback: _log_uncaught(error)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_value, args.err_msg or f"Ignored in {args.object!r}")
    threading.excepthook = lambda args: _log_uncaught(args.exc_value)


def _log_uncaught(error: BaseException | None, message: str = "") -> None:
    _uncaught.critical("%s", message or f"{type(error).__name__}: {error}", exc_info=error)


def print_error(sentence: str) -> None:
    """Print the sentence; drop the buffer of a broken stream, since the interpreter would complain of it at exit."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, "" if are_json() else f"Error: {sentence}\n")):
        try:
            print(end=text, file=stream, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if are_json():
        _refused.error("%s", sentence, extra={"event": "refused", "exit_code": MISTAKE})


class RateLimit:
    """Limit of log lines: at most `most` of a kind within `per_s` seconds, however often there is cause for one."""

    def __init__(self, most: int, per_s: float = 60.0) -> None:
        self._most, self._per_s, self._lock = most, per_s, threading.Lock()
        self._logged: dict[Hashable, deque[float]] = {}
        self._left_out: Counter[Hashable] = Counter()

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of a kind were left out since the last one; None: leave this one out, too."""
        now = time.monotonic()
        with self._lock:
            logged = self._logged.setdefault(kind, deque(maxlen=self._most))
            if len(logged) == self._most and now - logged[0] < self._per_s:
                self._left_out[kind] += 1
                return None
            logged.append(now)
            return self._left_out.pop(kind, 0)
