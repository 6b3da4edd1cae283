"""One client's TCP connection: limits of what is parsed, deadlines, refusals.

uvicorn's HTTP protocols bound neither the size of a request's head nor the time that it takes. `Connection` stands
between the transport and uvicorn's protocol: it parses the bytes first, and passes on what is within the limits.
"""

import asyncio
import time
from typing import Any, cast
from uuid import uuid4

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.connections import UNFINISHED, Connections, Phase, Violation
from serve.schema import Refusal

SLICE = 16384  # bytes parsed at a time: what is over a limit is noticed at the end of its slice
PIPELINED = 32  # requests of one connection that may wait for their answers
LINGER_S = 1.0  # after a refusal: closing at once, with bytes unread, would discard the reply
PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


def protocol_of(connections: Connections) -> type[asyncio.Protocol]:
    """For uvicorn's option `http`."""

    class Limited(Connection):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(connections, **arguments)

    return Limited


class GentleTransport(asyncio.Transport):
    """What uvicorn's protocol is given as its transport: closing goes by way of the `Connection`."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        super().__init__()
        self._transport, self._connection = transport, connection
        self.write, self.get_extra_info = transport.write, transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading, self.resume_reading = (  # type: ignore[method-assign]
            transport.pause_reading,
            transport.resume_reading,
        )
        self.is_closing = transport.is_closing  # type: ignore[method-assign]

    def close(self) -> None:
        self._connection.close()


class Connection(asyncio.Protocol):
    """One client's; `answered` is called by the application, which finds it as `connection` in the scope's state."""

    def __init__(self, connections: Connections, *, app_state: dict[str, Any], **arguments: Any) -> None:
        self._connections, self._limits = connections, connections.limits
        self._uvicorn: HttpToolsProtocol | None = HttpToolsProtocol(
            app_state=app_state | {"connection": self}, **arguments
        )
        self.phase, self.address = Phase.IDLE, ""
        self._since = self._sending_since = time.monotonic()
        self._reading: Phase | None = None  # HEADERS or BODY
        self._violation: Violation | None = None
        self._requests = self._pending = self._held_bytes = 0
        self._sending = False
        self._begin()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def _begin(self) -> None:
        self._url, self._headers, self._header_bytes, self._overhead_bytes, self._body_bytes = b"", 0, 0, 0, 0
        self._has_body = False

    # asyncio's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        refusal = self._connections.admit(self)
        assert self._uvicorn
        self._uvicorn.connection_made(GentleTransport(self._transport, self))
        if refusal:
            self._refuse(refusal, may_reply=True)

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.CLOSING:
            return
        for start in range(0, len(data), SLICE):
            self._feed(data[start : start + SLICE])
            if self._uvicorn is None:
                return
        self._settle()

    def eof_received(self) -> None:
        if self._uvicorn:
            self._uvicorn.eof_received()

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
        self._leave(error)

    # httptools' interface

    def on_message_begin(self) -> None:
        self._requests += 1
        self._begin()
        self._reading, self._since = Phase.HEADERS, time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.url_bytes:
            self._violate(414, "url", f"Expected a URL of at most {self._limits.url_bytes} bytes, got more; shorten it")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._header_bytes += len(name) + len(value) + 4
        self._has_body |= name.lower() in (b"content-length", b"transfer-encoding")
        if self._headers > self._limits.headers:
            self._violate(431, "headers", f"Expected at most {self._limits.headers} headers, got more; send fewer")
        elif self._header_bytes > self._limits.header_bytes:
            self._violate_header_bytes()

    def on_headers_complete(self) -> None:
        self._pending += 1
        self._reading, self._since = Phase.BODY, time.monotonic()
        try:
            path = httptools.parse_url(self._url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if path is None:
            self._violate(400, "malformed", "Expected a path in the request line, got another target; see /docs")
        if self._pending > PIPELINED:
            self._violate(400, "pipelined", f"Expected at most {PIPELINED} requests ahead of their answers, got more")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._slice_body_bytes += len(body)

    def on_message_complete(self) -> None:
        self._reading = None

    # the application's

    def answered(self) -> None:
        """Count one request as answered."""
        self._pending -= 1
        self._settle()

    # the limits

    def _feed(self, piece: bytes) -> None:
        last_counted = self._requests + (
            self._reading is None
        )  # what begins later in this slice is counted from the next
        self._slice_body_bytes, may_reply = 0, self._may_reply()
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self._has_body:  # of which the parser makes the next request
                text = "Expected a request without Upgrade, got one with a body; set the client to HTTP/1.1"
                self._violate(400, "upgrade", text)
        except httptools.HttpParserError as error:
            self._violate(400, "malformed", f"Expected an HTTP/1.1 request, got another: {error}; correct the client")
        if self._requests <= last_counted:
            self._overhead_bytes += len(piece) - self._slice_body_bytes
            if self._overhead_bytes > self._limits.header_bytes:
                self._violate_header_bytes()
        self._hold(len(piece))
        if self._violation:
            self._refuse(self._violation, may_reply=may_reply)
        elif self._reading is Phase.BODY and not self._pending and self._is_over_body_limit():
            self.close()  # it is answered, and goes on all the same
        elif self._uvicorn:
            self._uvicorn.data_received(piece)

    def _is_over_body_limit(self) -> bool:
        return self._body_bytes > self._connections.body_limit_bytes

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        self._violation = self._connections.hold(self, count) or self._violation

    def _release(self) -> None:
        self._connections.hold(self, -self._held_bytes)
        self._held_bytes = 0

    def _violate(self, status: int, kind: str, reason: str) -> None:
        self._violation = self._violation or Violation(status, kind, reason)

    def _violate_header_bytes(self) -> None:
        text = f"Expected at most {self._limits.header_bytes} bytes of headers, got more; send fewer"
        self._violate(431, "header_bytes", text)

    def _settle(self) -> None:
        """Find the phase again, after whatever may have changed it."""
        if self.phase is Phase.CLOSING or self._uvicorn is None:
            return
        waiting = Phase.ANSWERING if self._pending else Phase.IDLE
        phase = Phase.SENDING if self._sending else self._reading or waiting
        if phase is Phase.IDLE:
            self._release()
        if phase is not self.phase:
            self._connections.move(self, phase)
            self.phase = phase
            if phase is Phase.IDLE:
                self._since = time.monotonic()

    # the end

    def check_deadline(self, now: float) -> None:
        limits, waited_s = self._limits, now - self._since
        if not self._transport.get_write_buffer_size():
            self._sending_since = now
        elif now - self._sending_since > limits.send_s:
            self._connections.count_refusal("send_timeout", self.address)
            self._leave(None)
            self._transport.abort()
            return
        match self.phase:
            case Phase.CLOSING if waited_s > LINGER_S:
                self._transport.abort()
            case Phase.IDLE if waited_s > (limits.idle_s if self._requests else limits.header_s):
                if not self._requests:
                    self._connections.count_refusal("no_request", self.address)
                self.close()
            case Phase.HEADERS if waited_s > limits.header_s:
                text = f"Expected all headers within {limits.header_s:g} s, got a part of them; send them at once"
                self._refuse(Violation(408, "header_timeout", text), may_reply=self._may_reply())
            case Phase.BODY if waited_s > limits.body_deadline_s(self._body_bytes):
                rate = f"{limits.body_bytes_per_s:g} bytes/s"
                text = f"Expected the body within {limits.body_s:g} s, or at {rate}, got a part of it; send it again"
                self._refuse(Violation(408, "body_timeout", text), may_reply=self._may_reply())

    def evict(self, kind: str) -> None:
        """Make room for another connection."""
        if self.phase is not Phase.CLOSING:  # it has been counted
            self._connections.count_refusal(kind, self.address)
        if self.phase in UNFINISHED and self._may_reply():
            self._reply(Violation(503, kind, "Expected fewer connections at a time, got too many; ask again"))
        self._leave(None)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def close(self) -> None:
        """At once where nothing more is to come; otherwise go on reading for a while, so that the reply arrives."""
        if self.phase is Phase.CLOSING:
            return
        unread = self._reading is not None and self._transport.can_write_eof() and not self._transport.is_closing()
        self._connections.move(self, Phase.CLOSING)
        self.phase, self._since = Phase.CLOSING, time.monotonic()
        self._release()
        self._end_uvicorn(None)
        if unread:
            self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def _refuse(self, violation: Violation, *, may_reply: bool) -> None:
        self._connections.count_refusal(violation.kind, self.address)
        if may_reply:
            self._reply(violation)
        self._reading = Phase.HEADERS  # more may come, whatever has come
        self.close()

    def _may_reply(self) -> bool:
        """No answer to an earlier request is due, and this one has none yet."""
        return self._pending == (1 if self._reading is Phase.BODY else 0)

    def _reply(self, violation: Violation) -> None:
        request_id = str(uuid4())
        body = Refusal(reason=violation.reason, request_id=request_id).model_dump_json().encode()
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        values = (violation.status, PHRASES[violation.status], len(body), request_id.encode())
        self._transport.write(head % values + b"connection: close\r\n\r\n" + body)

    def _leave(self, error: Exception | None) -> None:
        self._connections.leave(self)
        self.phase = Phase.CLOSING
        self._release()
        self._end_uvicorn(error)

    def _end_uvicorn(self, error: Exception | None) -> None:
        """uvicorn's protocol is told once that the client has gone; it closes its transport, which is being closed."""
        if self._uvicorn:
            uvicorn, self._uvicorn = self._uvicorn, None
            uvicorn.connection_lost(error)
