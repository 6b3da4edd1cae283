"""Decide the arm of each request, in agreement between all HTTP processes."""

import logging
import os
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from serve.metrics import STOPPED
from serve.settings import WorkerAnswer, WorkerState
from serve.traffic import Arm, Tally, Traffic, choose_arm, decide_stop

TALLIES = "tallies"  # key in shared_state, with a process id: its counts
STOP = "stop"  # key in shared_state, with a version: why it gets no more requests
HALVED_AT = 4  # times the requests that a decision needs; then counts are halved, so that a late failure is noticed

log = logging.getLogger(__name__)


class Tallies(NamedTuple):
    """Counts since a challenger was loaded."""

    version: int
    champion: Tally
    challenger: Tally


class Stop(NamedTuple):
    version: int
    reason: str


class Rollout:
    """Choice of arms by traffic and guardrails; once stopped, a version gets no requests until the service restarts."""

    def __init__(self, traffic: Traffic, shared_state: Any) -> None:
        self._shared_state, self._traffic = shared_state, traffic
        self._version: int | None = None
        self.stopped: Stop | None = None  # the challenger, where it gets no more requests
        self._tallies = dict.fromkeys((Arm.CHAMPION, Arm.CHALLENGER), Tally())

    @property
    def shadow(self) -> bool:
        return self._traffic.shadow and self._asks

    def choose(self, key: str) -> Arm:
        return choose_arm(key, self._traffic) if self._asks else Arm.CHAMPION

    @property
    def _asks(self) -> bool:
        """Whether there is a challenger that gets requests."""
        return self._version is not None and self.stopped is None

    def count(self, arm: Arm, answer: WorkerAnswer | None) -> None:
        """Count a request by the worker's time, not the client's: both arms share one queue.

        arm      the arm chosen for the request
        answer   None: none came in time
        """
        if (guardrails := self._traffic.guardrails) is None:
            return
        unmade = answer is None or answer.status >= 500 or (answer.arm is Arm.SHADOW and answer.row is None)
        failed, took_ms = unmade or bool(answer and answer.fell_back), 1000 * answer.seconds if answer else 0.0
        self._tallies[arm] = self._tallies[arm].with_request(failed=failed, took_ms=took_ms, guardrails=guardrails)
        if self._tallies[Arm.CHALLENGER].requests >= HALVED_AT * guardrails.min_requests:
            self._tallies = {arm: tally.halved() for arm, tally in self._tallies.items()}

    def agree(self) -> None:
        """Update from shared_state: the challenger that workers have loaded, and the other processes' counts."""
        if not self._traffic.needs_challenger:
            return
        shared_state = self._shared_state.copy()
        version = _challenger(value for value in shared_state.values() if isinstance(value, WorkerState))
        if version != self._version:
            self._version, self.stopped = version, None
            self._tallies = dict.fromkeys(self._tallies, Tally())
            if version is not None:
                STOPPED.labels(version)  # at zero, so that a first stop is an increase
        if version is None or self._traffic.guardrails is None:
            return
        mine = Tallies(version, *self._tallies.values())
        key = f"{TALLIES} {os.getpid()}"
        self._shared_state[key] = mine
        if not (reason := shared_state.get(f"{STOP} {version}")):
            others = (value for name, value in shared_state.items() if isinstance(value, Tallies) and name != key)
            reason = self._decide([mine, *(tallies for tallies in others if tallies.version == version)])
        if reason and not self.stopped:
            self.stopped = Stop(version, reason)
            STOPPED.labels(version).inc()
            log.error("Stopped the challenger, version %d: %s", version, reason)

    def _decide(self, tallies: list[Tallies]) -> str | None:
        assert self._traffic.guardrails
        champion = reduce(add, (each.champion for each in tallies))
        challenger = reduce(add, (each.challenger for each in tallies))
        if reason := decide_stop(champion, challenger, self._traffic.guardrails):
            self._shared_state[f"{STOP} {tallies[0].version}"] = reason
        return reason


def _challenger(states: Iterable[WorkerState]) -> int | None:
    """Return the newest challenger that a worker has loaded."""
    workers = (worker for state in states for worker in state.workers)
    return max((worker.challenger.version for worker in workers if worker.challenger), default=None)
