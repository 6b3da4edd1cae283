"""Middleware of every request: its id, its count, its line in the log."""

import logging
import re
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstm_ts.logs import RateLimit, audit, log_context
from lstm_ts.monitoring.service_counters import ROUTES
from serve.metrics import FAILED, REQUEST_SECONDS, REQUESTS
from serve.platforms import COUNTED_AS, HEALTH_ROUTES

PROBES = ("/health", "/metrics", *HEALTH_ROUTES)  # polled every few seconds, by machines
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PAGE_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; worker-src blob:; frame-ancestors 'none'"
)

REFUSALS = RateLimit(10)  # a minute, status and kind of route

log = logging.getLogger(__name__)


class Counted:
    """ASGI middleware: gives each request its id; counts, times and logs its answer. HEAD is answered as GET.

    The server sends no body in answer to HEAD: it keeps the method that came.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        state = scope.setdefault("state", {})
        connection = state.pop("connection", None)
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        state |= {"request_id": choose_request_id(given), "version": "", "arm": "", "symbol": "", "fell_back": ""}
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", state["request_id"].encode())]
                if (b"content-type", b"text/html; charset=utf-8") in message["headers"]:
                    message["headers"] += [(b"content-security-policy", PAGE_POLICY)]
            await send(message)

        try:
            with log_context(request_id=state["request_id"]):
                await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - start
            counted_as = COUNTED_AS.get(route, route)
            REQUESTS.labels(counted_as, status, state["arm"], state["symbol"], state["version"]).inc()
            REQUEST_SECONDS.labels(counted_as).observe(seconds)
            if status >= 500 and counted_as in ROUTES:
                FAILED.labels(counted_as).inc()
            facts = {name: state[name] for name in ("request_id", "symbol", "version", "arm", "fell_back")}
            facts |= {"route": route, "status": status, "ms": round(seconds * 1000, 3)}
            if 400 <= status < 500 or status == 503:
                peer = connection.address if connection else ""
                log_refusal(facts, str(state.get("reason", "refused")), _address(scope, peer))
            else:
                quiet = route in PROBES and status == 200
                log.log(logging.DEBUG if quiet else logging.INFO, "answered", extra={"event": "answered", **facts})
            if connection:
                connection.answered()


def _address(scope: Scope, peer: str) -> str:
    """Return the client's address, which a proxy may have told; the peer's if what it has told is none."""
    told = str((scope.get("client") or ("",))[0])
    try:
        return str(ip_address(told.partition("%")[0]))  # behind % stands any text
    except ValueError:
        return peer


def log_refusal(facts: dict[str, Any], reason: str, address: str) -> None:
    """Log a refusal, but only a few a minute of each status, so that repeated refusals fill no disk.

    Those without a route, of strangers and of connections, leave out none of the routes'.
    """
    probe = facts["route"] in PROBES
    if (left_out := REFUSALS.admit((facts["status"], probe, facts["route"] == "other"))) is None:
        return
    if probe:
        log.info("answered", extra={"event": "answered", "left_out": left_out, **facts})
    else:
        audit("request_refused", reason, level=logging.WARNING, address=address, left_out=left_out, **facts)


def choose_request_id(given: Sequence[bytes]) -> str:
    """Return the request's id from the client or the proxy if there is one and it is well-formed, else a new one."""
    texts = [value.decode("latin-1") for value in given]
    return texts[0] if len(texts) == 1 and REQUEST_ID.fullmatch(texts[0]) else str(uuid4())
