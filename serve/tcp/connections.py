"""TCP connections of one HTTP process by phase, and the choice of those to close when there are too many."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from lstm_ts.logs import audit
from serve.metrics import CONNECTIONS, REFUSED
from serve.tcp.limits import Limits

if TYPE_CHECKING:
    from serve.tcp.connection import Connection

TICK_S = 0.25
LOG_S = 10.0


class Phase(StrEnum):
    IDLE = "idle"  # no byte of a request has come
    HEADERS = "headers"
    BODY = "body"
    ANSWERING = "answering"
    SENDING = "sending"  # the client reads its answer more slowly than it is made
    CLOSING = "closing"  # refused; what still comes is discarded


EVICTED = (Phase.CLOSING, Phase.HEADERS, Phase.IDLE, Phase.SENDING, Phase.BODY)  # in this order, the oldest first
UNFINISHED = (Phase.HEADERS, Phase.BODY)


class Violation(NamedTuple):
    status: int
    kind: str  # label of the metric
    reason: str  # one sentence


class Connections:
    """Open connections by phase, in the order in which they entered it."""

    def __init__(self, limits: Limits, *, most: int, body_limit_bytes: int) -> None:
        self.limits, self._most, self.body_limit_bytes = limits, most, body_limit_bytes
        self._by_phase: dict[Phase, dict[Connection, None]] = {phase: {} for phase in Phase}
        self._addresses: Counter[str] = Counter()
        self._held_bytes = 0
        self._refused: Counter[str] = Counter()
        self._refused_addresses: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        return sum(map(len, self._by_phase.values()))

    def admit(self, connection: "Connection") -> Violation | None:
        per_address = self.limits.connections_per_address
        refusal = None
        if per_address is not None and self._addresses[connection.address] >= per_address:
            text = f"Expected at most {per_address} connections of one address, got more; close some"
            refusal = Violation(429, "address", text)
        else:
            while len(self) >= self._most:
                if not self._evict(EVICTED, "evicted"):
                    text = f"Expected at most {self._most} connections, got more; retry later"
                    refusal = Violation(503, "connections", text)
                    break
        self._addresses[connection.address] += 1
        self._by_phase[connection.phase][connection] = None
        return refusal

    def move(self, connection: "Connection", phase: Phase) -> None:
        self._by_phase[connection.phase].pop(connection, None)
        self._by_phase[phase][connection] = None

    def leave(self, connection: "Connection") -> None:
        if connection in self._by_phase[connection.phase]:
            del self._by_phase[connection.phase][connection]
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def hold(self, connection: "Connection", count: int) -> Violation | None:
        """Count bytes of requests that are not answered yet; too many of them close the oldest unfinished requests."""
        self._held_bytes += count
        while self._held_bytes > self.limits.pending_bytes:
            if not self._evict(UNFINISHED, "memory", spare=connection):
                return Violation(503, "memory", "Expected fewer requests at a time, got too many bytes; retry later")
        return None

    def count_refusal(self, kind: str, address: str) -> None:
        REFUSED.labels(kind).inc()
        self._refused[kind] += 1
        self._refused_addresses[address] += 1

    async def watch(self) -> None:
        """Close overdue connections, and log how many were closed or refused."""
        while True:
            now = time.monotonic()
            for connection in [each for phase in self._by_phase.values() for each in phase]:
                connection.check_deadline(now)
            CONNECTIONS.set(len(self))
            if self._refused and now - self._logged_at >= LOG_S:
                self._log()
                self._logged_at = now
            await asyncio.sleep(TICK_S)

    def _log(self) -> None:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._refused.most_common())
        address, most = self._refused_addresses.most_common(1)[0]
        total = self._refused.total()
        message = f"Refused or closed {total} connections ({kinds}), {most} of them from {address}"
        audit("connections_refused", message, level=logging.WARNING, count=total, address=address, from_address=most)
        self._refused.clear()
        self._refused_addresses.clear()

    def _evict(self, phases: Iterable[Phase], kind: str, *, spare: "Connection | None" = None) -> bool:
        """Close the oldest connection in the first of `phases` that has one; return False if there is none."""
        for phase in phases:
            for connection in self._by_phase[phase]:
                if connection is not spare:
                    connection.evict(kind)
                    return True
        return False
