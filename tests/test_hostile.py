"""Clients that send too much, too slowly, or what is no HTTP, against one real server with small limits."""

import asyncio
import json
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
import polars as pl
import pytest
import uvicorn
from processes import ROOT, WAIT_S, stopped, wait_for
from serving import Body, Server, make_servable, running
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from test_configs import compose

from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import HOUR, Session
from serve.startup import allow_connections
from serve.tcp.connection import Connection
from serve.tcp.connections import Connections

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CONNECTIONS = 40
LIMITS = (
    "workers_per_device=2", "health_s=1", "answer_s=20",
    "limits.header_s=1", "limits.body_s=1", "limits.body_bytes_per_s=10000", "limits.idle_s=1", "limits.send_s=1",
    f"limits.connections={CONNECTIONS}", "limits.pending_bytes=500000",
)  # fmt: skip
GET = b"GET /health HTTP/1.1\r\nHost: here\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: here\r\n"


@pytest.fixture(scope="module")
def folder(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_servable(tmp_path_factory.mktemp("hostile"), empty, hourly_bars, silver, source="synthetic test hours")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(Server(folder, *LIMITS)) as server:
        wait_for(lambda: server.health().ready)
        yield server


def connect(server: Server) -> socket.socket:
    url = server.client.base_url
    return socket.create_connection((url.host, url.port), timeout=5)


def read_all(client: socket.socket, within_s: float = 5) -> bytes:
    """Until the server closes."""
    until, reply = time.monotonic() + within_s, b""
    with suppress(ConnectionError):
        while time.monotonic() < until:
            client.settimeout(max(0.01, until - time.monotonic()))
            piece = client.recv(65536)
            if not piece:
                return reply
            reply += piece
    assert reply, "closed without a reply, or neither closed nor answered in time"
    return reply


def talk(server: Server, *pieces: bytes) -> bytes:
    """What the server says to these bytes before it closes."""
    with connect(server) as client:
        with suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
        return read_all(client)


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply
    return int(reply[9:12])


def read_one(replies: BinaryIO) -> bytes:
    """One whole reply of a connection that goes on, by its `makefile`."""
    head = b"".join(iter(replies.readline, b"\r\n"))
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length, head
    return head + replies.read(int(length[1]))


def refused(server: Server, reason: str) -> float:
    return server.metric(f'lstm_ts_connections_refused_total{{reason="{reason}"}}')


def wait_s(server: Server) -> float:
    """Of an honest client that connects now."""
    started = time.monotonic()
    httpx.get(f"{server.client.base_url}/info", timeout=10, trust_env=False).raise_for_status()
    return time.monotonic() - started


# Too much


TOO_MUCH = {
    "a URL": (414, "url", [b"GET /", *[b"a" * 100_000] * 100]),
    "a query": (414, "url", [b"GET /forecast?symbol=" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"]),
    "a header": (431, "header_bytes", [GET, b"X: ", *[b"a" * 100_000] * 100]),
    "a header's name": (431, "header_bytes", [GET, *[b"a" * 100_000] * 100]),
    "a header in small pieces": (431, "header_bytes", [GET, b"X: ", *[b"a" * 1000] * 100]),
    "a whole header": (431, "header_bytes", [GET, b"X: " + b"a" * 65530 + b"\r\n\r\n"]),
    "long headers": (431, "header_bytes", [GET, *[b"X: " + b"a" * 1000 + b"\r\n"] * 70]),
    "many headers": (431, "headers", [GET, b"X: 1\r\n" * 100, b"\r\n"]),
    "blank lines": (431, "header_bytes", [b"\r\n" * 40_000]),
    "a chunk's extension": (431, "header_bytes", [POST, b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 100_000]),
    "small chunks": (431, "header_bytes", [POST, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 15_000]),
    "a trailer": (431, "header_bytes", [POST, b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 80_000]),
    "many trailers": (431, "headers", [POST, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n" * 100]),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_MUCH)
def test_too_much_of_a_request_is_refused_and_closed_while_it_comes(server: Server, case: str) -> None:
    status, reason, pieces = TOO_MUCH[case]
    before = refused(server, reason)
    reply = talk(server, *pieces)
    assert status_of(reply) == status
    assert b"connection: close" in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["reason"].startswith("Expected ")
    assert refused(server, reason) == before + 1


def test_headers_up_to_the_limits_are_read(server: Server) -> None:
    url = f"{server.client.base_url}/metrics?x=" + "a" * 8170
    assert server.client.get(url).status_code == 200
    assert server.client.get("/info", headers={"X": "a" * 65_000}).status_code == 200
    assert server.client.get("/info", headers=[("X", str(n)) for n in range(90)]).status_code == 200


def test_a_flood_of_headers_neither_stops_others_nor_stays_in_memory(server: Server) -> None:
    before = resident_bytes(server)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = stack.enter_context(connect(server))
            with suppress(ConnectionError):
                client.sendall(GET + b"X: " + b"a" * 1_000_000)
        assert wait_s(server) < 1
    assert resident_bytes(server) - before < 20e6


def resident_bytes(server: Server) -> int:
    """Of the processes that speak HTTP, with what starts them."""
    speaking = {server.process.pid, *server.children()} - set(server.workers())
    found = [re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in speaking]
    return sum(1024 * int(size[1]) for size in found if size)


def test_a_body_over_the_limit_gets_its_reply_though_it_goes_on(server: Server) -> None:
    for head in (b"Content-Length: 10000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n989680\r\n"):
        for start in (POST, GET):
            assert status_of(talk(server, start + head, *[b" " * 100_000] * 100)) == 413
    endless = [b"1000\r\n" + b" " * 4096 + b"\r\n"] * 1000
    assert status_of(talk(server, POST + b"Transfer-Encoding: chunked\r\n\r\n", *endless)) == 413


def test_a_client_that_asks_first_sends_no_body_in_vain(server: Server) -> None:
    with connect(server) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 30000\r\n\r\n")
        assert status_of(read_all(client)) == 413
    with connect(server) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        assert status_of(read_all(client)) == 422


def test_more_requests_ahead_of_their_answers_than_may_wait_are_refused(server: Server) -> None:
    talk(server, (GET + b"\r\n") * 10 + GET + b"Connection: close\r\n\r\n")
    before = refused(server, "pipelined")
    with connect(server) as client, suppress(ConnectionError):
        client.sendall((GET + b"\r\n") * 10_000)
        read_all(client)
    assert refused(server, "pipelined") == before + 1


def test_requests_that_are_not_whole_share_a_bound_of_memory(server: Server) -> None:
    before, head = refused(server, "memory"), POST + b"Content-Length: 19000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(CONNECTIONS - 5):
            stack.enter_context(connect(server)).sendall(head + b" " * 18_000)
        assert wait_s(server) < 1
        wait_for(lambda: refused(server, "memory") > before)


# Too slow


@contextmanager
def half_requests(server: Server, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(count)]
        for client in clients:
            client.sendall(sent)
        yield clients


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET /hea", "header_timeout"),
        (GET, "header_timeout"),
        (POST + b"Content-Length: 10\r\n\r\n{", "body_timeout"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5", "body_timeout"),
        (POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", "body_timeout"),
    ],
)
def test_half_a_request_is_given_up_at_its_deadline(server: Server, sent: bytes, reason: str) -> None:
    before = refused(server, reason)
    with half_requests(server, 3, sent) as clients:
        replies = [read_all(client).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n") for client in clients]
        assert [status_of(reply) for reply in replies] == [408] * 3
    assert refused(server, reason) == before + 3
    wait_for(lambda: re.search(r"Refused or closed \d+ connections \(", server.log.read_text()), 15)


@pytest.mark.parametrize(
    ("sent", "drop"), [(GET, b"X: 1\r\n"), (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")]
)
def test_a_request_that_drips_is_given_up_at_its_deadline(server: Server, sent: bytes, drop: bytes) -> None:
    started = time.monotonic()
    with connect(server) as client, suppress(ConnectionError):
        client.sendall(sent)
        while time.monotonic() - started < 5:
            client.sendall(drop)
            time.sleep(0.1)
    assert time.monotonic() - started < 5


def test_a_body_that_comes_steadily_may_take_longer_than_a_connection_may_be_idle(server: Server) -> None:
    with connect(server) as client:
        client.sendall(GET + b"\r\n")
        assert status_of(read_one(client.makefile("rb"))) in (200, 503)
        client.sendall(POST + b"Connection: close\r\nContent-Length: 16000\r\n\r\n")
        for _ in range(16):
            time.sleep(0.1)
            client.sendall(b" " * 1000)
        assert status_of(read_all(client)) == 422


def test_a_connection_without_a_request_is_closed(server: Server) -> None:
    for sent in (b"", b"\r\n"):
        with connect(server) as client:
            client.sendall(sent)
            assert client.recv(1) == b""
    assert status_of(talk(server, GET + b"\r\n")) == 200  # and closed when nothing more is asked


def test_a_client_that_does_not_read_is_closed(server: Server) -> None:
    before = refused(server, "send_timeout")
    with connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n" * 8)
        wait_for(lambda: refused(server, "send_timeout") > before, 10)


@pytest.mark.parametrize("sent", [b"", GET, POST + b"Content-Length: 10\r\n\r\n{"])
def test_with_too_many_connections_the_oldest_unfinished_ones_are_closed(server: Server, sent: bytes) -> None:
    before = refused(server, "evicted")
    with half_requests(server, 2 * CONNECTIONS, sent):
        assert max(wait_s(server) for _ in range(5)) < 1
    assert refused(server, "evicted") >= before + CONNECTIONS


class Greeter:
    """An application that answers with the body that it was sent."""

    def __init__(self) -> None:
        self.begun, self.doors = 0, threading.Event()
        self.doors.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        body = (await receive())["body"]
        while not self.doors.is_set():
            await asyncio.sleep(0.01)
        await Response(body or b"hello")(scope, receive, send)
        scope["state"]["connection"].answered()


@contextmanager
def greeting(greeter: Greeter, *overrides: str) -> Iterator[tuple[str, int]]:
    """The address of a uvicorn in this process whose connections are ours."""
    limits = construct(compose("serve", *overrides).limits)
    http: Any = partial(Connection, Connections(limits, most=CONNECTIONS, body_limit_bytes=20_000))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(greeter, http=http, ws="none", lifespan="off", log_config=None)
        serving = uvicorn.Server(config)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: serving.started, 10)
            yield listening.getsockname()
        finally:
            serving.should_exit = True
            thread.join(10)


def test_one_address_may_be_kept_to_its_share() -> None:
    with greeting(Greeter(), "limits.connections_per_address=3", "limits.connections=4") as address:

        def status() -> int:
            with socket.create_connection(address, timeout=WAIT_S) as client:
                client.sendall(GET + b"Connection: close\r\n\r\n")
                return status_of(read_all(client))

        with ExitStack() as stack:  # two addresses take each other's places
            for turn in range(24):
                source = (f"127.0.0.{1 + turn % 2}", 0)
                client = stack.enter_context(socket.create_connection(address, timeout=WAIT_S, source_address=source))
                client.sendall(GET)
        held = [socket.create_connection(address, timeout=WAIT_S) for _ in range(3)]
        wait_for(lambda: status() == 429)
        for client in held:
            client.close()
        wait_for(lambda: status() == 200)


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
def test_the_application_begins_with_a_whole_request(before: bytes) -> None:
    greeter = Greeter()
    earlier = before.count(b"GET")
    with greeting(greeter) as address, socket.create_connection(address, timeout=WAIT_S) as client:
        client.sendall(before + POST + b"Content-Length: 4\r\n\r\nab")
        if earlier:
            assert status_of(read_one(client.makefile("rb"))) == 200
        time.sleep(0.2)
        assert greeter.begun == earlier
        client.sendall(b"cd")
        assert read_one(client.makefile("rb")).endswith(b"\r\nabcd")
        assert greeter.begun == earlier + 1


def test_requests_ahead_of_their_answers_are_answered_in_turn_and_counted_once() -> None:
    """A connection that never rests may send more, in the course of time, than may be pending."""
    bodies = [b"%05d" % n + b" " * 15_000 for n in range(20)]
    head = POST + b"Content-Length: 15005\r\n\r\n"
    limit = "limits.pending_bytes=100000"
    with greeting(Greeter(), limit) as address, socket.create_connection(address, timeout=WAIT_S) as client:
        replies = client.makefile("rb")
        client.sendall(head + bodies[0])
        for last, body in pairwise(bodies):
            client.sendall(head + body)
            assert read_one(replies).endswith(b"\r\n" + last)
        assert read_one(replies).endswith(b"\r\n" + bodies[-1])


def test_whoever_leaves_with_requests_unanswered_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    greeter = Greeter()
    with greeting(greeter) as address:
        greeter.doors.clear()
        with socket.create_connection(address, timeout=WAIT_S) as client:
            client.sendall((GET + b"\r\n") * 5)
            wait_for(lambda: greeter.begun > 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.1)
        greeter.doors.set()
        time.sleep(0.2)
    assert greeter.begun == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


# No HTTP


NO_HTTP = {
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "a length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a signed length": POST + b"Content-Length: +1\r\n\r\n",
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a huge chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "no number of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunks, then another coding": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a header over two lines": GET + b"A: b\r\n c\r\n\r\n",
    "a blank before the colon": GET + b"Content-Length : 3\r\n\r\n",
    "a zero byte": GET + b"A: \x00\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"A" * 1000,
    "no target": b"GET  HTTP/1.1\r\n\r\n",
    "bytes in the URL": b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
    "a tunnel": b"CONNECT here:80 HTTP/1.1\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: there\r\n\r\n",
    "an upgrade with a body": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("case", NO_HTTP)
def test_what_is_no_request_is_refused_and_closed(server: Server, case: str) -> None:
    reply = talk(server, NO_HTTP[case])
    assert status_of(reply) == 400
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["reason"].startswith("Expected ")


@pytest.mark.parametrize("line", [b"GET /health HTTP/2.0\r\n", b"GET /health\r\n", b"GET /health HTTP/0.9\r\n"])
def test_another_version_of_http_is_refused(server: Server, line: bytes) -> None:
    assert status_of(talk(server, line + b"Host: here\r\n\r\n")) == 505


def test_http_1_0_is_answered_and_closed(server: Server, window: Body) -> None:
    body = json.dumps(window).encode()
    head = b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert status_of(talk(server, head + body)) == 200
    assert status_of(talk(server, b"GET /info HTTP/1.0\r\n\r\n")) == 200
    head = b"POST /predict HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert status_of(talk(server, head, b"{}")) == 422


def test_whoever_has_sent_all_is_answered_though_it_closes_its_side(server: Server, window: Body) -> None:
    body = json.dumps(window).encode()
    with connect(server) as client:
        client.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        client.shutdown(socket.SHUT_WR)
        assert status_of(read_all(client)) == 200


def test_what_is_no_request_is_refused_when_the_requests_before_it_are_answered(server: Server) -> None:
    reply = talk(server, GET + b"\r\n" + GET + b"\r\nBAD\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", reply) == [b"200", b"200", b"400"]


def test_an_upgrade_that_is_offered_is_left_alone(server: Server) -> None:
    """As Java's client does with each first request, and browsers with websockets."""
    for kind in (b"h2c", b"websocket"):
        offer = b"Connection: Upgrade\r\nUpgrade: " + kind + b"\r\n\r\n"
        with connect(server) as client:
            client.sendall(GET + offer)
            assert status_of(read_one(client.makefile("rb"))) == 200
            client.sendall(GET + b"\r\n")
            assert status_of(read_one(client.makefile("rb"))) == 200
        in_one_piece = GET + b"\r\n" + GET + offer + GET + b"Connection: close\r\n\r\n"
        assert talk(server, in_one_piece).count(b"HTTP/1.1 200") == 3
    assert status_of(talk(server, b"CONNECT /health HTTP/1.1\r\nHost: here\r\n\r\n")) == 400
    assert "upgrade" not in server.log.read_text().lower()


# Requests that are refused for what they say


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
        [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": 'application/json; "' + ";" * 60_000},
        {"Content-Type": "application/json; charset*" + "9" * 4301 + "*=x"},
    ],
)
def test_a_body_that_is_encoded_or_no_json_by_its_headers_is_refused(
    server: Server, headers: dict[str, str] | list[tuple[str, str]]
) -> None:
    started = time.monotonic()
    response = server.client.post("/predict", content=b"{}", headers=headers)
    assert time.monotonic() - started < 2
    assert response.status_code == 415
    assert response.json()["reason"].startswith("Expected ")
    close = b"Transfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
    assert status_of(talk(server, POST + close)) == 415


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"; a=b',
        "application/json;charset=utf-8;",
        "application/problem+json",
    ],
)
def test_json_by_its_headers_is_read(server: Server, window: Body, kind: str) -> None:
    body = json.dumps(window).encode()
    headers = {"Content-Type": kind, "Content-Encoding": "identity"}
    assert server.client.post("/predict", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbol": "XAGUSD", "symbol": "XAGUSD", "bars": []}',
        b'{"symbol": ' + b"9" * 19_000 + b"}",
        b'{"symbol": ' + b"9" * 4_300 + b', "bars": [' + b"9" * 4_300 + b"]}",
        b'{"symbol": "XAGUSD", "bars": ' + b"[" * 9_000 + b"]" * 9_000 + b"}",
        b'{"symbol": "XAGUSD", "bars": [' + b'{"ts":' * 2_000 + b"1" + b"}" * 2_000 + b"]}",
        b'{"symbol": NaN, "bars": [{"open": -Infinity}]}',
        b'{"symbol": "\xff", "bars": []}',
        b'{"symbol": "\\ud800", "bars": []}',
        b'{"symbol": "../../x\\u0000", "bars": []}',
        json.dumps({"symbol": "XAGUSD", "bars": []}).encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"\x00" * 19_000,
    ],
)
def test_json_that_is_made_to_harm_is_a_problem_and_no_error(server: Server, body: bytes) -> None:
    started = time.monotonic()
    assert server.problems(body)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/predict", {"POST"}),
        ("/reload", {"POST"}),
        ("/forecast", {"GET", "HEAD"}),
        ("/health", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_told_which_there_are(server: Server, path: str, methods: set[str]) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"} - methods:
        response = server.client.request(method, path)
        assert response.status_code == 405, method
        assert sorted(response.headers["Allow"].split(", ")) == sorted(methods)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/info", "/docs", "/redoc", "/openapi.json", "/nowhere"])
def test_head_is_answered_as_get_without_a_body(server: Server, path: str) -> None:
    head, get = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


# Who asked


def test_a_well_formed_request_id_is_taken_over(server: Server, folder: Path, window: Body) -> None:
    given = "proxy-7f3a.42_B"
    response = server.client.post("/predict", json=window, headers={"X-Request-Id": given})
    assert response.headers.get_list("X-Request-Id") == [given]
    assert response.json()["request_id"] == given
    wait_for(lambda: given in server.log.read_text())

    def logged() -> list[str]:
        with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
            since = datetime.now(UTC) - timedelta(minutes=5)
            return [row.request_id for row in ledger.forecasts("XAGUSD", since=since, until=since + HOUR)]

    wait_for(lambda: given in logged(), 10)


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a/../b", '{"a":1}', "é", "<script>", "a;b", "a\tb"])
def test_any_other_request_id_is_replaced(server: Server, given: str) -> None:
    response = server.client.get("/info", headers={"X-Request-Id": given.encode()})
    (own,) = response.headers.get_list("X-Request-Id")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", own)
    twice = server.client.get("/info", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert twice.headers["X-Request-Id"] not in ("a", "b", "a, b")


# Pages


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_names_no_other_host(server: Server, path: str) -> None:
    page = server.client.get(path)
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 2
    for asset in loaded:
        assert asset.startswith("/") and not asset.startswith("//")
        assert server.client.get(asset).status_code == 200
    assert "://" not in re.sub(r"<style>.*?</style>", "", page.text, flags=re.DOTALL)


@pytest.mark.browser
@pytest.mark.parametrize(("path", "shown"), [("/docs", "/predict"), ("/redoc", "Predict")])
def test_a_browser_draws_the_documentation_without_asking_another_host(
    server: Server, browser: "Browser", path: str, shown: str
) -> None:
    base, asked = str(server.client.base_url), []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: request.failure == "csp" and asked.remove(request.url))  # never sent
    page.goto(base + path)
    page.get_by_text(shown).first.wait_for()
    page.close()
    assert len(asked) >= 3
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []


# Workers that do not answer


def test_a_stopped_worker_costs_no_client_an_answer_and_is_seen_in_health(server: Server, window: Body) -> None:
    for pid in server.workers():
        with stopped(pid):
            waits = []
            for _ in range(20):
                started = time.monotonic()
                assert server.predict(window).status_code == 200
                waits.append(time.monotonic() - started)
            assert max(waits) < 5
            wait_for(lambda: not server.health().ready, 5)
            health = server.client.get("/health")
            assert health.status_code == 503
            assert re.match(r"Expected an answer of worker \d within 1 s, got none", health.json()["reason"])
            assert server.predict(window).status_code == 200
        wait_for(lambda: server.health().ready, 10)


def test_while_all_workers_are_stopped_health_says_so_and_requests_are_refused_soon(
    server: Server, window: Body
) -> None:
    with stopped(*server.workers()):
        started = time.monotonic()
        assert server.predict(window).status_code == 503
        assert time.monotonic() - started < 10  # answer_s is 20
        wait_for(lambda: not server.health().ready, 5)
        refusal = server.predict(window)
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "2")
        assert refusal.json()["reason"] == "Expected an answer of a worker within 1 s, got none of any; retry"
        assert all(worker.model is None for worker in server.health().workers)
    wait_for(lambda: server.health().ready, 10)
    assert server.predict(window).status_code == 200


# Settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("limits.header_bytes=0", "limits.header_bytes to be a whole number above 0, got 0"),
        ("limits.headers=1.5", "limits.headers to be a whole number above 0, got 1.5"),
        ("limits.header_s=-1", "limits.header_s to be a number above 0, got -1"),
        ("limits.send_s=inf", "limits.send_s to be at most 3600 s, got inf"),
        ("limits.connections=true", "limits.connections to be a whole number above 0, got True"),
        ("limits.connections_per_address=0", "connections_per_address to be a whole number above 0, got 0"),
        ("limits.body_bytes_per_s=lots", "limits.body_bytes_per_s to be a number above 0, got lots"),
    ],
)
def test_a_limit_out_of_range_is_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        construct(compose("serve", override).limits)


def test_more_connections_than_the_system_allows_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"limits.connections to be at most .* open files, got 1000000000"):
        allow_connections(10**9)


def test_where_open_files_are_limited_fewer_connections_are_allowed() -> None:
    asked = "from serve.startup import allow_connections; print(allow_connections(None))"
    limited = ["bash", "-c", f'ulimit -n 1024 && "{sys.executable}" -c "{asked}"']
    assert subprocess.check_output(limited, cwd=ROOT, text=True, timeout=WAIT_S) == "(704, 64)\n"


def test_a_burst_of_connections_does_not_use_up_the_open_files() -> None:
    """Those that are accepted in one turn, before any is closed, fit beside those that are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
        assert allow_connections(900) == (900, 2048)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 900 + 2048
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
