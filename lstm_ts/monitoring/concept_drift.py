"""Drift test of a model against its gate's hours: an e-detector on its loss beside the best baseline's. Pure.

d of an origin is (model's pinball loss - baseline's) / width of the baseline's outermost interval, one step ahead, so a
market with twice the price or volatility does not change it. The e-value of an hour is the payoff of a bet on "d has
risen by more than the margin", 1 + bet * excess: at most 1 on average if it has not. The Shiryaev-Roberts sum
S = (S + 1) * e holds such bets from every hour on, so a change needs no date. Were the rise exactly the margin, S takes
at least `threshold` hours on average to reach the threshold (Shin, Ramdas & Rinaldo 2024, E-detectors).

Legend: N origins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.scoring import metrics
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.scoring.tables import percent

RESOLVES = 100.0  # evidence is capped at so many thresholds, so that an alarm ends soon after its cause
MOST_ALLOWANCE = 0.1  # share of the loss; a record with a larger error of d is too short


@dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """Settings of the drift test; conf/drift/default.yaml describes each."""

    margin: float
    threshold: float
    bets: Sequence[float]
    floor: float
    ceiling: float
    confidence: float
    min_origins: int
    over_hours: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"Expected drift.margin from 0 to below 0.5, got {self.margin}")
        if not self.threshold > 1:
            raise ConfigError(f"Expected drift.threshold above 1 hour, got {self.threshold}")
        if not self.floor < 0 < self.ceiling:
            raise ConfigError(f"Expected drift.floor < 0 < ceiling, got {self.floor} and {self.ceiling}")
        most = 1 / (MOST_ALLOWANCE + self.margin - self.floor)
        if not self.bets or not 0 < min(self.bets) <= max(self.bets) < most:
            raise ConfigError(f"Expected drift.bets above 0 and below the {most:.2f} of floor, got {self.bets}")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"Expected drift.confidence from 0.5 to below 1, got {self.confidence}")
        if self.min_origins < 100:
            raise ConfigError(f"Expected drift.min_origins of at least 100, got {self.min_origins}")
        if self.over_hours < 0:
            raise ConfigError(f"Expected drift.over_hours of at least 0, got {self.over_hours}")


@dataclass(frozen=True)
class DriftReference:
    """Statistics of d in the gate's out-of-sample record."""

    baseline: str  # the best one of the record
    step: int
    n: int
    mean: float  # of d
    loss: float  # mean of the model's loss over the width
    allowance: float  # shares of `loss`: the most that d may lie above its mean by this record's own error


