"""IB's pacing of requests for history, and what each connection is told."""

import time
from collections import deque
from collections.abc import Hashable

from .market import Market

# https://interactivebrokers.github.io/tws-api/historical_limitations.html
IDENTICAL_S = 15
SAME_CONTRACT_S = 2
SAME_CONTRACT = 6  # requests that are too many within it
TEN_MINUTES_S = 600
IN_TEN_MINUTES = 60  # requests that are allowed within it


class History:
    def __init__(self, market: Market, *, pace: float) -> None:
        self.market = market
        self.scale = pace
        self.pace_violations = 0
        self._asked: deque[tuple[float, str, Hashable]] = deque()

    def pace(self, symbol: str, key: Hashable, moment: float) -> bool:
        """Whether this request breaks a rule; it counts for the next ones either way."""
        while self._asked and self._asked[0][0] <= moment - TEN_MINUTES_S * self.scale:
            self._asked.popleft()
        recent = [(moment - at, *rest) for at, *rest in self._asked]
        same_contract = sum(age < SAME_CONTRACT_S * self.scale and of == symbol for age, of, _ in recent)
        identical = any(age < IDENTICAL_S * self.scale and other == key for age, _, other in recent)
        broken = identical or same_contract + 1 >= SAME_CONTRACT or len(recent) + 1 > IN_TEN_MINUTES
        if self.scale > 0:
            self._asked.append((moment, symbol, key))
        self.pace_violations += broken
        return broken
