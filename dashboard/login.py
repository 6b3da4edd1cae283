"""The log-in page: one password for all, or a password for each user, and a growing pause after wrong ones."""

import asyncio
import json
import logging
import re
import secrets
import time
from collections import Counter
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from typing import Any

from jinja2 import Environment
from panel.auth import BasicAuthProvider
from tornado.web import RequestHandler

from dashboard.attempts import Attempts, source_of
from dashboard.headers import SiteCookies
from lstm_ts.errors import ConfigError
from lstm_ts.logs import RateLimit, audit

PAGE = Environment(autoescape=True).from_string(Path(__file__).with_name("login.html").read_text())
PATH = re.compile(r"/[!-\[\]-~]*")  # printable ASCII but blank and backslash
DAYS = 1  # that a log-in lasts
WAITING = 4  # tries of one address that wait for its pause to end; more are refused
WRONG = "Expected your user name and password, got others; try again."
UNREADABLE = "Expected the file of users and passwords to be readable, got a fault of it; tell who runs the dashboard."
BUSY = "Too many tries from your address at once; wait a minute, and try again."

LINES = RateLimit(30)  # of the log, a minute


class Passwords:
    """The value of `auth.basic`: a password, or a JSON file of user: password, read at each try.

    Which of both it is, is decided once: the path of a file that is gone is nobody's password.
    """

    def __init__(self, basic: str) -> None:
        """Raises    ConfigError"""
        self._password = basic
        is_file = basic.endswith(".json")
        with suppress(OSError):  # a password that no file can be called by
            is_file |= Path(basic).is_file()
        self._file = Path(basic) if is_file else None
        if self._file:
            self._read_users(self._file)

    def are(self, user: str, password: str) -> bool:
        """Compare in a time that tells neither how much is right nor whether the user exists.

        Raises    ConfigError: the file is gone or broken by now
        """
        users = self._read_users(self._file) if self._file else {user: self._password}
        expected = users.get(user, secrets.token_hex(16))
        return compare_digest(password.encode(errors="replace"), expected.encode(errors="replace"))

    @staticmethod
    def _read_users(file: Path) -> dict[str, str]:
        users: Any = None
        got = "something else"
        try:
            users = json.loads(file.read_text())
        except OSError as error:
            got = error.strerror or str(error)
        except ValueError:  # refused below
            pass
        passwords = users.values() if isinstance(users, dict) else [None]
        if not all(isinstance(password, str) and password for password in passwords):
            raise ConfigError(f"Expected a JSON file of user: password at {file}, got {got}; correct it")
        return dict(users)


class LoginHandler(SiteCookies):
    passwords: Passwords
    attempts: Attempts
    waiting: Counter[str]
    turns: dict[str, asyncio.Lock]  # of the addresses that wait

    def get(self) -> None:
        self._show("")

    async def post(self) -> None:
        address = source_of(self.request.remote_ip or "")
        if self.waiting[address] >= WAITING:
            self._refuse(429, BUSY, f"A log-in try from {self.request.remote_ip}, of which {WAITING} wait already")
            return
        self.waiting[address] += 1
        try:
            async with self.turns.setdefault(address, asyncio.Lock()):
                await self._try(address)
        finally:
            self.waiting[address] -= 1
            if not self.waiting[address]:
                del self.waiting[address], self.turns[address]

    async def _try(self, address: str) -> None:
        if pause_s := self.attempts.pause_s(address, now=time.monotonic()):
            await asyncio.sleep(pause_s)
        user, password = self.get_body_argument("username", ""), self.get_body_argument("password", "", strip=False)
        try:
            right = self.passwords.are(user, password)
        except ConfigError as error:
            self._refuse(
                503, UNREADABLE, f"A log-in try from {self.request.remote_ip}, which nothing can check: {error}"
            )
            return
        if right:
            self.attempts.succeed(address)
            self.set_signed_cookie("user", user or "anonymous", expires_days=DAYS)
            self.redirect(_within(self.get_query_argument("next", "/")))
            return
        pause_s = self.attempts.fail(address, now=time.monotonic())
        said = f"A wrong password from {self.request.remote_ip}, whose next try waits {pause_s:g} s"
        self._refuse(401, WRONG, said)

    def _refuse(self, status: int, problem: str, said: str) -> None:
        """Show what is wrong to the visitor, and log what was refused."""
        if (left_out := LINES.admit(status)) is not None:
            facts = {"address": self.request.remote_ip, "left_out": left_out}
            audit("login_refused", said, level=logging.WARNING, **facts)
        self._show(problem, status=status)

    def _show(self, problem: str, *, status: int = 200) -> None:
        self.set_status(status)
        self.write(PAGE.render(problem=problem))


def _within(url: str) -> str:
    """A path of this host, or the first page. Browsers drop some characters, and take a backslash for a slash."""
    return url if PATH.fullmatch(url) and not url.startswith(("//", "/login")) else "/"


class PasswordProvider(BasicAuthProvider):
    """Tells who has logged in as Panel's does; the page is ours."""

    def __init__(self, basic: str) -> None:
        """Raises    ConfigError"""
        shared = {"passwords": Passwords(basic), "attempts": Attempts(), "waiting": Counter[str](), "turns": {}}
        self._handler = type("SharedLoginHandler", (LoginHandler,), shared)
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def login_handler(self) -> type[RequestHandler]:
        return self._handler
