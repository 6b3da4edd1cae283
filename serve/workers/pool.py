"""Send requests from an HTTP process to the workers, over a Unix socket each (`server.py` is the other end).

LitServe's queues pass through another process twice each way, and an in-flight request of a killed worker times out.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

from serve.metrics import WAITING
from serve.settings import WorkerAnswer, WorkerRequest
from serve.traffic import Arm
from serve.workers.frames import PING, Frames, read_answer, write_request

AHEAD = 2  # requests that a worker may hold at a time, so that it need not wait for the next one
LATER = 100  # deferred requests that may wait for an idle worker
RETRY_S = 0.05
CHECK_S = 0.1
PING_S = 0.5  # interval of pings to an idle worker
STALL_S = 0.4  # without an answer for that long, a worker's requests are sent to another one too


class NoAnswer(Exception):
    """Lack of an answer from the workers; the message gives the reason."""


@dataclass(eq=False)
class PendingRequest:
    request: WorkerRequest
    answer: asyncio.Future[WorkerAnswer]
    repeated: bool = False  # sent to a second worker; not to a third, since the request itself may stall them


class WorkerConnection(asyncio.Protocol):
    """The HTTP process's end of a connection to one worker."""

    def __init__(self, pool: "WorkerPool", turn: int) -> None:
        self._pool, self.turn, self._frames = pool, turn, Frames()
        self.sent: deque[PendingRequest | None] = deque()  # oldest first; None for a ping
        self.lost = asyncio.Event()
        self.stalled = False
        self._waits_since = self._answered_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._pool.open(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.close(self)
        self.lost.set()

    def hang_up(self) -> None:
        self._transport.close()

    def send(self, pending: PendingRequest | None) -> None:
        if not self.sent:
            self._waits_since = time.monotonic()
        self.sent.append(pending)
        self._transport.write(write_request(pending.request) if pending else PING)

    def data_received(self, data: bytes) -> None:
        for head, body in self._frames.feed(data):
            self._waits_since = self._answered_at = time.monotonic()
            self.stalled = False
            pending = self.sent.popleft()
            if pending and not pending.answer.done():
                pending.answer.set_result(read_answer(head, body))
        self._pool.dispatch()

    def unanswered_s(self, now: float) -> float:
        """Return how long the worker has owed an answer, in s; 0: it owes none."""
        return now - self._waits_since if self.sent else 0.0

    def is_due_for_ping(self, now: float) -> bool:
        return not self.sent and now - self._answered_at >= PING_S


class WorkerPool:
    """First-in first-out dispatch to the least-loaded worker.

    Among equally loaded workers it prefers a fixed one, whose caches are warm; the process id determines which.
    """

    def __init__(self, sockets: Sequence[Path], *, max_waiting: int, health_s: float) -> None:
        self._max_waiting, self._health_s = max_waiting, health_s
        first = os.getpid() % len(sockets)
        self._sockets = [*sockets[first:], *sockets[:first]]
        self._connected: list[WorkerConnection] = []
        self._ready: set[Path] = set()
        self._waiting: deque[PendingRequest] = deque()
        self._later: deque[PendingRequest] = deque()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(socket, turn)) for turn, socket in enumerate(self._sockets)]
        self._tasks.append(asyncio.create_task(self._watch()))

    def end(self) -> int:
        """Close the connections; return how many deferred requests were never sent."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connected):
            connection.hang_up()
        return len(self._later)

    def prefer(self, ready: set[Path]) -> None:
        """Prefer the sockets of workers that have a model: others get requests only if none of these is connected."""
        self._ready = ready
        self.dispatch()

    async def request(self, request: WorkerRequest, within_s: float) -> WorkerAnswer:
        """Raises    NoAnswer: the worker ended during the request, none was free in time, or too many requests wait"""
        if self._none_answers():
            raise NoAnswer(self._silence())
        if len(self._waiting) >= self._max_waiting:
            raise NoAnswer(f"Expected at most {self._max_waiting} requests to wait for a worker, got more; retry later")
        pending = PendingRequest(request, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self.dispatch()
        try:
            with WAITING.track_inprogress():
                return await asyncio.wait_for(pending.answer, within_s)
        except TimeoutError:
            raise NoAnswer(f"Expected an answer of a worker within {within_s:g} s, got none; retry") from None
        finally:
            if pending in self._waiting:
                self._waiting.remove(pending)

    def request_later(self, request: WorkerRequest) -> asyncio.Future[WorkerAnswer] | None:
        """Request an answer from a worker once one is idle; None: too many requests wait for that."""
        if len(self._later) >= LATER:
            return None
        pending = PendingRequest(request, asyncio.get_running_loop().create_future())
        self._later.append(pending)
        self.dispatch()
        return pending.answer

    def dispatch(self) -> None:
        while self._waiting and (connection := self._least_busy(AHEAD)):
            pending = self._waiting.popleft()
            if not pending.answer.done():
                connection.send(pending)
        while self._later and not self._waiting and (connection := self._least_busy(1)):
            connection.send(self._later.popleft())

    def _least_busy(self, limit: int) -> WorkerConnection | None:
        ready = [each for each in self._connected if self._sockets[each.turn] in self._ready]
        free = (each for each in ready or self._connected if len(each.sent) < limit and not each.stalled)
        return min(free, key=lambda each: (len(each.sent), each.turn), default=None)

    def open(self, connection: WorkerConnection) -> None:
        self._connected.append(connection)
        self.dispatch()

    def close(self, connection: WorkerConnection) -> None:
        """Fail the in-flight request so that it cannot crash the next worker, and requeue those behind it."""
        self._connected.remove(connection)
        in_flight = connection.sent.popleft() if connection.sent else None
        if in_flight and not self._is_settled(in_flight):
            in_flight.answer.set_exception(NoAnswer("Expected an answer, got a worker that has ended; retry"))
        behind = [p for p in connection.sent if p and not self._is_settled(p) and p not in self._waiting]
        self._waiting.extendleft(reversed(behind))
        self.dispatch()

    def _is_settled(self, pending: PendingRequest) -> bool:
        """Return whether the request is answered, or another worker has it too."""
        return pending.answer.done() or any(pending in connection.sent for connection in self._connected)

    async def _watch(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(CHECK_S)

    def _check(self) -> None:
        """Ping idle workers; repeat a stalled worker's requests; fail all requests if no worker answers."""
        now = time.monotonic()
        for connection in self._connected:
            if connection.is_due_for_ping(now):
                connection.send(None)
            elif not connection.stalled and connection.unanswered_s(now) > STALL_S:
                connection.stalled = True
                self._repeat(connection)
        if self._none_answers():
            for pending in chain(self._waiting, *(connection.sent for connection in self._connected)):
                if pending and not pending.answer.done():
                    pending.answer.set_exception(NoAnswer(self._silence()))
        self.dispatch()

    def silent_s(self, socket: Path) -> float | None:
        """Return how long the worker at `socket` has owed an answer, in s; None: it is not connected."""
        now = time.monotonic()
        found = (each.unanswered_s(now) for each in self._connected if self._sockets[each.turn] == socket)
        return next(found, None)

    def _repeat(self, connection: WorkerConnection) -> None:
        unanswered = [pending for pending in connection.sent if pending and not pending.answer.done()]
        again = [each for each in unanswered if not each.repeated and each.request.arm is not Arm.SHADOW]
        for pending in again:
            pending.repeated = True
        self._waiting.extendleft(reversed(again))

    def _none_answers(self) -> bool:
        now = time.monotonic()
        return bool(self._connected) and all(each.unanswered_s(now) > self._health_s for each in self._connected)

    def _silence(self) -> str:
        return f"Expected an answer of a worker within {self._health_s:g} s, got none of any; retry"

    async def _keep(self, socket: Path, turn: int) -> None:
        """Keep a connection to the worker at `socket`, and then to each replacement."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                _, connection = await loop.create_unix_connection(partial(WorkerConnection, self, turn), str(socket))
                await connection.lost.wait()
            await asyncio.sleep(RETRY_S)
