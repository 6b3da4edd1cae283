"""The processes that speak HTTP, and the one that starts and watches all the others.

LitServe starts the HTTP processes and the workers. What it does not do is done here: a request of a killed worker is
answered, SIGTERM ends everything in order, health knows the models, traffic has arms, and refusals say why.
"""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from multiprocessing.context import SpawnProcess
from multiprocessing.managers import SyncManager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from litserve import LitServer
from litserve.transport.factory import create_transport_from_config
from prometheus_client.multiprocess import mark_process_dead

from lstm_ts import clock
from lstm_ts.ledger.traffic import TrafficRow
from lstm_ts.logs import configure
from serve import registry_process
from serve.api import ForecastApi, end_with_parent
from serve.assets import keep_in_memory
from serve.connections import Connections
from serve.forecast_log import ForecastLog
from serve.ledger_reader import LedgerReader, Reading
from serve.metrics import FELL_BACK, LEDGER_AWAY, LOG_DEPTH, SHADOWED, start_at_zero
from serve.monitored import Monitored, MonitoredReader
from serve.process_figures import report_process
from serve.rollout import Rollout
from serve.settings import Ask, WorkerAnswer
from serve.traffic import Arm, Traffic
from serve.worker_pool import NoAnswer, WorkerPool
from serve.worker_states import WorkerStates

WATCH_S = 0.2
TELL_EVERY = timedelta(hours=1)  # that it is still there
TOLD_S = 1.0  # between the SIGTERM to the first process and to the last, where all get one
CLOSE_S = 30
SEND_BUFFER_BYTES = 131072  # of a reply, in the kernel, where its client does not read; it would take megabytes

log = logging.getLogger(__name__)


