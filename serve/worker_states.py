"""Each worker's last report in the shared state, as an HTTP process reads it."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litserve.utils import WorkerSetupStatus

from lstm_ts.http_schema import Worker
from serve.api import CALL, EXAMPLE
from serve.ledger.reader import VersionKey, find_versions
from serve.settings import Example, WorkerState
from serve.workers.pool import WorkerPool

RELOAD_CHECK_S = 0.05


class WorkerStates:
    def __init__(
        self,
        shared_state: Any,
        setup_status: Any,
        pool: WorkerPool,
        sockets: Sequence[Path],
        symbols: Sequence[str],
        health_s: float,
    ) -> None:
        """shared_state   of all processes, see `ForecastApi`
        setup_status   LitServe's, by worker
        sockets        one a worker
        """
        self._shared, self._setup, self._pool = shared_state, setup_status, pool
        self._sockets, self._symbols, self._health_s = sockets, symbols, health_s
        self.last: list[WorkerState | None] = [None] * len(sockets)  # by worker; None for one that is starting
        self.example: Example | None = None  # a request and its answer, of the version loaded last
        self._read_at = time.monotonic()

    async def read(self) -> None:
        """Read in a thread: the process of the shared state may not answer."""
        shared, status = await asyncio.to_thread(lambda: (self._shared.copy(), self._setup.copy()))
        ready = [status.get(f"predict_{number}") == WorkerSetupStatus.READY for number in range(len(self._sockets))]
        self.last = [shared.get(number) if ready[number] else None for number in range(len(self._sockets))]
        self.example = shared.get(EXAMPLE)
        self._read_at = time.monotonic()

    async def reload(self, within_s: float) -> bool:
        """Have every worker poll the registry now; return whether all have done so in time."""
        call, until = time.monotonic_ns(), time.monotonic() + within_s
        await asyncio.to_thread(self._shared.__setitem__, CALL, call)
        while time.monotonic() < until:
            await self.read()
            if all(state and state.answered_call >= call for state in self.last):
                return True
            await asyncio.sleep(RELOAD_CHECK_S)
        return False

    def all(self) -> list[Worker]:
        """Return each worker once for each symbol."""
        return [worker for number in range(len(self._sockets)) for worker in self._find(number)]

    def loaded_sockets(self) -> set[Path]:
        """Return the sockets of workers that answer with a model."""
        loaded = (any(worker.model for worker in self._find(number)) for number in range(len(self._sockets)))
        return {socket for socket, is_loaded in zip(self._sockets, loaded, strict=True) if is_loaded}

    def loaded_versions(self) -> frozenset[VersionKey]:
        """Return the versions that the workers last reported, whether or not they answer at this moment."""
        return find_versions(worker for state in self.last if state for worker in state.workers)

    def _find(self, number: int) -> tuple[Worker, ...]:
        """Return a worker's last report; if it does not answer, the reason instead."""
        state = self.last[number]
        if (reason := self._silence_of(number, state)) or state is None:
            return tuple(Worker(symbol=symbol, model=None, reason=reason) for symbol in self._symbols)
        return state.workers

    def _silence_of(self, number: int, state: WorkerState | None) -> str | None:
        """Return why a worker does not answer; None: it does."""
        if time.monotonic() - self._read_at > self._health_s:
            return f"Expected the workers' state within {self._health_s:g} s, got none; restart the service"
        silent_s = self._pool.silent_s(self._sockets[number])
        if state is None or silent_s is None:  # the shared state shows only later that a worker has ended
            return "the worker is starting"
        if silent_s > self._health_s:
            return f"Expected an answer of worker {number} within {self._health_s:g} s, got none; check what blocks it"
        return None
