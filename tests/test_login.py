"""Who logs in, and what becomes of those who try passwords."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application

from dashboard.attempts import ADDRESSES, LONGEST_S, Attempts, source_of
from dashboard.headers import HEADERS, RareLines, Secured
from dashboard.hosts import OtherHost
from dashboard.login import WAITING, LoginHandler, PasswordProvider, Passwords
from lstm_ts.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("127.0.0.1:5006", False), ("[::1]:5006", False), ("10.0.0.1", False), ("LOCALHOST:5006", False),
        ("silver.example", False), ("evil.example:5006", True), ("127.0.0.1.evil.example", True),
    ],
)  # fmt: skip
def test_a_request_to_a_name_that_is_not_this_dashboards_is_refused(host: str, refused: bool) -> None:
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": host}))
    assert (OtherHost(["silver.example:443"]).match(request) is not None) == refused


def test_lines_that_any_client_causes_are_few() -> None:
    rare = RareLines()
    made = [logging.makeLogRecord({"name": name}) for name in ["bokeh.server.views.ws", "dashboard"] * 30]
    assert sum(map(rare.filter, made)) == 10 + 30


Post = Callable[..., Awaitable[httpx.Response]]


def test_each_failure_doubles_the_pause_of_its_address_alone() -> None:
    attempts = Attempts()
    assert [attempts.fail("10.0.0.1", now=float(now)) for now in range(4)] == [1, 2, 4, 8]
    assert attempts.pause_s("10.0.0.1", now=5.0) == 6
    assert attempts.pause_s("10.0.0.2", now=5.0) == 0
    assert [attempts.fail("10.0.0.1", now=60.0) for _ in range(99)][-1] == LONGEST_S
    attempts.succeed("10.0.0.1")
    assert attempts.pause_s("10.0.0.1", now=60.0) == 0
    attempts.fail("10.0.0.1", now=100.0)
    assert attempts.fail("10.0.0.1", now=100.0 + 3600) == 1  # after an hour nobody remembers


def test_failures_of_ever_new_addresses_are_remembered_within_bounds() -> None:
    attempts = Attempts()
    for number in range(ADDRESSES + 1):
        attempts.fail(f"host-{number}", now=0.0)
    assert attempts.pause_s("host-0", now=0.0) == 0
    assert attempts.pause_s("host-1", now=0.0) == 1
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert source_of("::ffff:10.0.0.1") == "10.0.0.1"


def test_passwords_are_one_for_all_or_one_for_each_user(tmp_path: Path) -> None:
    assert Passwords("open sesame").are("anyone", "open sesame")
    assert not Passwords("open sesame").are("anyone", "open\ud800")
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"ann": "a-1", "bob": "b-2"}))
    passwords = Passwords(str(file))
    assert passwords.are("ann", "a-1")
    assert not passwords.are("ann", "b-2")
    assert not passwords.are("eve", "")
    for content in ('{"ann": ""}', "{broken", None):
        file.write_text(content) if content else file.unlink()
        for refused in (lambda: Passwords(str(file)), lambda: passwords.are("ann", str(file))):
            with pytest.raises(ConfigError, match="Expected a JSON file of user: password"):
                refused()


def ask(work: Callable[[Post], Awaitable[None]], scheme: str = "http", basic: str = "open sesame") -> None:
    """Serve the page on loopback."""
    handler = PasswordProvider(basic).login_handler
    assert issubclass(handler, LoginHandler)

    async def serve() -> None:
        application = Application([("/login", handler)], cookie_secret="s")
        application.add_transform(Secured)
        server = application.listen(0, "127.0.0.1", xheaders=scheme == "https")
        (socket,) = server._sockets.values()
        url = f"http://127.0.0.1:{socket.getsockname()[1]}/login"
        async with httpx.AsyncClient(trust_env=False, timeout=20, headers={"X-Forwarded-Proto": scheme}) as client:

            async def post(password: str, query: str = "", **headers: str) -> httpx.Response:
                form = {"username": "me", "password": password}
                return await client.post(url + query, data=form, headers=headers)

            await work(post)
        server.stop()

    asyncio.run(serve())


def test_a_wrong_password_is_logged_with_its_address_and_makes_the_next_try_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(post: Post) -> None:
        first = await post("guess-1")
        assert first.status_code == 401
        assert "Expected your user name and password" in first.text
        since = time.monotonic()
        forged = {"X-Forwarded-For": "9.9.9.9"}
        late = await asyncio.gather(*(post("open sesame", **forged) for _ in range(WAITING + 2)))
        assert time.monotonic() - since > 0.9
        assert sorted(reply.status_code for reply in late) == [302] * WAITING + [429] * 2

    with caplog.at_level(logging.WARNING, "lstm_ts.audit"):
        ask(work)
    wrong, *busy = [record.getMessage() for record in caplog.records if record.name == "lstm_ts.audit"]
    assert wrong == "A wrong password from 127.0.0.1, whose next try waits 1 s"
    assert busy == ["A log-in try from 127.0.0.1, of which 4 wait already"] * 2


def test_without_its_file_of_users_nobody_logs_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"me": "a-1"}))

    async def work(post: Post) -> None:
        file.unlink()
        reply = await post(str(file))
        assert (reply.status_code, reply.headers.get("set-cookie")) == (503, None)
        assert "tell who runs the dashboard" in reply.text

    ask(work, basic=str(file))
    assert f"at {file}, got No such file or directory" in caplog.text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_of_a_log_in_is_for_this_site_alone(scheme: str) -> None:
    async def work(post: Post) -> None:
        reply = await post("open sesame")
        cookie = reply.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert ("secure" in cookie) == (scheme == "https")
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS

    ask(work, scheme)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("?next=/%3Fpage=data", "/?page=data"),
        *(
            (f"?next={other}", "/")
            for other in (
                "//evil.example",
                "https://evil.example",
                "/%09/evil.example",
                "/%5Cevil.example",
                "/%0A/x",
                "/é",
            )
        ),
    ],
)
def test_a_log_in_leads_to_a_page_of_this_host(query: str, place: str) -> None:
    async def work(post: Post) -> None:
        assert (await post("open sesame", query)).headers["location"] == place

    ask(work)
