"""What happened so far, and what time it is at IB."""

import logging
from collections import Counter
from dataclasses import dataclass, field

from lstm_ts import clock

from .faults import Meets

log = logging.getLogger("tws")


@dataclass
class Clock:
    skew_s: float  # IB's clock is so much ahead of this machine's

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return clock.now().timestamp() + self.skew_s


@dataclass
class Journal:
    connections: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)
    faults: list[dict[str, object]] = field(default_factory=list)
    pace_violations: int = 0
    bars_sent: int = 0

    def note(self, fault: str, meets: Meets | None, start: int | None = None, bars: int = 0) -> None:
        """`start` of the span, an epoch; `bars` that it touched."""
        log.info("%s meets %s", meets or "the clock", fault)
        self.faults.append({"fault": fault, "meets": meets, "start": start, "bars": bars})

    def to_json(self) -> dict[str, object]:
        return dict(vars(self))
