"""A connection to TWS that accepts an answer only if it is complete and no error message came meanwhile.

The client (ib_insync.IB, or ib_async.IB) is driven through its asynchronous calls, on an event loop of this module: the
calling thread need not have one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from lstm_ts.sources.ib.errors import Action, explain, place
from lstm_ts.sources.retries import RetryableError

Result = TypeVar("Result")


class TwsError(Exception):
    """TWS answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"error {code}: {text}")
        self.code = code
        self.text = text


class TwsConnection:
    def __init__(self, ib: Any) -> None:
        self.ib = ib
        self.observer = uuid4().hex[:12]
        self.closed = False
        self.down: set[str] = set()  # servers that TWS cannot reach: "IB", or names of data farms
        self.unsure = True  # new, or back after an outage, and IB's clock not checked since
        self._connected = False
        self._history = False  # whether the current request is for history
        self._error: TwsError | None = None
        self._before = -1  # the highest id of a finished request
        self._why = ""
        self._interrupted = asyncio.Event()
        self._restored = asyncio.Event()
        ib.errorEvent += self._on_error
        ib.client.apiError += self._hang_up

    async def connect(self, host: str, port: int, client_id: int, timeout_s: float) -> None:
        """Connect without the other requests of `IB.connect`: positions, orders and executions.

        Raises    TwsError; OSError, TimeoutError: no TWS at the address
        """
        connected = asyncio.ensure_future(self.ib.client.connectAsync(host, port, client_id, timeout_s))
        await self._first(connected, timeout_s + 1)
        if self._error:
            raise self._error
        if not connected.done() or connected.cancelled():
            raise ConnectionAbortedError(self._why or "no greeting")
        await connected
        self._connected = True

    def away(self, *, history: bool) -> set[str]:
        """Return the unreachable servers that a request needs: only history comes from a data farm."""
        return self.down if history else self.down & {"IB"}

    async def ask(self, start: Callable[[], Awaitable[Result]], *, timeout_s: float, history: bool = False) -> Result:
        """Await an answer.    Raises    TwsError; RetryableError: no answer, or an error message disturbed it"""
        if away := self.away(history=history):
            raise RetryableError(f"{', '.join(sorted(away))} is unreachable")
        self._error, self._why, self._history = None, "", history
        self._interrupted.clear()
        try:
            self._before = self.ib.client.getReqId()
            answer: asyncio.Future[Result] = asyncio.ensure_future(start())
            await self._first(answer, timeout_s)
            if self._error:
                raise self._error
            if self._interrupted.is_set():
                raise RetryableError(self._why)
            if not answer.done() or answer.cancelled():
                if history:
                    self.ib.client.cancelHistoricalData(self._before + 1)
                raise RetryableError(f"no answer within {timeout_s:g} s")
            return answer.result()
        except ConnectionError as error:
            self.closed = True
            raise RetryableError(f"the connection was lost: {error}") from None
        finally:
            self._before = self._before + 1

    async def wait_restored(self, timeout_s: float) -> bool:
        """Wait until IB is back; return whether it is. A farm that stays down is forgotten: it may not be needed."""
        self._restored.clear()
        if self.down and not self.closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._restored.wait(), timeout_s)
        if "IB" not in self.down:
            self.down.clear()
        return not self.down and not self.closed

    async def _first(self, answer: "asyncio.Future[Any]", timeout_s: float) -> None:
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({answer, interrupted}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()
            if not answer.done():
                answer.cancel()
                await asyncio.wait({answer}, timeout=1)
            if answer.done() and not answer.cancelled():
                answer.exception()  # retrieved, since asyncio warns about an exception that never was

    def _on_error(self, request: int, code: int, text: str, *_: object) -> None:
        meaning, what = explain(code, text), place(code, text)
        if meaning.action is Action.UP:
            self._restore(what)
        elif meaning.action is Action.DOWN:
            self.down.add(what)
            if self._connected and what in self.away(history=self._history):
                self._interrupt(text)
        elif request > self._before or meaning.action is Action.NEXT_ID or code in (100, 503):
            if meaning.action is not Action.INFORM:
                self._error = TwsError(code, text)
                self._interrupt(text)
        elif request == -1 and meaning.action is Action.LOST:
            self.closed = True
            self._interrupt(text)
        elif request == -1 and meaning.action is Action.PROBE and self._history:
            self._interrupt(text)

    def _restore(self, what: str) -> None:
        self.unsure |= bool(self.down)
        self.down = set() if what == "IB" else self.down - {what}
        if not self.down:
            self._restored.set()

    def _hang_up(self, why: str) -> None:
        self.closed = True
        self._interrupt(why or "the connection was closed")
        self._restored.set()

    def _interrupt(self, why: str) -> None:
        self._why = self._why or why
        self._interrupted.set()


class EventLoopRunner:
    """Opens connections, and runs their coroutines to completion on its own event loop."""

    def __init__(self, client: Callable[[], Any], host: str, port: int, connect_s: float) -> None:
        self._client = client
        self._host, self._port, self._connect_s = host, port, connect_s
        self._runner: asyncio.Runner | None = None

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._runner is None:
            self._runner = asyncio.Runner()  # the client uses the thread's loop; Ctrl-C cancels the coroutine
        return self._runner.run(work)

    def sleep(self, seconds: float) -> None:
        """Sleep, and handle the connection's messages meanwhile."""
        if seconds > 0:
            self.run(asyncio.sleep(seconds))

    def connect(self, client_id: int) -> TwsConnection:
        async def make() -> TwsConnection:
            line = TwsConnection(self._client())
            try:
                await line.connect(self._host, self._port, client_id, self._connect_s)
            except BaseException:
                line.ib.client.disconnect()
                raise
            return line

        return self.run(make())

    def close(self, line: TwsConnection | None) -> None:
        if self._runner is None:
            return
        if line is not None:
            line.ib.disconnect()
        self.run(self._end_tasks())
        self._runner.close()
        self._runner = None

    async def _end_tasks(self) -> None:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
