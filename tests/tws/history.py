"""IB's pacing of requests for history, and what becomes of an answer on its way.

Legend: rows are frames `epoch, open, high, low, close`.
"""

from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from random import Random

import polars as pl

from .market import PRICES, Market, Span

# https://interactivebrokers.github.io/tws-api/historical_limitations.html
IDENTICAL_S = 15
SAME_CONTRACT_S = 2
SAME_CONTRACT = 6  # requests that are too many within it
TEN_MINUTES_S = 600
IN_TEN_MINUTES = 60  # requests that are allowed within it

WRONG_ZONES = (-5, -4, 1, 2, 9)  # hours: New York, London, Zurich and Tokyo taken for UTC
REVISED_BY = 1.0002


class Pace:
    def __init__(self, scale: float) -> None:
        self.scale = scale
        self._asked: deque[tuple[float, str, Hashable]] = deque()

    def breaks(self, symbol: str, request: Hashable, moment: float) -> bool:
        """Whether this request breaks a rule; it counts for the next ones either way."""
        if self.scale == 0:
            return False
        while self._asked and self._asked[0][0] <= moment - TEN_MINUTES_S * self.scale:
            self._asked.popleft()
        recent = [(moment - at, of, other) for at, of, other in self._asked]
        same_contract = sum(age < SAME_CONTRACT_S * self.scale and of == symbol for age, of, _ in recent)
        identical = any(age < IDENTICAL_S * self.scale and other == request for age, _, other in recent)
        broken = identical or same_contract + 1 >= SAME_CONTRACT or len(recent) + 1 > IN_TEN_MINUTES
        self._asked.append((moment, symbol, request))
        return broken


@dataclass(frozen=True)
class Asked:
    """One request for history. `day` is the date of asking, in days since 1970, by IB's clock."""

    connection: int
    day: int
    request: int
    symbol: str
    span: Span
    format_date: str


@dataclass
class Lies:
    """Minutes that were kept from one connection, on one day. No minute is ever kept from a second one."""

    kept_from: dict[tuple[int, int, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    told: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def tell(self, asked: Asked, epochs: list[int]) -> int:
        """How many of them can be kept from the one who asks."""
        fresh = set(epochs) - self.told[asked.symbol]
        self.kept_from[asked.connection, asked.day, asked.symbol] |= fresh
        self.told[asked.symbol] |= fresh
        return len(fresh)

    def visible(self, asked: Asked, rows: pl.DataFrame) -> pl.DataFrame:
        kept = self.kept_from.get((asked.connection, asked.day, asked.symbol))
        return rows.filter(~pl.col("epoch").is_in(list(kept))) if kept else rows


class History:
    def __init__(self, market: Market) -> None:
        self.market = market
        self.lies = Lies()
        self.revised: list[tuple[object, ...]] = []  # symbol, epoch and prices of bars that were given other values

    def answer(self, asked: Asked, fault: str | None, draws: Random, *, now: int) -> tuple[pl.DataFrame, int]:
        """The bars to send, and how many the fault touched."""
        span = asked.span
        if fault == "earlier":
            span = Span(span.start - 3600 * draws.randint(1, 7), span.end)
        true = self.market.select(asked.symbol, span, now=now)
        touched = self._lie(asked, fault, true["epoch"].to_list(), draws)
        rows = self.lies.visible(asked, true)
        if rows.is_empty():
            return rows, touched
        match fault:
            case "earlier":
                touched = rows.filter(pl.col("epoch") < asked.span.start).height
            case "duplicates":
                twice = rows.sample(min(rows.height, draws.randint(1, 5)), seed=draws.randrange(2**32))
                return pl.concat([rows, twice]).sort("epoch"), twice.height
            case "wrong_zone":
                shift_s = 3600 * draws.choice(WRONG_ZONES)
                return rows.with_columns(pl.col("epoch") + shift_s), rows.height
            case "revised":
                return self._revise(asked.symbol, rows, draws)
        return rows, touched

    def _lie(self, asked: Asked, fault: str | None, epochs: list[int], draws: Random) -> int:
        if fault == "part" and len(epochs) > 1:
            first = draws.randrange(len(epochs))
            return self.lies.tell(asked, epochs[first : first + draws.randint(1, len(epochs) - 1)])
        return self.lies.tell(asked, epochs) if fault == "no_data" else 0

    def _revise(self, symbol: str, rows: pl.DataFrame, draws: Random) -> tuple[pl.DataFrame, int]:
        count = max(1, rows.height // 20)
        epochs = draws.sample(rows["epoch"].to_list(), count)
        other = (
            pl.when(pl.col("epoch").is_in(epochs))
            .then((pl.col(PRICES) * REVISED_BY).round(4))
            .otherwise(pl.col(PRICES))
        )
        changed = rows.with_columns(other)
        self.revised += [(symbol, *row) for row in changed.filter(pl.col("epoch").is_in(epochs)).iter_rows()]
        return changed, count
