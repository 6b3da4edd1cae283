"""Place where new code is tried beside the running code: its interface, constants, and HTTP requests."""

import http.client
import os
import re
import urllib.error
import urllib.request
import uuid
from typing import Protocol

OLD, NEW = "old", "new"
SHARE = 0.05  # of the requests, while the new version is watched
READY_S, END_S = 180, 90
TIMEOUT_S = 20
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # by no proxy of the environment


class Place(Protocol):
    def start(self, version: str) -> None: ...
    def ask(self, which: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer; 0 for none."""

    def scrape(self, which: str) -> dict[str, str]:
        """Return the text of /metrics by replica, without replicas that do not answer."""

    def promote(self) -> None: ...
    def back(self) -> None: ...


def fetch(port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Return status and body of an answer on a local port, 0 for none; the API key is read from LSTM_TS_API_KEY."""
    headers = {"Content-Type": "application/json", "X-API-Key": read_key(), **name_probe()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with DIRECTLY.open(request, timeout=TIMEOUT_S) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def name_probe() -> dict[str, str]:
    """Return the header by which the monitor does not compare a request with the store: its bars may be invented."""
    return {"X-Request-Id": f"probe-{uuid.uuid4().hex}"}


def read_key() -> str:
    """Return the bytes of LSTM_TS_API_KEY as a header's text, empty for none.    Raises    SystemExit"""
    key = os.fsencode(os.environ.get("LSTM_TS_API_KEY", "")).strip().decode("latin-1")
    if re.search(r"[\x00-\x1f\x7f]", key):
        raise SystemExit("Expected LSTM_TS_API_KEY as one line, got control characters in it; correct it")
    return key
