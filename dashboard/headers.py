"""Response headers for browsers: no content of other hosts, no display in frames, cookies for this site only."""

from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.web import OutputTransform, RequestHandler

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
