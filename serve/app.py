"""The first process, which starts and watches all the others.

LitServe starts the HTTP processes and the workers. This module adds what LitServe lacks: a worker that has ended is
replaced, and SIGTERM ends everything in order.
"""

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.managers import SyncManager
from threading import Thread
from typing import Any

from fastapi_offline import FastAPIOffline
from litserve import LitServer
from litserve.transport.factory import create_transport_from_config
from prometheus_client.multiprocess import mark_process_dead

from lstm_ts.logs import configure
from lstm_ts.ports import taking_port
from serve.api import end_with_parent
from serve.assets import keep_in_memory
from serve.http_process import HttpProcess
from serve.process_figures import report_process
from serve.registry_process import RegistryProcess

WATCH_S = 0.2
SIGTERM_S = 1.0  # within which a SIGTERM that is sent to all processes reaches the last one
ANSWER_S = 5.0  # within which the shared state answers at the end, or is killed
CLOSE_S = 30
SEND_BUFFER_BYTES = 131072  # kernel buffer of a reply that its client does not read; else it grows to megabytes

log = logging.getLogger(__name__)


def _ignore_sigterm() -> None:
    """Ignore SIGTERM in the shared state's process, which must outlive the others when all get one at once."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _sigterm_put_off() -> Iterator[None]:
    """Block SIGTERM until the block ends; a child process started within it keeps SIGTERM blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen(bound: socket.socket, address: str, backlog: int) -> None:
    """Raises    ConfigError: another process listens there, which the bound socket does not exclude"""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted connections inherit it
    with taking_port(address):
        bound.listen(backlog)


class ForecastServer(LitServer):  # type: ignore[misc]
    def __init__(self, http: HttpProcess, registry: RegistryProcess) -> None:
        super().__init__(http.api, accelerator="cpu", devices=1, workers_per_device=http.slots)
        self._http, self._registry, self.stopping, self.broken = http, registry, False, False
        self._answer_s = http.api.settings.answer_s
        self.app = FastAPIOffline(
            lifespan=http.lifespan, redirect_slashes=False, swagger_ui_parameters={"validatorUrl": None}
        )
        keep_in_memory(self.app)

    def register_endpoints(self) -> None:
        """Register none of LitServe's routes: `Routes.add_to` adds ours."""

    def _register_middleware(self) -> None:
        """Add no middleware: compressing a reply takes longer than computing it."""

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        """Start LitServe's manager so that it ends with the server and holds the shared state."""
        configure(self.lit_api.settings.logging)  # again: LitServe has configured its own log since
        manager = SyncManager()
        with _sigterm_put_off():  # a SIGTERM before `_ignore_sigterm` would end the manager
            manager.start(initializer=_ignore_sigterm)
        self.transport_config.manager, self.transport_config.num_consumers = manager, num_api_servers
        self.workers_setup_status, self._shutdown_event = manager.dict(), manager.Event()
        self.lit_api.shared_state, self._http.setup_status = manager.dict(), self.workers_setup_status
        self._needed = [manager._process]  # type: ignore[attr-defined]
        self.litapi_request_queues[self.lit_api.api_path] = manager.Queue()
        self._transport = create_transport_from_config(self.transport_config)
        return manager

    def verify_worker_status(self) -> None:
        """Do not wait for workers: HTTP is answered from the start, and /health says that none is ready yet."""

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:
        """Listen, start LitServe's HTTP processes, then close their sockets here, where nothing would answer.

        At shutdown, incomplete requests are abandoned in time to write the queued forecasts.

        Raises    ConfigError: another service that has started meanwhile listens
        """
        self.uvicorn_graceful_timeout = math.ceil(self._answer_s)
        for bound in args[3]:
            listen(bound, self._http.address, kwargs["backlog"])
        log.info("Serving on http://%s, documented at /docs", self._http.address)
        started: dict[int, Any] = super()._start_server(*args, **kwargs)
        self.uvicorn_graceful_timeout += CLOSE_S
        for listening in args[3]:
            listening.close()
        return started

    def _start_worker_monitoring(self, manager: SyncManager, uvicorn_workers: dict[int, Any]) -> None:
        self._needed += uvicorn_workers.values()
        self._shutdown_event = self  # the main thread calls its `wait` next

    def wait(self) -> None:
        """Replace workers that have ended, until the server stops; then end the shared state's process if it hangs."""
        self._watch()
        asking = Thread(target=self._ask_shared_state, daemon=True)
        asking.start()
        asking.join(ANSWER_S)
        if asking.is_alive():  # what ends the others waits for it
            log.error("The process of the shared state does not answer; killing it")
            self._needed[0].kill()

    def _ask_shared_state(self) -> None:
        with suppress(EOFError, OSError):
            self.workers_setup_status.copy()

    def _watch(self) -> None:
        """Run in the main thread: PR_SET_PDEATHSIG is per thread."""
        report_process("main", self.lit_api.settings.poll_s)
        while not self.stopping:
            time.sleep(WATCH_S)
            for number, process in enumerate(self.inference_workers):
                if not process.is_alive() and not self.stopping:
                    mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
                    hung = f", which took longer than answer_s={self._answer_s:g}"
                    why = hung if process.exitcode == -signal.SIGALRM else f" with {process.exitcode}"
                    log.error("Worker %d exited%s; restarting it", number, why)
                    self.inference_workers[number] = self.launch_single_inference_worker(self.lit_api, number)
            if not self._registry.process.is_alive() and not self.stopping:
                mark_process_dead(self._registry.process.pid)  # type: ignore[no-untyped-call]
                log.error("The registry process exited with %s; restarting it", self._registry.process.exitcode)
                self._registry.start()
                self._registry.listen(self.lit_api.sockets, self.lit_api.settings)
            if not self.stopping and not all(process.is_alive() for process in self._needed):
                time.sleep(SIGTERM_S)
                if self.stopping:  # every process got a SIGTERM, one after the other
                    return
                log.critical("An essential process exited; shutting down")
                self.broken = True
                return

    def stop_on_signals(self) -> None:
        """Stop in order at SIGTERM and Ctrl-C: HTTP first, once it has answered the requests it accepted."""
        first = os.getpid()

        def stop(*_: object) -> None:
            if os.getpid() != first:  # an HTTP process inherits this handler, and has finished by now
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the closing of its loop
                raise SystemExit(0)
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
