"""Response headers for browsers: no content of other hosts, no display in frames, cookies for this site only. And what
the libraries log of requests.
"""

import logging
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.web import OutputTransform, RequestHandler

from lstm_ts.logs import RateLimit

# Panel and Bokeh write scripts and styles into their pages, and make functions of text (callbacks, formatters).
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Secured(OutputTransform):
    """Transform that sets `HEADERS` on the responses of all handlers, including those of Panel and Bokeh."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class SiteCookies(RequestHandler):
    """Handler whose cookies are HttpOnly, SameSite=Lax and, if the request came over HTTPS, Secure."""

    def set_cookie(self, name: str, value: str | bytes, *args: Any, **attributes: Any) -> None:
        encrypted = self.request.protocol == "https"
        site: dict[str, Any] = {"httponly": True, "samesite": "Lax", "secure": encrypted}
        super().set_cookie(name, value, *args, **site | attributes)


class RareLines(logging.Filter):
    """Filter of a log handler: of each logger of Tornado and Bokeh ten lines a minute, since any client causes them."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit(10)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in ("tornado", "bokeh"):
            return True
        if left_out := self._limit.admit(record.name):
            record.left_out = left_out
        return left_out is not None
