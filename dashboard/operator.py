"""Who may change what serves: whoever knows the operator password."""

import logging
from functools import cache
from hmac import compare_digest
from threading import Lock

from lstm_ts.errors import LstmTsError

PAUSE_S = 1.0  # after a wrong password, for everyone

log = logging.getLogger(__name__)


class NotAllowed(LstmTsError):
    """No password, a wrong one, or one too soon after a wrong one."""


class Operator:
    def __init__(self, password: str) -> None:
        assert password, "an empty password would let everyone in"
        self._password, self._closed_until, self._lock = password.encode(), 0.0, Lock()

    def check(self, given: str, *, now: float) -> None:
        """now    s, of a clock that never goes back    Raises    NotAllowed"""
        if not given:
            raise NotAllowed("Expected the operator password, got none; nothing was changed.")
        with self._lock:
            if now < self._closed_until:
                raise NotAllowed("A wrong password was given just now. Wait a second, and try again.")
            if not compare_digest(given.encode(errors="replace"), self._password):
                self._closed_until = now + PAUSE_S
                log.warning("A wrong operator password was given")
                raise NotAllowed("Expected the operator password, got another one; nothing was changed.")


@cache
def operator_of(password: str) -> Operator:
    """The same for all visitors, or each would have tries of their own."""
    return Operator(password)