@dataclass(frozen=True)
class DriftState:
    """State after n known hours; continued from its JSON, it equals that of one uninterrupted pass."""

    n: int
    sums: tuple[float, ...]  # S of each bet
    threshold: float
    run_log: float  # log wealth of the middle bet since it was last below its stake
    run_hours: int  # since then, which is about when a drift began
    run_excess: float  # sum of d - mean over those hours, shares of the reference's loss
    run_since: str = ""  # origin of the first of them, ISO
    drift_since: str = ""  # `run_since` when the active alarm rose

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make a state from the values of `dataclasses.asdict`."""
        return cls(**{**values, "sums": tuple(values["sums"])})

    @property
    def evidence(self) -> tuple[float, float]:
        """log10 of the mean S of the bets, and of the threshold."""
        return math.log10(max(sum(self.sums) / len(self.sums), 1e-9)), math.log10(self.threshold)

    @property
    def alarm(self) -> bool:
        return sum(self.sums) / len(self.sums) >= self.threshold


def choose_baseline(record: ForecastRecord, step: int = 1) -> str:
    """Return the baseline with the least loss among those with intervals, which persistence lacks."""
    wide = [name for name in record.baselines if (_width_N(record, name, step) > 0).all()]
    if not wide:
        raise NoRows(f"Expected a baseline with intervals {step} h ahead, got none of {list(record.baselines)}")
    return min(wide, key=lambda name: record.pinball_bps(name, step))


def compute_d_N(record: ForecastRecord, baseline: str, step: int = 1) -> Array:
    """Return d of every origin, NaN if the target is not known or the interval has no width."""
    ours_N, theirs_N = (record.pinball_NH[name][:, step - 1] for name in (record.model, baseline))
    width_N = _width_N(record, baseline, step)
    return np.asarray(np.divide(ours_N - theirs_N, width_N, out=np.full(record.n, np.nan), where=width_N > 0))


def _width_N(record: ForecastRecord, name: str, step: int) -> Array:
    q_NQ = record.quantiles[name][:, step - 1]
    return np.asarray(q_NQ[:, -1] - q_NQ[:, 0])


def make_reference(record: ForecastRecord, settings: DriftSettings, step: int = 1) -> DriftReference:
    """Raises    NoRows: the record has too few known targets"""
    baseline = choose_baseline(record, step)
    width_N = _width_N(record, baseline, step)
    ours_N, theirs_N = (record.pinball_NH[name][:, step - 1] / width_N for name in (record.model, baseline))
    test, loss = metrics.diebold_mariano(ours_N, theirs_N, step=step), metrics.mean_of_known(ours_N)
    if test.n >= settings.min_origins:
        beyond_floor_N = np.maximum(settings.floor - (ours_N - theirs_N - test.mean) / loss, 0)
        error = (test.bound(settings.confidence) - test.mean) / loss
        allowance = error + metrics.mean_of_known(beyond_floor_N)
        if allowance < MOST_ALLOWANCE:
            return DriftReference(baseline, step, test.n, test.mean, loss, allowance)
    raise NoRows(
        f"Expected a gate's record with {settings.min_origins} known targets {step} h ahead that show the loss beside "
        f"{baseline}'s to {percent(MOST_ALLOWANCE)}, got {test.n}; retrain with a longer held-out span"
    )


@dataclass(frozen=True)
class Detector:
    reference: DriftReference
    settings: DriftSettings

    def start(self) -> DriftState:
        return DriftState(0, (0.0,) * len(self.settings.bets), self.settings.threshold, 0.0, 0, 0.0)

    def resume(self, values: Mapping[str, Any]) -> DriftState:
        """Return a stored state, or a new one if the number of bets differs; sums of other bets stay evidence."""
        state = DriftState.from_json(values)
        return state if len(state.sums) == len(self.settings.bets) else self.start()

    def update(self, state: DriftState, d: float, origin: str = "") -> DriftState:
        """Add the hour of one origin; a NaN d is not known and changes nothing.

        A rise above the ceiling counts as the ceiling, which only lowers the payoff; one below the floor counts as the
        floor, in the reference too.
        """
        if math.isnan(d):
            return state
        settings, reference = self.settings, self.reference
        rise = (d - reference.mean) / reference.loss
        excess = min(max(rise, settings.floor), settings.ceiling) - reference.allowance - settings.margin
        factors = [1 + bet * excess for bet in settings.bets]
        most = RESOLVES * settings.threshold
        sums = tuple(min((s + 1) * factor, most) for s, factor in zip(state.sums, factors, strict=True))
        run_log = min(state.run_log + math.log(factors[len(factors) // 2]), math.log(most))
        found = replace(state, n=state.n + 1, sums=sums, threshold=settings.threshold)
        if run_log <= 0:
            found = replace(found, run_log=0.0, run_hours=0, run_excess=0.0, run_since="")
        else:
            since, excess_sum = state.run_since or origin, state.run_excess + rise
            found = replace(
                found, run_log=run_log, run_hours=state.run_hours + 1, run_excess=excess_sum, run_since=since
            )
        return replace(found, drift_since=(state.drift_since or found.run_since or origin) if found.alarm else "")

    def describe(self, state: DriftState) -> str:
        """Return one sentence with the numbers."""
        reference, (evidence, threshold) = self.reference, state.evidence
        beside = f"the loss beside {reference.baseline}'s"
        if not state.n:
            return f"Unknown: no outcome is known yet to judge {beside} by."
        gate = f"than in the gate's record of {reference.n:,} hours"
        stands = f"(evidence 10^{evidence:.1f}, an alarm from 10^{threshold:.1f})"
        if not state.run_hours:
            return f"No drift in {state.n:,} hours: {beside} is no higher {gate} {stands}."
        rise = f"{percent(state.run_excess / state.run_hours)} higher {gate}"
        lead = "Drift" if state.alarm else "No drift"
        return f"{lead}: over the last {state.run_hours:,} h {beside} is {rise} {stands}."
