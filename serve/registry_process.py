"""The one process that queries the registry, for all workers: no other one imports MLflow."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.context import SpawnProcess
from multiprocessing.managers import BaseManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lstm_ts.errors import LstmTsError, RegistryError
from lstm_ts.lifetime import end_with
from lstm_ts.logs import configure
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import CHALLENGER, CHAMPION, MODEL, Version

if TYPE_CHECKING:
    from lstm_ts.registry.mlflow_store import MlflowStore
    from serve.settings import SymbolSettings

START_S = 20.0  # until the process listens
RETRY_S = 0.02
PROCESS_NAME = "registry"
SOCKET = "registry.sock"


class RegistryReader:
    """The registry at `uri`, within the registry process."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._store: MlflowStore | None = None

    def find(self, name: str, alias: str) -> Version | None:
        """Raises    RegistryError: no answer"""
        return self._open().find(name, alias)

    def fetch(self, version: Version, downloads: Path) -> Path:
        """Return the model folder, downloaded if it is not on this machine.    Raises    RegistryError: no answer"""
        return self._open().fetch(version, MODEL, downloads)

    def _open(self) -> "MlflowStore":
        from lstm_ts.registry.mlflow_store import MlflowStore

        if self._store is None:
            check_there(self._uri)
            self._store = MlflowStore(self._uri)
        return self._store


class RegistryManager(BaseManager):
    """Access to `RegistryReader` over a socket, with the key that all children of one process share."""


RegistryManager.register("reader", callable=cache(RegistryReader), exposed=("find", "fetch"))


def start(socket: Path, settings: "SymbolSettings") -> SpawnProcess:
    """Start the process that listens at `socket`; it ends with the process that has started it."""
    socket.unlink(missing_ok=True)
    arguments = socket, dict(settings.logging), settings.poll_s
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=arguments, daemon=True)
    process.start()
    return process


def _serve(socket: Path, logging: dict[str, Any], poll_s: float) -> None:
    parent = multiprocessing.parent_process()
    assert parent and parent.pid
    end_with(parent.pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends this
    with suppress(OSError):  # for `ps` and `top`, where the kernel is Linux
        Path("/proc/self/comm").write_text(PROCESS_NAME)
    configure(logging)
    server = RegistryManager(str(socket)).get_server()
    import lstm_ts.registry.mlflow_store  # noqa: F401  # whoever connects meanwhile waits for it
    from serve.process_figures import report_process

    report_process(PROCESS_NAME, poll_s)

    server.serve_forever()


class RemoteRegistry:
    """A worker's client of the registry process."""

    def __init__(self, socket: Path, uri: str) -> None:
        self._socket, self._uri = socket, uri
        self._reader: Any = None

    def find(self, name: str, alias: str) -> Version | None:
        """Raises    RegistryError: no answer"""
        found: Version | None = self._ask("find", name, alias)
        return found

    @contextmanager
    def files(self, version: Version) -> Iterator[Path]:
        """Yield the model folder, or a temporary copy.    Raises    RegistryError: no answer"""
        with TemporaryDirectory(dir=self._socket.parent) as downloads:
            yield self._ask("fetch", version, Path(downloads))

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            if self._reader is not None:
                with suppress(EOFError, OSError):  # of a process that has ended meanwhile
                    return getattr(self._reader, method)(*arguments)
            self._reader = self._connect()
            return getattr(self._reader, method)(*arguments)
        except (EOFError, OSError) as error:
            self._reader = None
            raise RegistryError(
                f"Expected an answer of the service's registry process, got {type(error).__name__}; a new one starts"
            ) from error

    def _connect(self) -> Any:
        until = time.monotonic() + START_S
        manager = RegistryManager(str(self._socket))
        while True:
            try:
                manager.connect()
                return manager.reader(self._uri)  # type: ignore[attr-defined]
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until:
                    raise
                time.sleep(RETRY_S)


def lacks_challenger(uri: str, name: str) -> bool:
    """Return whether there is a champion but no challenger; False if the registry does not answer."""
    try:
        reader = RegistryReader(uri)
        return reader.find(name, CHAMPION) is not None and reader.find(name, CHALLENGER) is None
    except LstmTsError:
        return False
