"""The bytes of one connection → whole requests within the limits, or the first violation."""

import httptools

from serve.tcp.connections import Phase, Violation
from serve.tcp.limits import Limits


class RequestParser:
    """Keeper of whole requests, without trailers, `Expect` and `Upgrade`; httptools calls the `on_…` methods."""

    def __init__(self, limits: Limits, *, body_limit_bytes: int) -> None:
        self._limits, self._body_limit_bytes = limits, body_limit_bytes
        self.begun = 0  # requests
        self.reading: Phase | None = None  # HEADERS or BODY of a request that is not whole
        self.held_bytes = 0  # of that request
        self.request_ids: list[bytes] = []  # that the headers of the last request give it
        self.violation: Violation | None = None
        self._whole: list[bytes] = []
        self._begin()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def _begin(self) -> None:
        self._url, self._head, self._body, self.request_ids = b"", bytearray(), bytearray(), []
        self._headers, self._header_bytes, self._overhead_bytes = 0, 0, 0
        self._length, self._coded, self._expects, self._hosts = 0, False, False, 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the requests that `piece` completes; `violation` is set if anything is wrong with what follows."""
        counted = self.begun + (self.reading is None)  # what begins later in this piece is counted from the next
        self._whole, self._piece_body_bytes = [], 0
        try:
            self._parse(piece)
        except httptools.HttpParserError as error:
            self._violate(400, "malformed", f"Expected an HTTP/1.1 request, got another: {error}; correct the client")
        if self.begun <= counted:
            self._overhead_bytes += len(piece) - self._piece_body_bytes
            self._check_header_bytes(self._overhead_bytes)
            if self._overhead_bytes > self._limits.header_bytes:
                self._whole = []
        self.held_bytes = self.held_bytes + len(piece) if self.reading else 0
        return self._whole

    def _parse(self, piece: bytes) -> None:
        """Raises    httptools.HttpParserError"""
        while piece and not self.violation:
            try:
                self._parser.feed_data(piece)
                return
            except httptools.HttpParserUpgrade as upgrade:
                piece = piece[upgrade.args[0] :]  # at which the parser stops
            if (self._length or self._coded) and not self.violation:  # of which the parser makes the next request
                text = "Expected a request without Upgrade, got one with a body; set the client to HTTP/1.1"
                self._violate(400, "upgrade", text)
                self._whole.pop()

    def takes_expectation(self) -> bool:
        """Return whether the client waits for `100 Continue` before it sends its body; True once a request."""
        expects, self._expects = self._expects and self.reading is Phase.BODY and not self._body, False
        return expects

    # httptools' interface

    def on_message_begin(self) -> None:
        self.begun += 1
        self._begin()
        self.reading = Phase.HEADERS

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.url_bytes:
            self._violate(414, "url", f"Expected a URL of at most {self._limits.url_bytes} bytes, got more; shorten it")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._headers > self._limits.headers:
            self._violate(431, "headers", f"Expected at most {self._limits.headers} headers, got more; send fewer")
        self._check_header_bytes(self._header_bytes)
        if self.reading is Phase.HEADERS:  # else it is a trailer
            self._keep(name, value)

    def _keep(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"expect":
                self._expects = value.lower() == b"100-continue"
                return
            case b"upgrade":  # uvicorn logs each
                return
            case b"host":
                self._hosts += 1
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._coded = True
            case b"x-request-id":
                self.request_ids.append(value)
        self._head += b"%b: %b\r\n" % (name, value)

    def on_headers_complete(self) -> None:
        self.reading = Phase.BODY
        self._version = self._parser.get_http_version()
        if self._version not in ("1.0", "1.1"):
            self._violate(505, "version", f"Expected HTTP/1.1, got {self._version}; set the client to HTTP/1.1")
        self._expects = self._expects and self._version != "1.0"
        if self._hosts > 1 or not (self._hosts or self._version == "1.0"):
            self._violate(400, "malformed", f"Expected one header Host, got {self._hosts}; correct the client")
        try:
            path = httptools.parse_url(self._url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if path is None or self._parser.get_method() == b"CONNECT":
            self._violate(400, "malformed", "Expected a path in the request line, got another target; see /docs")
        self._check_body(self._length)

    def on_body(self, body: bytes) -> None:
        self._body += body
        self._piece_body_bytes += len(body)
        self._check_body(len(self._body))

    def on_message_complete(self) -> None:
        self.reading, self.held_bytes = None, 0
        if self.violation:
            return
        line = b"%b %b HTTP/%b\r\n" % (self._parser.get_method(), self._url, self._version.encode())
        self._whole.append(b"".join([line, self._head, b"\r\n", self._framed_body()]))

    def _framed_body(self) -> bytes:
        """Frame the body as the headers say: as one chunk, or plainly."""
        if not self._coded:
            return bytes(self._body)
        chunk = b"%x\r\n%b\r\n" % (len(self._body), bytes(self._body)) if self._body else b""
        return chunk + b"0\r\n\r\n"

    def body_bytes(self) -> int:
        """Return the number of body bytes of the unfinished request."""
        return len(self._body)

    # the limits

    def _check_header_bytes(self, count: int) -> None:
        if count > self._limits.header_bytes:
            text = f"Expected at most {self._limits.header_bytes} bytes of headers, got more; send fewer"
            self._violate(431, "header_bytes", text)

    def _check_body(self, count: int) -> None:
        if count > self._body_limit_bytes:
            text = f"Expected a body of at most {self._body_limit_bytes} bytes, got more; send fewer bars"
            self._violate(413, "body", text)

    def _violate(self, status: int, kind: str, reason: str) -> None:
        self.violation = self.violation or Violation(status, kind, reason)
