"""The log-in page: one password for all, or a password for each user, and a growing pause after wrong ones."""

import asyncio
import json
import logging
import re
import secrets
import time
from collections import Counter
from hmac import compare_digest
from pathlib import Path

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
BUSY = "Too many tries from your address at once; wait a minute, and try again."

LINES = RateLimit(30)  # of the log, a minute


class Passwords:
    """The value of `auth.basic`: a password, or a JSON file of user: password, read at each try."""

    def __init__(self, basic: str) -> None:
        """Raises    ConfigError"""
        self._basic, self._file = basic, Path(basic)
        self._users()

    def are(self, user: str, password: str) -> bool:
        """Compare in a time that tells neither how much is right nor whether the user exists."""
        users = self._users()
        expected = self._basic if users is None else users.get(user, secrets.token_hex(16))
        return compare_digest(password.encode(errors="replace"), expected.encode(errors="replace"))

    def _users(self) -> dict[str, str] | None:
        try:
            if not self._file.is_file():
                return None
            users = json.loads(self._file.read_text())
        except OSError:  # a password that no file can be called by
            return None
        except ValueError:
            users = None  # refused below
        passwords = users.values() if isinstance(users, dict) else [None]
        if not all(isinstance(password, str) and password for password in passwords):
            raise ConfigError(f"Expected a JSON file of user: password at {self._file}, got something else")
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
            self._show(BUSY, status=429)
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
        if self.passwords.are(user, password):
            self.attempts.succeed(address)
            self.set_signed_cookie("user", user or "anonymous", expires_days=DAYS)
            self.redirect(_within(self.get_query_argument("next", "/")))
            return
        pause_s = self.attempts.fail(address, now=time.monotonic())
        if (left_out := LINES.admit("login")) is not None:
            said = f"A wrong password from {self.request.remote_ip}, whose next try waits {pause_s:g} s"
            facts = {"address": self.request.remote_ip, "left_out": left_out}
            audit("login_refused", said, level=logging.WARNING, **facts)
        self._show(WRONG, status=401)

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
