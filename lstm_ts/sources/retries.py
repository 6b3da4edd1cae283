"""Retry with random exponential backoff, so that many clients do not return at the same moment."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from lstm_ts.errors import ConfigError

GIVE_UP = 3  # spans in a row without a usable answer
LONGEST_S = 1e9  # of any wait; the machine counts no further than some centuries
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class RetryableError(Exception):
    """Failure that proves nothing; a retry may help."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s  # added to the wait before the retry


@dataclass(frozen=True)
class Retries:
    attempts: int
    first_s: float
    longest_s: float

    def __post_init__(self) -> None:
        waits_s = self.first_s, self.longest_s
        if self.attempts < 1 or min(waits_s) < 0 or max(waits_s) > LONGEST_S:
            raise ConfigError(
                f"Expected source.retries with attempts >= 1, first_s and longest_s within 0..{LONGEST_S:g}, got "
                f"{self.attempts}, {self.first_s} and {self.longest_s}"
            )

    def call(self, request: Callable[[], Result], *, sleep: Callable[[float], None]) -> Result:
        """Raises    RetryableError: that of the last of `attempts`; any other error of `request`"""
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            retry=tenacity.retry_if_exception_type(RetryableError),
            wait=self._wait_s,
            sleep=sleep,
            before_sleep=_log_retry,
            reraise=True,
        )(request)

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        jittered = tenacity.wait_random_exponential(multiplier=self.first_s, max=self.longest_s)
        error = _error(state)
        return jittered(state) + (error.pause_s if isinstance(error, RetryableError) else 0.0)


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    assert state.outcome is not None
    return state.outcome.exception()


def _log_retry(state: tenacity.RetryCallState) -> None:
    assert state.next_action is not None
    log.info("Retrying in %.1f s after attempt %d: %s", state.next_action.sleep, state.attempt_number, _error(state))
