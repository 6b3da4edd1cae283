"""The one process that queries the registry, for all workers: no other one imports MLflow."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lstm_ts import logs
from lstm_ts.errors import LstmTsError, RegistryError
from lstm_ts.lifetime import end_with
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import CHALLENGER, CHAMPION, MODEL, Version

if TYPE_CHECKING:
    from lstm_ts.registry.mlflow_store import MlflowStore
    from serve.settings import SymbolSettings

START_S = 60.0  # until the process listens
RETRY_S = 0.02
PROCESS_NAME = "registry"
SOCKET = "registry.sock"
METRICS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it while it is imported, in every process


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


class RegistryProcess:
    """The process as its parent has it: it begins to import MLflow when it is started, and ends with its parent."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it, or another one in the place of one that has ended."""
        context = multiprocessing.get_context("spawn")
        receiver, self._sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(receiver, logs.are_json()), daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the process inherits it: Ctrl-C is for its parent
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        receiver.close()

    def listen(self, folder: Path, settings: "SymbolSettings") -> None:
        """Have the process listen at SOCKET in the service's folder, once it has imported MLflow."""
        (folder / SOCKET).unlink(missing_ok=True)
        with suppress(BrokenPipeError), self._sender:  # it has ended already, which `process.is_alive` shows
            self._sender.send((folder, dict(settings.logging), settings.poll_s))


@cache
def first_process() -> RegistryProcess:
    """Return the service's first registry process, started by the first call."""
    return RegistryProcess()


def _serve(receiver: Connection, as_json: bool) -> None:
    parent = multiprocessing.parent_process()
    assert parent and parent.pid
    end_with(parent.pid, signal.SIGKILL)
    with suppress(OSError):  # for `ps` and `top`, where the kernel is Linux
        Path("/proc/self/comm").write_text(PROCESS_NAME)
    logs.begin(logs.JSON if as_json else logs.TEXT, "serve")
    import lstm_ts.registry.mlflow_store  # noqa: F401

    folder, log_config, poll_s = receiver.recv()
    logs.configure(log_config)
    os.environ[METRICS] = str(folder)
    from serve.process_figures import report_process

    report_process(PROCESS_NAME, poll_s)
    RegistryManager(str(folder / SOCKET)).get_server().serve_forever()


class RemoteRegistry:
    """A client of the registry process, in a worker or in the process that starts them."""

    def __init__(self, socket: Path, uri: str, *, is_alive: Callable[[], bool] = lambda: True) -> None:
        """is_alive    whether to wait for the process to listen; workers do not know, and another one replaces it"""
        self._socket, self._uri, self._is_alive = socket, uri, is_alive
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
                f"Expected an answer of the service's registry process, got {type(error).__name__}; it is restarted"
            ) from error

    def _connect(self) -> Any:
        until = time.monotonic() + START_S
        manager = RegistryManager(str(self._socket))
        while True:
            try:
                manager.connect()
                return manager.reader(self._uri)  # type: ignore[attr-defined]
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until or not self._is_alive():
                    raise
                time.sleep(RETRY_S)


def lacks_challenger(registry: RemoteRegistry, name: str) -> bool:
    """Return whether there is a champion but no challenger; False if the registry does not answer."""
    try:
        return registry.find(name, CHAMPION) is not None and registry.find(name, CHALLENGER) is None
    except LstmTsError:
        return False
