"""The line to the clients: listening, connections, and the outages that all of them live through."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from . import answers

PIECES = 50  # of a slow answer
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(eq=False)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    client: int | None = None  # once it has said its id
    asked: deque[float] = field(default_factory=deque)  # when the last messages came
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    histories: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # those in work, by request

    async def send(self, data: bytes) -> None:
        async with self.lock:
            self.writer.write(data)
            await self.writer.drain()

    async def send_slowly(self, data: bytes, seconds: float) -> None:
        size = max(1, -(-len(data) // PIECES))
        async with self.lock:
            for at in range(0, len(data), size):
                self.writer.write(data[at : at + size])
                await self.writer.drain()
                await asyncio.sleep(seconds / PIECES)

    async def cut(self, data: bytes) -> None:
        async with self.lock:
            self.writer.write(data[: len(data) // 2])
            await self.writer.drain()
            self.writer.close()

    def close(self) -> None:
        for task in self.histories.values():
            task.cancel()
        self.writer.close()


@dataclass(frozen=True)
class Outage:
    """IB's servers or farms are away; what is asked meanwhile is answered late, or never."""

    before: tuple[answers.Message, ...]
    after: tuple[answers.Message, ...]
    answers: bool
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lost(self) -> bool:
        return answers.LOST in self.before


OUTAGES = {
    "data_lost": ((answers.LOST,), (answers.DATA_LOST,), False),
    "maintained": ((answers.LOST,), (answers.MAINTAINED,), True),
    "farms": (answers.FARMS_BROKEN, answers.FARMS_OK, True),
}


class Line:
    """`outage_s` is how long what comes back stays away, and how long a slow answer takes."""

    def __init__(self, accept: Accept, *, outage_s: float) -> None:
        self.accept = accept
        self.outage_s = outage_s
        self.connections: set[Connection] = set()
        self.port = 0
        self.outage: Outage | None = None
        self.asleep = False  # the data farm is inactive
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def away(self) -> bool:
        return self._listener is None

    async def listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(self.accept, "127.0.0.1", port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._listener:
            self._listener.close()
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)

    async def tell_all(self, *messages: answers.Message) -> None:
        for connection in [one for one in self.connections if one.client is not None]:
            with suppress(ConnectionError):
                await connection.send(b"".join(map(answers.notice, messages)))

    def tell_later(self, connection: Connection, seconds: float, message: answers.Message) -> None:
        async def tell() -> None:
            await asyncio.sleep(seconds)
            with suppress(ConnectionError):
                await connection.send(answers.notice(message))

        self._background(tell())

    async def wake(self) -> None:
        if self.asleep:
            self.asleep = False
            await self.tell_all(answers.FARMS_OK[1])

    def go_away(self, *, abort: bool) -> None:
        """End every connection and refuse new ones for a while."""
        if self._listener:
            self._listener.close()
            self._listener = None
            self._background(self._come_back())
        for connection in list(self.connections):
            if abort:
                connection.writer.transport.abort()
            else:
                connection.writer.close()

    async def reset(self) -> None:
        await self.tell_all(answers.LOST)
        self.go_away(abort=False)

    async def begin(self, outage: Outage) -> None:
        self.outage = outage
        self._background(self._end(outage))
        await self.tell_all(*outage.before)

    async def _come_back(self) -> None:
        await asyncio.sleep(self.outage_s)
        await self.listen(self.port)

    async def _end(self, outage: Outage) -> None:
        await asyncio.sleep(self.outage_s)
        self.outage = None
        await self.tell_all(*outage.after)
        outage.over.set()

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
