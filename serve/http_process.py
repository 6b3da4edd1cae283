"""An HTTP process: it chooses arms, sends requests to workers, and queues forecasts for the ledger."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI

from lstm_ts import clock
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.traffic import TrafficRow
from lstm_ts.logs import RateLimit
from serve.api import ForecastApi, end_with_parent
from serve.keys import Keys
from serve.ledger.forecast_log import ForecastLog
from serve.ledger.reader import LedgerReader
from serve.metrics import FELL_BACK, LEDGER_AWAY, LOG_DEPTH, SHADOWED, start_at_zero
from serve.monitoring.monitored import Monitored, MonitoredReader
from serve.process_figures import report_process
from serve.rollout import Rollout
from serve.settings import WorkerAnswer, WorkerRequest
from serve.tcp.connections import Connections
from serve.traffic import Arm, Traffic
from serve.worker_states import WorkerStates
from serve.workers.pool import NoAnswer, WorkerPool

WATCH_S = 0.2
REPORT_EVERY = timedelta(hours=1)  # interval of reports to the monitor

log = logging.getLogger(__name__)


class HttpProcess:
    """State made before the fork; `lifespan` runs in each HTTP process."""

    setup_status: Any  # LitServe's, by worker, shared by all processes
    workers: WorkerStates
    _pool: WorkerPool
    rollout: Rollout
    reader: LedgerReader[Monitored]

    def __init__(
        self,
        api: ForecastApi,
        traffic: Traffic,
        forecast_log: ForecastLog,
        connections: Connections,
        keys: Keys,
        *,
        address: str,
        slots: int,
        max_waiting: int,
    ) -> None:
        """slots    number of workers"""
        self.api, self.slots = api, slots
        self._traffic, self.forecast_log, self._connections = traffic, forecast_log, connections
        self._keys, self.address, self._max_waiting = keys, address, max_waiting
        self._reported_stop: tuple[int, str] | None = None
        self._reported_at = datetime.min.replace(tzinfo=UTC)
        self._clock_errors = RateLimit(1)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run the process's tasks. The forecast log is here, since this process outlives the workers."""
        end_with_parent()
        api, health_s = self.api, self.api.settings.health_s
        sockets = [api.socket(number) for number in range(self.slots)]
        self._pool = WorkerPool(sockets, max_waiting=self._max_waiting, health_s=health_s)
        self.workers = WorkerStates(api.shared_state, self.setup_status, self._pool, sockets, api.symbols, health_s)
        self.reader = LedgerReader(api.ledger, MonitoredReader().read, self.workers.loaded_versions)
        self.rollout = Rollout(self._traffic, api.shared_state)
        gc.freeze()  # imported objects stay: to scan them takes 0.1 s, in which nothing is answered
        self._pool.start()
        self.forecast_log.start()
        self.reader.start()
        start_at_zero()
        report_process("http", api.settings.poll_s)
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._connections.watch())]
        yield
        for task in watching:
            task.cancel()
        if put_off := self._pool.end():
            SHADOWED.labels("dropped").inc(put_off)
            log.warning("Dropped %d deferred challenger forecasts at shutdown", put_off)
        self.forecast_log.close()

    async def _watch(self) -> None:
        while True:
            self._keys.follow_file()  # not at a request alone: what one process has not seen, it would take for valid
            LOG_DEPTH.set(self.forecast_log.counts().queued)
            LEDGER_AWAY.set(self.forecast_log.trouble is not None)
            await self.workers.read()
            self._pool.prefer(self.workers.loaded_sockets())
            self.rollout.agree()
            try:
                self._report_traffic()
            except ConfigError as error:  # of the clock's file, perhaps while it is rewritten
                if self._clock_errors.admit("clock") is not None:
                    log.error("Cannot report the traffic: %s", error)
            await asyncio.sleep(WATCH_S)

    def _report_traffic(self) -> None:
        """Report the traffic, each hour and after a stop, to the monitor, which expects requests at the challenger.

        Raises    ConfigError: of the clock
        """
        now, stopped = clock.now(), self.rollout.stopped
        if stopped == self._reported_stop and now - self._reported_at < REPORT_EVERY:
            return
        self._reported_stop, self._reported_at = stopped, now
        report = self.address, now, self._traffic.needs_challenger, *(stopped or (None, ""))
        self.forecast_log.queue_traffic([TrafficRow(name, *report) for name in self.api.names])

    async def request(self, body: bytes | None, request_id: str, arm: Arm, symbol: str = "") -> WorkerAnswer:
        """Get a worker's answer, count it, and queue its forecast for the ledger.

        symbol    of the stored bars to forecast from, if there is no body
        Raises    NoAnswer
        """
        request = WorkerRequest(request_id, arm, time.monotonic(), body, symbol)
        try:
            answer = await self._pool.request(request, self.api.settings.answer_s)
        except NoAnswer:
            self.rollout.count(arm, None)
            raise
        self.rollout.count(arm, answer)
        if answer.fell_back:
            FELL_BACK.labels(answer.fell_back).inc()
        if answer.row:
            self.forecast_log.add(answer.row)
            if arm is Arm.CHAMPION and self.rollout.shadow:
                self._request_shadow(request)
        return answer

    def _request_shadow(self, request: WorkerRequest) -> None:
        if later := self._pool.request_later(request._replace(arm=Arm.SHADOW, received_at=time.monotonic())):
            later.add_done_callback(self._keep_shadow)
        else:
            SHADOWED.labels("dropped").inc()

    def _keep_shadow(self, later: asyncio.Future[WorkerAnswer]) -> None:
        answer = later.result() if not (later.cancelled() or later.exception()) else None
        if answer and answer.arm is not Arm.SHADOW:  # the challenger was released meanwhile
            return
        self.rollout.count(Arm.CHALLENGER, answer)
        SHADOWED.labels("made" if answer and answer.row else "failed").inc()
        if answer and answer.row:
            self.forecast_log.add(answer.row)
