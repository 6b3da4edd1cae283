"""Check of the operator password, which is required to promote, to roll back and to silence."""

import logging
from functools import cache
from hmac import compare_digest
from math import ceil
from typing import Any

import panel as pn

from dashboard.attempts import Attempts
from lstm_ts.errors import LstmTsError
from lstm_ts.logs import RateLimit, audit

LINES = RateLimit(30)  # log lines a minute


class NotAllowed(LstmTsError):
    """Refused attempt: no password, a wrong password, or an attempt too soon after a wrong one."""


class Operator:
    def __init__(self, password: str) -> None:
        assert password, "an empty password would let everyone in"
        self._password, self._attempts = password.encode(), Attempts()

    def check(self, given: str, *, address: str, now: float) -> None:
        """now    s, of a monotonic clock    Raises    NotAllowed"""
        if not given:
            raise NotAllowed("Expected the operator password, got none; nothing was changed.")
        if pause_s := self._attempts.pause_s(address, now=now):
            wait = f"{ceil(pause_s)} second{'s' * (pause_s > 1)}"
            raise NotAllowed(f"A wrong password was given just now. Wait {wait}, and try again.")
        if not compare_digest(given.encode(errors="replace"), self._password):
            pause_s = self._attempts.fail(address, now=now)
            if (left_out := LINES.admit("operator")) is not None:
                said = f"A wrong operator password from {address}, blocked for {pause_s:g} s"
                audit("operator_refused", said, level=logging.WARNING, address=address, left_out=left_out)
            raise NotAllowed("Expected the operator password, got another one; nothing was changed.")
        self._attempts.succeed(address)


@cache
def operator_of(password: str) -> Operator:
    """Return one operator for all visitors, so that their failed attempts are counted together."""
    return Operator(password)


def actor() -> str:
    """Return who acts, as the ledger names them."""
    return f"dashboard ({pn.state.user})" if pn.state.user else "dashboard"


def visitor_address() -> str:
    context: Any = pn.state.curdoc.session_context if pn.state.curdoc else None
    return context.request.remote_ip if context else ""