def _outlast() -> None:
    """Ignore SIGTERM in the process of the shared state: one to all processes at once comes too early for it."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _sigterm_put_off() -> Iterator[None]:
    """A SIGTERM that comes meanwhile is delivered afterwards; a child process that is started never gets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ForecastServer(LitServer):  # type: ignore[misc]
    """`shared_state` is shared by all processes: see `ForecastApi` and `Rollout`."""

    shared_state: Any
    workers: WorkerStates
    _pool: WorkerPool
    _rollout: Rollout
    _reader: LedgerReader[Monitored]

    def __init__(
        self,
        api: ForecastApi,
        traffic: Traffic,
        forecast_log: ForecastLog,
        connections: Connections,
        registry: SpawnProcess,
        *,
        address: str,
        workers: int,
        max_waiting: int,
    ) -> None:
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=workers)
        self.slots, self._max_waiting, self.stopping, self.broken = workers, max_waiting, False, False
        self._traffic, self._forecast_log, self.answer_s = traffic, forecast_log, api.settings.answer_s
        self._address, self._names = address, api.names
        self._connections, self._health_s = connections, api.settings.health_s
        self._registry = registry
        self.app = FastAPIOffline(lifespan=self.lifespan, swagger_ui_parameters={"validatorUrl": None})
        keep_in_memory(self.app)

    def register_endpoints(self) -> None:
        """None of LitServe's: `Routes.add_to` adds ours."""

    def _register_middleware(self) -> None:
        """None: compressing an answer takes longer than making it."""

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        """Start LitServe's manager so that it ends with the server and holds the shared state."""
        configure(self.lit_api.settings.logging)  # once more: LitServe has set up its own log meanwhile
        manager = SyncManager()
        with _sigterm_put_off():  # it would end the manager before it ignores it
            manager.start(initializer=_outlast)
        self.transport_config.manager, self.transport_config.num_consumers = manager, num_api_servers
        self.workers_setup_status, self._shutdown_event = manager.dict(), manager.Event()
        self.shared_state = self.lit_api.shared_state = manager.dict()
        self._needed = [manager._process]  # type: ignore[attr-defined]
        self.litapi_request_queues[self.lit_api.api_path] = manager.Queue()
        self._transport = create_transport_from_config(self.transport_config)
        return manager

    def verify_worker_status(self) -> None:
        """HTTP is answered from the start: health says that nothing is ready yet."""

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:
        """Start LitServe's HTTP processes, but do not listen here too: a port that nobody answers at is to be closed.

        At the end, requests that have not come whole are given up in time to write what is queued.
        """
        self.uvicorn_graceful_timeout = math.ceil(self.answer_s)
        for listening in args[3]:  # what it accepts inherits it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        started: dict[int, Any] = super()._start_server(*args, **kwargs)
        self.uvicorn_graceful_timeout += CLOSE_S
        for listening in args[3]:
            listening.close()
        return started

    def _start_worker_monitoring(self, manager: SyncManager, uvicorn_workers: dict[int, Any]) -> None:
        self._needed += uvicorn_workers.values()
        self._shutdown_event = self  # what the main thread waits for next

    def wait(self) -> None:
        """Start workers that have ended again, until the server is to end.

        In the main thread: the kernel would end a worker with the thread that has started it.
        """
        report_process("main", self.lit_api.settings.poll_s)
        while not self.stopping:
            time.sleep(WATCH_S)
            for number, process in enumerate(self.inference_workers):
                if not process.is_alive() and not self.stopping:
                    mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
                    hung = f", which took longer than answer_s={self.answer_s:g}"
                    why = hung if process.exitcode == -signal.SIGALRM else f" with {process.exitcode}"
                    log.error("Worker %d has ended%s; a new one starts", number, why)
                    self.inference_workers[number] = self.launch_single_inference_worker(self.lit_api, number)
            if not self._registry.is_alive() and not self.stopping:
                mark_process_dead(self._registry.pid)  # type: ignore[no-untyped-call]
                log.error("The registry process has ended with %s; a new one starts", self._registry.exitcode)
                self._registry = registry_process.start(self.lit_api.registry_socket, self.lit_api.settings)
            if not self.stopping and not all(process.is_alive() for process in self._needed):
                time.sleep(TOLD_S)
                if self.stopping:  # all are told to end, one after the other
                    return
                log.critical("A process that all others need has ended, and the server with it")
                self.broken = True
                return

    def stop_on_signals(self) -> None:
        """SIGTERM and Ctrl-C end it in order: HTTP first, when it has answered what it took."""
        first = os.getpid()

        def stop(*_: object) -> None:
            if os.getpid() != first:  # a process that speaks HTTP inherits this, and has finished when it comes here
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the closing of its loop
                raise SystemExit(0)
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Every process that speaks HTTP keeps what is answered: it outlives the workers."""
        end_with_parent()
        sockets = [self.lit_api.socket(number) for number in range(self.slots)]
        self._pool = WorkerPool(sockets, max_waiting=self._max_waiting, health_s=self._health_s)
        self.workers = WorkerStates(
            self.shared_state, self.workers_setup_status, self._pool, sockets, self.lit_api.symbols, self._health_s
        )
        self._reader = LedgerReader(self.lit_api.ledger, MonitoredReader().read, self.workers.loaded_versions)
        self._rollout = Rollout(self._traffic, self.shared_state)
        gc.freeze()  # what is imported is for good: to look through it takes 0.1 s, in which nobody is answered
        self._pool.start()
        self._forecast_log.start()
        self._reader.start()
        start_at_zero()
        report_process("http", self.lit_api.settings.poll_s)
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._connections.watch())]
        yield
        for task in watching:
            task.cancel()
        if put_off := self._pool.end():
            SHADOWED.labels("dropped").inc(put_off)
            log.warning("%d forecasts of the challenger, put off until a worker is idle, were not made", put_off)
        self._forecast_log.close()

    async def _watch(self) -> None:
        stopped = self._rollout.stopped
        told_at = self._tell_traffic()
        while True:
            LOG_DEPTH.set(self._forecast_log.counts().queued)
            LEDGER_AWAY.set(self.ledger_trouble is not None)
            await self.workers.read()
            self._pool.prefer(self.workers.loaded_sockets())
            self._rollout.agree()
            if self._rollout.stopped != stopped or clock.now() - told_at >= TELL_EVERY:
                stopped, told_at = self._rollout.stopped, self._tell_traffic()
            await asyncio.sleep(WATCH_S)

    def _tell_traffic(self) -> datetime:
        """Tell the monitor, which expects that requests reach a challenger accordingly.    Returns    when"""
        now, (version, reason) = clock.now(), self._rollout.stopped or (None, "")
        says = self._address, now, self._traffic.needs_challenger, version, reason
        self._forecast_log.tell([TrafficRow(name, *says) for name in self._names])
        return now

    def choose_arm(self, key: str) -> Arm:
        return self._rollout.choose(key)

    async def ask(self, body: bytes | None, request_id: str, arm: Arm, symbol: str = "") -> WorkerAnswer:
        """symbol    of the stored bars to forecast from, where there is no body
        Raises    NoAnswer
        """
        ask = Ask(request_id, arm, time.monotonic(), body, symbol)
        try:
            answer = await self._pool.ask(ask, self.answer_s)
        except NoAnswer:
            self._rollout.count(arm, None)
            raise
        self._rollout.count(arm, answer)
        if answer.fell_back:
            FELL_BACK.labels(answer.fell_back).inc()
        if answer.row:
            self._forecast_log.add(answer.row)
            if arm is Arm.CHAMPION and self._rollout.shadow:
                self._ask_shadow(ask)
        return answer

    def _ask_shadow(self, ask: Ask) -> None:
        if later := self._pool.ask_later(ask._replace(arm=Arm.SHADOW, asked_at=time.monotonic())):
            later.add_done_callback(self._keep_shadow)
        else:
            SHADOWED.labels("dropped").inc()

    def _keep_shadow(self, later: asyncio.Future[WorkerAnswer]) -> None:
        answer = later.result() if not (later.cancelled() or later.exception()) else None
        if answer and answer.arm is not Arm.SHADOW:  # the challenger has gone meanwhile
            return
        self._rollout.count(Arm.CHALLENGER, answer)
        SHADOWED.labels("made" if answer and answer.row else "failed").inc()
        if answer and answer.row:
            self._forecast_log.add(answer.row)

    @property
    def ledger_trouble(self) -> str | None:
        """Why forecasts wait to be written down, None while they are."""
        return self._forecast_log.trouble

    @property
    def monitored(self) -> Reading[Monitored]:
        return self._reader.last
