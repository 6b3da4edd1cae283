"""A receiver of alerts on loopback, as `json://127.0.0.1:PORT` reaches it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[dict[str, Any]] = []  # bodies of messages that it took
        self.asked = 0
        self.status = 200
        self.answering = threading.Event()  # cleared: messages arrive, and wait for an answer
        self.answering.set()

    @property
    def url(self) -> str:
        """The path and the query hold secrets."""
        return f"json://operator:hunter2@127.0.0.1:{self.port}/path-secret?+X-Token=header-secret"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]


SECRETS = ("hunter2", "path-secret", "header-secret")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Whoever asked has gone, or was killed."""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server of it on loopback: its port."""
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def open_webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.asked += 1
            if not hook.answering.wait(20):
                return
            if hook.status == 200:
                hook.received.append(body)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with answering(Handler) as port:
        hook = Webhook(port)
        try:
            yield hook
        finally:
            hook.answering.set()
