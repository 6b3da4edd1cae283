"""The processes that speak HTTP, and the one that starts and watches all the others.

LitServe gives workers, queues and HTTP processes. What it does not do is done here: a request of a killed worker is
answered, SIGTERM ends everything in order, health knows the models, and refusals say why.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.managers import SyncManager
from typing import Any

from fastapi import FastAPI
from litserve import LitServer
from litserve.transport.factory import create_transport_from_config
from litserve.utils import LitAPIStatus, ResponseBufferItem, WorkerSetupStatus
from prometheus_client.multiprocess import mark_process_dead

from serve.api import CALL, EXAMPLE, ForecastApi, end_with_parent
from serve.forecast_log import ForecastLog
from serve.metrics import LOG_DEPTH, LOGGED
from serve.schema import Worker
from serve.settings import Answer, Ask, Example, State

WATCH_S = 0.2

log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """No worker has answered in time."""


class ForecastServer(LitServer):  # type: ignore[misc]
    def __init__(self, api: ForecastApi, forecast_log: ForecastLog, *, workers: int, answer_s: float) -> None:
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=workers, timeout=answer_s)
        self.slots, self._answer_s, self.stopping = workers, answer_s, False
        self.board: Any = None
        self._forecast_log = forecast_log

    def register_endpoints(self) -> None:
        """None of LitServe's: `routes.add_routes` adds ours."""

    def _register_middleware(self) -> None:
        """None: compressing an answer takes longer than making it."""

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        """As LitServe's, but it ends with the server, and holds the board."""
        manager = SyncManager()
        manager.start(initializer=end_with_parent)
        self.transport_config.manager, self.transport_config.num_consumers = manager, num_api_servers
        self.workers_setup_status, self._shutdown_event = manager.dict(), manager.Event()
        self.board = self.lit_api.board = manager.dict()
        self.litapi_request_queues[self.lit_api.api_path] = manager.Queue()
        self._transport = create_transport_from_config(self.transport_config)
        return manager

    def verify_worker_status(self) -> None:
        """HTTP is answered from the start: health says that nothing is ready yet."""

    def _start_worker_monitoring(self, manager: SyncManager, uvicorn_workers: dict[int, Any]) -> None:
        self._http = uvicorn_workers
        self._shutdown_event = self  # what the main thread waits for next

    def wait(self) -> None:
        """Start workers that have ended again, until the server is to end.

        In the main thread: the kernel would end a worker with the thread that has started it.
        """
        while not self.stopping:
            time.sleep(WATCH_S)
            for number, process in enumerate(self.inference_workers):
                if not process.is_alive() and not self.stopping:
                    mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
                    log.error("Worker %d has ended (%s); a new one starts", number, process.exitcode)
                    self.inference_workers[number] = self.launch_single_inference_worker(self.lit_api, number)
            if not all(process.is_alive() for process in self._http.values()):
                log.critical("A process that speaks HTTP has ended, and the server with it")
                return

    def stop_on_signals(self) -> None:
        """SIGTERM and Ctrl-C end it in order: HTTP first, when it has answered what it took."""
        first = os.getpid()

        def stop(*_: object) -> None:
            if os.getpid() != first:  # a process that speaks HTTP inherits this, and has finished when it comes here
                raise SystemExit(0)
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Every process that speaks HTTP keeps what it answers: it outlives the workers."""
        end_with_parent()
        counting = asyncio.create_task(self._count_log())
        async with super().lifespan(app):
            yield
        counting.cancel()
        self._forecast_log.close()

    async def _count_log(self) -> None:
        before = self._forecast_log.counts()
        while True:
            counts = self._forecast_log.counts()
            LOG_DEPTH.set(counts.queued)
            for outcome in ("written", "dropped", "refused"):
                LOGGED.labels(outcome).inc(getattr(counts, outcome) - getattr(before, outcome))
            before = counts
            await asyncio.sleep(WATCH_S)

    async def ask(self, body: bytes | None, request_id: str) -> Answer:
        """Raises    NoAnswer: in time; the worker may have been killed with the request in its hands"""
        item = ResponseBufferItem(event=asyncio.Event())
        self.response_buffer[request_id] = item
        ask = Ask(body, request_id, time.monotonic())
        try:
            queue = self._get_request_queue(self.lit_api.api_path)
            queue.put((self.app.response_queue_id, request_id, ask.asked_at, ask))
            await asyncio.wait_for(item.event.wait(), self._answer_s)
        except TimeoutError:
            raise NoAnswer from None
        finally:
            del self.response_buffer[request_id]
        answer, status = item.response
        assert status == LitAPIStatus.OK and isinstance(answer, Answer), "the worker's log says what went wrong"
        if answer.row:
            self._forecast_log.add(answer.row)
        return answer

    def states(self) -> list[State | None]:
        """By worker; None for one that is starting, or starting again."""
        board, status = self.board.copy(), self.workers_setup_status.copy()
        ready = [status.get(f"predict_{number}") == WorkerSetupStatus.READY for number in range(self.slots)]
        return [board.get(number) if ready[number] else None for number in range(self.slots)]

    def workers(self) -> list[Worker]:
        starting = Worker(model=None, reason="the worker is starting")
        return [state.worker if state else starting for state in self.states()]

    def example(self) -> Example | None:
        """Of the version loaded last."""
        found: Example | None = self.board.get(EXAMPLE)
        return found

    async def reload(self, within_s: float) -> bool:
        """Have every worker look at the registry now; whether all have done so in time."""
        call, until = time.time_ns(), time.monotonic() + within_s
        self.board[CALL] = call
        while time.monotonic() < until:
            if all(state and state.looked >= call for state in self.states()):
                return True
            await asyncio.sleep(WATCH_S / 4)
        return False
