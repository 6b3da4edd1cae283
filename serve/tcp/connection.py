"""One client's TCP connection: limits of what is parsed, deadlines, refusals.

uvicorn's HTTP protocols bound neither the size of a request's head nor the time that it takes, and start the
application before the body is there. `Connection` sits between the transport and uvicorn's protocol: it parses the
bytes first, and passes on whole requests within the limits, each when the one before is answered.
"""

import asyncio
import time
from collections import deque
from http import HTTPStatus
from itertools import islice
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lstm_ts.http_schema import Refusal
from serve.middleware import choose_request_id, log_refusal
from serve.tcp.connections import UNFINISHED, Connections, Phase, Violation
from serve.tcp.request_parser import RequestParser

SLICE = 16384  # bytes parsed at a time: what is over a limit is noticed at the end of its slice
PIPELINED = 32  # requests of one connection that may wait for their answers
LINGER_S = 1.0  # after a refusal: closing at once, with bytes unread, would discard the reply


class TransportProxy(asyncio.Transport):
    """The transport of uvicorn's protocol: its `Connection` decides what is read and how the socket closes."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        super().__init__()
        self._transport, self._connection = transport, connection
        self.get_extra_info, self.is_closing = transport.get_extra_info, transport.is_closing  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():  # uvicorn's protocol learns of a hang-up a moment later
            self._transport.write(data)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self._connection.close()


class Connection(asyncio.Protocol):
    """One client's connection, `connection` in the scope's state; the application calls `answered` after a reply."""

    def __init__(self, connections: Connections, *, app_state: dict[str, Any], **arguments: Any) -> None:
        self._connections, self._limits = connections, connections.limits
        self._uvicorn: HttpToolsProtocol | None = HttpToolsProtocol(
            app_state=app_state | {"connection": self}, **arguments
        )
        self._loop = asyncio.get_running_loop()
        self.phase, self.address = Phase.IDLE, ""
        self._since = self._sending_since = time.monotonic()
        self._parser = RequestParser(connections.limits, body_limit_bytes=connections.body_limit_bytes)
        self._waiting: deque[bytes] = deque()  # whole requests that wait until the one before is answered
        self._answering_bytes = 0  # size of the request that the application has; 0: none
        self._held_bytes, self._sending = 0, False
        self._violation: Violation | None = None  # behind requests that are answered first
        self._has_ended = False  # the client sends no more

    # asyncio's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        refusal = self._connections.admit(self)
        assert self._uvicorn
        self._uvicorn.connection_made(TransportProxy(self._transport, self))
        if refusal:
            self._refuse(refusal, may_reply=True)

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.CLOSING or self._violation:
            return
        for start in range(0, len(data), SLICE):
            self._feed(data[start : start + SLICE])
            if self._uvicorn is None:
                return
            if self._violation:
                break
        if self._waiting and not self._transport.is_closing():
            self._transport.pause_reading()
        self._settle()

    def eof_received(self) -> bool:
        """Keep the connection open while answers are due: the client may still read."""
        self._has_ended = True
        return self.phase is not Phase.CLOSING and not self._all_answered()

    def pause_writing(self) -> None:
        self._sending = True
        self._settle()
        if self._uvicorn:
            self._uvicorn.pause_writing()

    def resume_writing(self) -> None:
        self._sending = False
        self._settle()
        if self._uvicorn:
            self._uvicorn.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    # requests

    def _feed(self, piece: bytes) -> None:
        may_reply = self._all_answered()
        self._waiting += self._parser.feed(piece)
        self._violation = self._parser.violation
        if len(self._waiting) > PIPELINED:
            text = f"Expected at most {PIPELINED} requests ahead of their answers, got more; read the answers"
            self._violation = Violation(400, "pipelined", text)
            self._waiting = deque(islice(self._waiting, PIPELINED))
        if not self._violation and (too_much := self._hold()):
            self._refuse(too_much, may_reply=may_reply)
        else:
            self._answer_next()

    def _answer_next(self) -> None:
        if self._uvicorn and self._waiting and not self._answering_bytes:
            request = self._waiting.popleft()
            self._answering_bytes = len(request)
            self._uvicorn.data_received(request)
        elif self._violation and self._all_answered():
            self._refuse(self._violation, may_reply=True)
        elif self._has_ended and self._all_answered():
            self.close()

    def answered(self) -> None:
        """Start the next request once uvicorn's protocol has finished this one too."""
        self._answering_bytes = 0
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._uvicorn and not self._transport.is_closing():
            self._answer_next()
            if self._uvicorn:
                if not self._waiting and not self._violation:
                    self._transport.resume_reading()
                self._hold()
                self._settle()

    def _all_answered(self) -> bool:
        return not self._answering_bytes and not self._waiting

    def _hold(self) -> Violation | None:
        """Count the bytes of unanswered requests."""
        held = self._parser.held_bytes + self._answering_bytes + sum(map(len, self._waiting))
        more, self._held_bytes = held - self._held_bytes, held
        return self._connections.hold(self, more)

    def _settle(self) -> None:
        """Update the phase after an event that may change it."""
        if self.phase is Phase.CLOSING or self._uvicorn is None:
            return
        unfinished = self._parser.reading or Phase.IDLE
        phase = Phase.SENDING if self._sending else unfinished if self._all_answered() else Phase.ANSWERING
        if phase is not self.phase:
            self._connections.move(self, phase)
            self.phase, self._since = phase, time.monotonic()
        if phase is Phase.BODY and self._parser.takes_expectation():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # the end

    def check_deadline(self, now: float) -> None:
        limits, waited_s = self._limits, now - self._since
        if not self._transport.get_write_buffer_size():
            self._sending_since = now
        elif now - self._sending_since > limits.send_s:
            self._connections.count_refusal("send_timeout", self.address)
            self._leave()
            self._transport.abort()
            return
        match self.phase:
            case Phase.CLOSING if waited_s > LINGER_S:
                self._transport.abort()
            case Phase.IDLE if waited_s > (limits.idle_s if self._parser.begun else limits.header_s):
                if not self._parser.begun:
                    self._connections.count_refusal("no_request", self.address)
                self.close()
            case Phase.HEADERS if waited_s > limits.header_s:
                text = f"Expected all headers within {limits.header_s:g} s, got a part of them; send them at once"
                self._refuse(Violation(408, "header_timeout", text), may_reply=self._all_answered())
            case Phase.BODY if waited_s > limits.body_deadline_s(self._parser.body_bytes()):
                rate = f"{limits.body_bytes_per_s:g} bytes/s"
                text = f"Expected the body within {limits.body_s:g} s, or at {rate}, got a part of it; send it again"
                self._refuse(Violation(408, "body_timeout", text), may_reply=self._all_answered())

    def evict(self, kind: str) -> None:
        """Close, to make room for another connection."""
        if self.phase is not Phase.CLOSING:  # else it was counted already
            self._connections.count_refusal(kind, self.address)
        if self.phase in UNFINISHED and self._all_answered():
            self._reply(Violation(503, kind, "Expected fewer connections at a time, got too many; retry"))
        self._leave()
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def close(self, *, more_may_come: bool = False) -> None:
        """Close at once if no bytes are expected; otherwise keep reading for a while, so that the reply arrives."""
        if self.phase is Phase.CLOSING:
            return
        unread = (more_may_come or self._parser.reading) and self._transport.can_write_eof()
        self._connections.move(self, Phase.CLOSING)
        self.phase, self._since = Phase.CLOSING, time.monotonic()
        self._end()
        if unread and not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def _refuse(self, violation: Violation, *, may_reply: bool) -> None:
        self._connections.count_refusal(violation.kind, self.address)
        if may_reply:
            self._reply(violation)
        self.close(more_may_come=True)

    def _reply(self, violation: Violation) -> None:
        status, request_id = HTTPStatus(violation.status), choose_request_id(self._parser.request_ids)
        body = Refusal(reason=violation.reason, request_id=request_id).model_dump_json().encode()
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        told = head % (status, status.phrase.encode(), len(body), request_id.encode())
        self._transport.write(told + b"connection: close\r\n\r\n" + body)
        log_refusal({"request_id": request_id, "route": "other", "status": status}, violation.reason, self.address)

    def _leave(self) -> None:
        self._connections.leave(self)
        self.phase = Phase.CLOSING
        self._end()

    def _end(self) -> None:
        """Drop all requests; report a lost connection to uvicorn's protocol, once, which stops its timer."""
        self._waiting.clear()
        self._connections.hold(self, -self._held_bytes)
        self._held_bytes = 0
        if self._uvicorn:
            uvicorn, self._uvicorn = self._uvicorn, None
            uvicorn.connection_lost(None)
