"""Who may change what serves: whoever knows the operator password."""

import logging
from functools import cache
from hmac import compare_digest
from math import ceil

from dashboard.attempts import Attempts
from lstm_ts.errors import LstmTsError

log = logging.getLogger(__name__)


class NotAllowed(LstmTsError):
    """No password, a wrong one, or one too soon after a wrong one."""


class Operator:
    def __init__(self, password: str) -> None:
        assert password, "an empty password would let everyone in"
        self._password, self._attempts = password.encode(), Attempts()

    def check(self, given: str, *, address: str, now: float) -> None:
        """now    s, of a clock that never goes back    Raises    NotAllowed"""
        if not given:
            raise NotAllowed("Expected the operator password, got none; nothing was changed.")
        if pause_s := self._attempts.pause_s(address, now=now):
            wait = f"{ceil(pause_s)} second{'s' * (pause_s > 1)}"
            raise NotAllowed(f"A wrong password was given just now. Wait {wait}, and try again.")
        if not compare_digest(given.encode(errors="replace"), self._password):
            pause_s = self._attempts.fail(address, now=now)
            log.warning("A wrong operator password from %s, which is not heard for %g s", address, pause_s)
            raise NotAllowed("Expected the operator password, got another one; nothing was changed.")
        self._attempts.succeed(address)


@cache
def operator_of(password: str) -> Operator:
    """The same for all visitors, or each would have tries of their own."""
    return Operator(password)
