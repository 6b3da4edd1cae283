"""Which faults there are, when each happens, and where it comes from.

`FAULTS` is the table. A fault meets a connection, a look-up of contract details, or a request for history; each of the
three is counted from 1, and meets at most one fault.

    silence              at random, at the schedule's rate
    silence:0.2          with probability 0.2
    silence@3            at the third, or at the first after it that meets nothing else
    silence@2015-03-04T10:00   at the first request whose span holds that minute, UTC
    all                  every fault that a client is to get over by itself, at random
    fatal                every fault that ends a client's run with an explanation, at random
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from .market import Span


class Meets(StrEnum):
    CONNECTION = "connection"
    LOOKUP = "look-up"
    HISTORY = "history"


class Seen(StrEnum):
    """How a client can know."""

    SAID = "said"  # an error, a notice or a lost connection says it
    LATE = "late"  # nothing comes, or slowly: a time-out
    SHAPE = "shape"  # the answer itself is odd: stamps that come twice, or lie outside the span or the sessions
    LIE = "lie"  # well-formed and false: only asking again finds it


@dataclass(frozen=True)
class Kind:
    meets: Meets
    seen: Seen
    what: str
    fatal: bool = False  # a client ends with an explanation


# Codes and texts: https://interactivebrokers.github.io/tws-api/message_codes.html and what users report.
FAULTS: dict[str, Kind] = {
    "client_id": Kind(Meets.CONNECTION, Seen.SAID, "326, and the end of the connection: the client id is in use"),
    "idle": Kind(
        Meets.CONNECTION, Seen.SAID, "a moment after the greeting, 2107: the farm is inactive, as it is by day"
    ),
    "other_farm": Kind(Meets.CONNECTION, Seen.SAID, "a moment after the greeting, 2105 of a farm that nobody needs"),
    "unsettled": Kind(Meets.CONNECTION, Seen.SAID, "2110 with the greeting, later 1102: IB is away meanwhile"),
    "time_zone": Kind(
        Meets.LOOKUP, Seen.SHAPE, "the contract's zone and hours are others, as around DST; no stamp changes"
    ),
    "two_contracts": Kind(Meets.LOOKUP, Seen.SHAPE, "contract details name two contracts", fatal=True),
    "pacing": Kind(Meets.HISTORY, Seen.SAID, "162 pacing violation, whatever the pace was"),
    "cancelled": Kind(Meets.HISTORY, Seen.SAID, "162 query cancelled"),
    "other_ip": Kind(
        Meets.HISTORY, Seen.SAID, "162 with a text that few expect: connected from a different IP address"
    ),
    "data_lost": Kind(Meets.HISTORY, Seen.SAID, "1100, later 1101: what was asked until then is never answered"),
    "maintained": Kind(Meets.HISTORY, Seen.SAID, "1100, later 1102: what was asked until then is answered late"),
    "farms": Kind(Meets.HISTORY, Seen.SAID, "2103, 2105 and 165, later 2104 and 2106, then the answer"),
    "inactive": Kind(Meets.HISTORY, Seen.SAID, "2107 and no answer; the next request wakes the farm with 2106"),
    "silence": Kind(Meets.HISTORY, Seen.LATE, "no answer at all"),
    "slow": Kind(Meets.HISTORY, Seen.LATE, "the answer's bytes come in fifty pieces"),
    "cut": Kind(Meets.HISTORY, Seen.SAID, "half of the answer's bytes, then the end of the connection"),
    "refused": Kind(Meets.HISTORY, Seen.SAID, "every connection is reset, new ones are refused for a while"),
    "daily_reset": Kind(Meets.HISTORY, Seen.SAID, "1100, then as above; also by the clock, see --reset"),
    "duplicates": Kind(Meets.HISTORY, Seen.SHAPE, "some bars come twice in one answer"),
    "earlier": Kind(Meets.HISTORY, Seen.SHAPE, "true bars of the hours before the span come too"),
    "wrong_zone": Kind(Meets.HISTORY, Seen.SHAPE, "every stamp is hours off", fatal=True),
    "revised": Kind(Meets.HISTORY, Seen.LIE, "one bar in twenty has other values than the next time"),
    "no_data": Kind(Meets.HISTORY, Seen.LIE, "162 no data for a span that has data"),
    "part": Kind(Meets.HISTORY, Seen.LIE, "fewer bars than there are, and no error"),
    "invalid": Kind(Meets.HISTORY, Seen.SAID, "321 error validating request", fatal=True),
    "permission": Kind(Meets.HISTORY, Seen.SAID, "354 market data is not subscribed", fatal=True),
    "competing": Kind(Meets.HISTORY, Seen.SAID, "10197 no market data during competing live session", fatal=True),
}


@dataclass(frozen=True)
class Fault:
    """One of `number`, `minute` (an epoch) and `probability` says when; the schedule's rate if none does."""

    name: str
    number: int | None = None
    minute: int | None = None
    probability: float | None = None


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Raises   ValueError: an unknown fault, or a time that does not fit it"""
    faults: list[Fault] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part in ("all", "fatal"):
            faults += [Fault(name) for name, kind in FAULTS.items() if kind.fatal == (part == "fatal")]
        else:
            faults.append(_parse_fault(part))
    return tuple(faults)


def _parse_fault(part: str) -> Fault:
    name, at, when = part.partition("@")
    name, colon, share = name.partition(":")
    if name not in FAULTS:
        raise ValueError(f"Expected a fault among all, fatal, {', '.join(FAULTS)}, got {part}")
    if colon:
        probability = float(share)
        if not 0 <= probability <= 1:
            raise ValueError(f"Expected a probability from 0 to 1, got {part}")
        return Fault(name, probability=probability)
    if not at:
        return Fault(name)
    if when.isdigit():
        return Fault(name, number=int(when))
    if FAULTS[name].meets is not Meets.HISTORY:
        raise ValueError(f"Expected a number after {name}@, which meets no span of minutes, got {part}")
    return Fault(name, minute=int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()))


class Schedule:
    """The same seed and the same requests meet the same faults."""

    def __init__(self, faults: tuple[Fault, ...], *, seed: int, rate: float) -> None:
        self.seed = seed
        self.rate = rate
        self.restart(faults)

    def restart(self, faults: tuple[Fault, ...]) -> None:
        """Other faults, counted from 1 again."""
        self.faults = faults
        self.counts = dict.fromkeys(Meets, 0)
        self._fired: set[Fault] = set()

    def next(self, meets: Meets, span: Span | None = None) -> tuple[str | None, random.Random]:
        """The fault that the next connection, look-up or request meets, and a generator for its details."""
        self.counts[meets] += 1
        number = self.counts[meets]
        due = [fault for fault in self.faults if FAULTS[fault.name].meets is meets]
        exact = [fault for fault in due if self._is_due(fault, number, span)]
        if exact:
            self._fired.add(exact[0])
            return exact[0].name, self._random(meets, number, exact[0].name)
        self._random(meets, number, "order").shuffle(due)  # else the last ones of a long list came seldom
        for fault in due:
            if fault.number is fault.minute is None:
                draws = self._random(meets, number, fault.name)
                if draws.random() < (self.rate if fault.probability is None else fault.probability):
                    return fault.name, draws
        return None, self._random(meets, number, "")

    def _is_due(self, fault: Fault, number: int, span: Span | None) -> bool:
        if fault in self._fired:
            return False
        if fault.minute is not None:
            return span is not None and span.start <= fault.minute < span.end
        return fault.number is not None and fault.number <= number

    def _random(self, meets: Meets, number: int, name: str) -> random.Random:
        return random.Random(f"{self.seed} {meets} {number} {name}")
