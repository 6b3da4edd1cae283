"""The worker's end of the sockets; it answers in the order of requests, so answers need no number."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

from serve.settings import WorkerAnswer, WorkerRequest
from serve.workers.frames import PING, Frames, read_request, write_answer


class WorkerProtocol(asyncio.Protocol):
    """One connection of the worker, which answers one request at a time over all connections."""

    def __init__(
        self,
        answer: Callable[[WorkerRequest], WorkerAnswer],
        connected: set["WorkerProtocol"],
        lost: Callable[[], None],
    ) -> None:
        self._answer, self._connected, self._lost, self._frames = answer, connected, lost, Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._connected.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connected.remove(self)
        self._lost()

    def data_received(self, data: bytes) -> None:
        for head, body in self._frames.feed(data):
            self._transport.write(write_answer(self._answer(read_request(head, body))) if head else PING)


def answer_until_sigterm(socket: Path, answer: Callable[[WorkerRequest], WorkerAnswer]) -> None:
    """Answer until SIGTERM, then until no client is connected: HTTP processes drain first, whoever gets SIGTERM."""

    async def listen() -> None:
        loop, stopping, idle = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        connected: set[WorkerProtocol] = set()

        def check_idle() -> None:
            if stopping.is_set() and not connected:
                idle.set()

        def stop() -> None:
            stopping.set()
            check_idle()

        loop.add_signal_handler(signal.SIGTERM, stop)
        socket.unlink(missing_ok=True)  # left by the previous worker
        server = await loop.create_unix_server(lambda: WorkerProtocol(answer, connected, check_idle), socket)
        await idle.wait()
        server.close()  # referenced until here: uvloop closes an unreferenced server

    uvloop.run(listen())
