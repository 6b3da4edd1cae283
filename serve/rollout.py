"""Which arm answers next, agreed between all processes that speak HTTP."""

import logging
import os
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from serve.metrics import STOPPED
from serve.settings import State
from serve.traffic import Arm, Tally, Traffic, choose_arm, decide_stop

TALLIES = "tallies"  # on the board, with a process: what it has counted
STOP = "stop"  # on the board: the challenger that gets no more requests

log = logging.getLogger(__name__)


class Tallies(NamedTuple):
    """Since one challenger has been loaded."""

    version: int
    champion: Tally
    challenger: Tally


class Stop(NamedTuple):
    version: int
    reason: str


class Rollout:
    """A challenger that was stopped stays so until another one is loaded, or the server starts again."""

    def __init__(self, traffic: Traffic, board: Any) -> None:
        self._board, self._asked_for = board, traffic
        self._traffic = traffic
        self._version: int | None = None
        self._tallies = dict.fromkeys((Arm.CHAMPION, Arm.CHALLENGER), Tally())

    @property
    def shadow(self) -> bool:
        return self._asked_for.shadow and self._version is not None

    def choose(self, key: str) -> Arm:
        return choose_arm(key, self._traffic) if self._version is not None else Arm.CHAMPION

    def count(self, arm: Arm, *, failed: bool, latency_ms: float) -> None:
        """`arm`   that was to answer"""
        if guardrails := self._asked_for.guardrails:
            tally = self._tallies[arm]
            self._tallies[arm] = tally.with_request(failed=failed, latency_ms=latency_ms, guardrails=guardrails)

    def agree(self) -> None:
        """Follow what the workers have loaded and what the other processes have counted."""
        if not self._asked_for.needs_challenger:
            return
        board = self._board.copy()
        version = _challenger(value for value in board.values() if isinstance(value, State))
        if version != self._version:
            self._version, self._traffic = version, self._asked_for
            self._tallies = dict.fromkeys(self._tallies, Tally())
        if version is None or self._asked_for.guardrails is None:
            return
        mine = Tallies(version, *self._tallies.values())
        key = f"{TALLIES} {os.getpid()}"
        self._board[key] = mine
        stop = board.get(STOP)
        if not (stop and stop.version == version):
            others = (value for name, value in board.items() if isinstance(value, Tallies) and name != key)
            stop = self._decide([mine, *(tallies for tallies in others if tallies.version == version)])
        if stop and self._traffic == self._asked_for:
            self._traffic = self._asked_for.stopped()
            STOPPED.labels(version).inc()
            log.error("No more requests for the challenger, version %d: %s", *stop)

    def _decide(self, tallies: list[Tallies]) -> Stop | None:
        assert self._asked_for.guardrails
        champion = reduce(add, (each.champion for each in tallies))
        challenger = reduce(add, (each.challenger for each in tallies))
        decision = decide_stop(champion, challenger, self._asked_for.guardrails)
        if not decision.stop:
            return None
        self._board[STOP] = stop = Stop(tallies[0].version, decision.reason)
        return stop


def _challenger(states: Iterable[State]) -> int | None:
    """The newest one that a worker has loaded."""
    return max((state.worker.challenger.version for state in states if state.worker.challenger), default=None)
