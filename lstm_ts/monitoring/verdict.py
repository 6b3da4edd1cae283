"""Sequential test of a challenger against the champion, by their losses at the same origins, hour by hour. Pure.

The difference x of an origin is (challenger's pinball loss - champion's) / mean width of their outermost intervals, in
shares of the champion's mean loss. Three e-processes bet on it: *harm* that x is above the margin on average, *better*
that it is below 0, *no worse* that it is below the margin. The wealth of a bet on what is not true reaches 1 / alpha
with a chance of at most alpha, however often one looks (Ville 1939). Better and no worse begin with the gate's held-out
differences, but must pass on live hours alone too: months of held-out hours outweigh any live week, and inputs that
differ from those of training show only in live hours. Harm begins with live hours; half of its stake is for a
challenger that is bad from the first hour, half for one that turns bad.

The distance between the two forecasts, known before the outcome, bounds x: a bet never risks more than `MOST_AT_RISK`
of its wealth, and one hour cannot decide. Legend: N origins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.scoring import metrics
from lstm_ts.scoring.comparison import Pairs

MOST_AT_RISK = 0.9
MOST_WEALTH = 1e12  # decided long before


class ChallengeVerdict(StrEnum):
    RUNNING = "running"
    HALTED = "halted"  # nothing to judge by; resumes if it becomes challenger again
    HARM = "stop_for_harm"
    BETTER = "better"
    NO_WORSE = "no_worse"
    INCONCLUSIVE = "inconclusive"

    @property
    def final(self) -> bool:
        return self not in (ChallengeVerdict.RUNNING, ChallengeVerdict.HALTED)

    def can_change_to(self, later: "ChallengeVerdict") -> bool:
        """Return whether a later verdict replaces this one: a version that stays challenger may turn out harmful."""
        return not self.final or later in {
            ChallengeVerdict.NO_WORSE: (ChallengeVerdict.HARM, ChallengeVerdict.BETTER),
            ChallengeVerdict.BETTER: (ChallengeVerdict.HARM,),
            ChallengeVerdict.INCONCLUSIVE: (ChallengeVerdict.HARM,),
        }.get(self, ())


@dataclass(frozen=True, kw_only=True)
class VerdictSettings:
    """Settings of the test; conf/verdict/default.yaml describes each."""

    margin: float
    alpha: float
    alpha_live: float
    bets: Sequence[float]
    bound_weeks: float
    turn_hours: int
    min_hours: int
    halt_hours: int

    def __post_init__(self) -> None:
        if not 0 < self.margin < 0.5:
            raise ConfigError(f"Expected verdict.margin between 0 and 0.5, got {self.margin}")
        if not 0 < self.alpha <= self.alpha_live < 0.5:
            raise ConfigError(
                f"Expected verdict.alpha and alpha_live above 0, below 0.5 and in this order, got {self.alpha} and "
                f"{self.alpha_live}"
            )
        if not self.bets or min(self.bets) <= 0:
            raise ConfigError(f"Expected verdict.bets above 0, got {self.bets}")
        for name in ("bound_weeks", "turn_hours", "min_hours", "halt_hours"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Expected verdict.{name} above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Record:
    """Evidence of n hours with known outcomes."""

    n: int
    total: float  # sum of x
    better: tuple[float, ...]  # log wealth of each bet
    no_worse: tuple[float, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(values["n"], values["total"], tuple(values["better"]), tuple(values["no_worse"]))


@dataclass(frozen=True)
class VerdictState:
    """State of the test; resumed from its JSON it equals that of one uninterrupted pass."""

    loss: float  # the champion's mean loss on the held-out hours, over the width
    held_out: Record
    live: Record
    harm: tuple[float, ...]  # wealth of each bet from what was staked so far

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make a state from the values of `dataclasses.asdict`."""
        held_out, live = (Record.from_json(values[name]) for name in ("held_out", "live"))
        return cls(values["loss"], held_out, live, tuple(values["harm"]))

    def fits(self, settings: VerdictSettings) -> bool:
        """Return whether the test can continue with these settings: as many bets; other bets' wealth stays evidence."""
        return len(self.harm) == len(settings.bets)


@dataclass(frozen=True)
class Evidence:
    """log10 of e-values."""

    harm: float
    better: float  # held-out and live hours together
    no_worse: float
    better_live: float  # the live hours alone
    no_worse_live: float
    needed: float  # for a verdict
    needed_live: float


def start(held_out: Pairs, settings: VerdictSettings) -> VerdictState:
    """Return the state of a challenger that goes live, with the evidence of the gate's held-out hours.

    Raises    NoRows: no known target among them
    """
    loss = metrics.mean_of_known(held_out.champion_loss_N)
    if not loss > 0:
        raise NoRows("Expected held-out hours with known targets and a loss above 0, got none")
    nothing = Record(0, 0.0, (0.0,) * len(settings.bets), (0.0,) * len(settings.bets))
    record = nothing
    for difference, bound in zip(held_out.difference_N.tolist(), held_out.bound_N.tolist(), strict=True):
        if not math.isnan(difference):
            record = _extend(record, difference / loss, bound / loss, settings)
    return VerdictState(loss, record, nothing, (0.0,) * len(settings.bets))


def update(state: VerdictState, difference: float, bound: float, settings: VerdictSettings) -> VerdictState:
    """Add one live hour; a NaN difference is unknown and changes nothing."""
    if math.isnan(difference):
        return state
    n, x, bound = state.live.n, difference / state.loss, bound / state.loss
    staked = _staked(n + 1, settings) - _staked(n, settings)
    harm = tuple(
        min((wealth + staked) * (1 + bet * (x - settings.margin)), MOST_WEALTH)
        for wealth, bet in zip(state.harm, _bets(bound, settings), strict=True)
    )
    return replace(state, live=_extend(state.live, x, bound, settings), harm=harm)


def _staked(n: int, settings: VerdictSettings) -> float:
    """Return the share of the stake on harm placed after n hours: half in the first, half evenly over `turn_hours`."""
    return (0.5 if n else 0.0) + 0.5 * min(n / settings.turn_hours, 1.0)


def _bets(bound: float, settings: VerdictSettings) -> tuple[float, ...]:
    most = MOST_AT_RISK / (bound + settings.margin)
    return tuple(min(bet, most) for bet in settings.bets)


def _extend(record: Record, x: float, bound: float, settings: VerdictSettings) -> Record:
    bets = _bets(bound, settings)
    better = [log + math.log1p(-bet * x) for log, bet in zip(record.better, bets, strict=True)]
    no_worse = [log + math.log1p(bet * (settings.margin - x)) for log, bet in zip(record.no_worse, bets, strict=True)]
    return Record(record.n + 1, record.total + x, tuple(better), tuple(no_worse))


def measure(state: VerdictState, settings: VerdictSettings) -> Evidence:
    wealth = sum(state.harm) / len(state.harm) + 1 - _staked(state.live.n, settings)
    held_out, live = state.held_out, state.live
    return Evidence(
        harm=math.log10(max(wealth, 1 / MOST_WEALTH)),
        better=_mean_log10([a + b for a, b in zip(held_out.better, live.better, strict=True)]),
        no_worse=_mean_log10([a + b for a, b in zip(held_out.no_worse, live.no_worse, strict=True)]),
        better_live=_mean_log10(live.better),
        no_worse_live=_mean_log10(live.no_worse),
        needed=-math.log10(settings.alpha),
        needed_live=-math.log10(settings.alpha_live),
    )


def _mean_log10(logs: Sequence[float]) -> float:
    most = max(logs)
    return (most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))) / math.log(10)
