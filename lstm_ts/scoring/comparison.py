"""Two models' forecasts of the same hours, step by step, and one's losses beside another's. Pure.

Legend: N origins, H steps, Q levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.scoring import metrics
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import BPS, PERSISTENCE, ForecastRecord, Rows, Times
from lstm_ts.scoring.tables import percent

NO_LOSS = 1e-12  # log return; a market that stands still is no division by zero


@dataclass(frozen=True)
class StepComparison:
    """Pairs: the first model's, the second's."""

    step: int
    n: int  # origins whose target is known
    pinball_bps: tuple[float, float]
    persistence_bps: float
    coverage_80: tuple[float, float]  # NaN for a model without the levels 0.1 and 0.9
    difference_bps: float  # below zero where the first is better
    p: float  # Diebold-Mariano, two-sided; NaN where both say the same, or too little is known


@dataclass(frozen=True)
class Comparison:
    first_origin: np.datetime64  # UTC
    last_origin: np.datetime64
    n: int  # origins that both have forecast from
    steps: tuple[StepComparison, ...]


def compare_records(first: ForecastRecord, second: ForecastRecord) -> Comparison:
    """Compare at the origins that both have, up to the shorter horizon.

    Raises    ConfigError: of other symbols, levels or session hours; NoRows: not one origin in common
    """
    check_alike(first, second)
    both_N = np.intersect1d(first.origin_ts_N, second.origin_ts_N)
    if not len(both_N):
        raise NoRows("Expected hours that both models can forecast from, got none in common; choose a longer span")
    rows = [np.isin(record.origin_ts_N, both_N) for record in (first, second)]
    horizon = min(first.horizon, second.horizon)
    targets = [record.target_ts_NH[rows_N, :horizon] for record, rows_N in zip((first, second), rows, strict=True)]
    if not np.array_equal(targets[0], targets[1]):
        raise ConfigError("Expected two models of the same session hours, got two calendars; choose other versions")
    steps = [_compare_step(first, second, rows, step) for step in range(1, horizon + 1)]
    return Comparison(both_N[0], both_N[-1], len(both_N), tuple(steps))


def check_alike(first: ForecastRecord, second: ForecastRecord) -> None:
    for what, one, other in (("symbol", first.symbol, second.symbol), ("levels", first.levels, second.levels)):
        if one != other:
            raise ConfigError(f"Expected two models of the same {what}, got {one} and {other}; choose other versions")


def _compare_step(first: ForecastRecord, second: ForecastRecord, rows: Sequence[Rows], step: int) -> StepComparison:
    ours_N, theirs_N = (r.loss_NH[rows_N, step - 1] for r, rows_N in zip((first, second), rows, strict=True))
    test = metrics.diebold_mariano(ours_N, theirs_N, step=step)
    return StepComparison(
        step=step,
        n=test.n,
        pinball_bps=(_bps(ours_N), _bps(theirs_N)),
        persistence_bps=_bps(first.pinball_NH[PERSISTENCE][rows[0], step - 1]),
        coverage_80=(_coverage(first, rows[0], step), _coverage(second, rows[1], step)),
        difference_bps=BPS * test.mean,
        p=test.p,
    )


def _bps(loss_N: Array) -> float:
    return BPS * metrics.mean_of_known(loss_N)


def _coverage(record: ForecastRecord, rows_N: Rows, step: int) -> float:
    y_N, q_NQ = record.y_NH[rows_N, step - 1], record.q_NHQ[rows_N, step - 1]
    return metrics.central_coverage(y_N, q_NQ, record.levels).get("0.8", float("nan"))


@dataclass(frozen=True)
class LossComparison:
    """The candidate's loss beside another's: shares of the other's, below 0 where the candidate is better.

    In `words` the sign is that of skill, as in every table: above 0 is better.
    """

    words: str
    difference: float
    lower: float  # one-sided bounds with confidence 1 - alpha
    upper: float
    detectable: float
    n: int

    def origins_for(self, share: float) -> str:
        return f"{math.ceil(self.n * (self.detectable / share) ** 2):,} origins, not {self.n:,}"


def compare_losses(
    ours_N: Array, theirs_N: Array, other: str, step: int, *, alpha: float, power: float
) -> LossComparison:
    """Bounds are NaN with no more known targets than steps.

    other          name of the other
    alpha, power   of the test, and of what it would have shown
    """
    test = metrics.diebold_mariano(ours_N, theirs_N, step=step)
    share = 1 / max(theirs := metrics.mean_of_known(theirs_N), NO_LOSS)
    upper = share * test.bound(1 - alpha)
    losses = f"{BPS * (theirs + test.mean):.3f} bps against {BPS * theirs:.3f} of {other}"
    skill, least = (percent(-value, 2, signed=True) for value in (share * test.mean, upper))
    sure = percent(1 - alpha, 0)
    return LossComparison(
        words=f"Pinball {step} h ahead is {losses}, skill {skill} (with {sure} confidence at least {least})",
        difference=share * test.mean,
        lower=share * test.bound(alpha),
        upper=upper,
        detectable=share * test.detectable(alpha=alpha, power=power),
        n=test.n,
    )


@dataclass(frozen=True)
class Pairs:
    """Both models at the origins that both have, over the mean width of their intervals; NaN: target not known."""

    origin_ts_N: Times
    difference_N: Array
    bound_N: Array  # of the difference's size, whatever the outcome
    champion_loss_N: Array


def compute_pairs(challenger: ForecastRecord, champion: ForecastRecord, step: int = 1) -> Pairs:
    """Raises    ConfigError: of other symbols or levels; NoRows: not one origin in common"""
    check_alike(challenger, champion)
    both_N, *rows = np.intersect1d(challenger.origin_ts_N, champion.origin_ts_N, return_indices=True)
    if not len(both_N):
        raise NoRows("Expected hours that challenger and champion have both forecast, got none in common")
    ours_NQ, theirs_NQ = (r.q_NHQ[i, step - 1] for r, i in zip((challenger, champion), rows, strict=True))
    ours_N, theirs_N = (r.loss_NH[i, step - 1] for r, i in zip((challenger, champion), rows, strict=True))
    width_N = (ours_NQ[:, -1] - ours_NQ[:, 0] + theirs_NQ[:, -1] - theirs_NQ[:, 0]) / 2
    level_Q = np.asarray(challenger.levels)
    apart_N = (np.maximum(level_Q, 1 - level_Q) * np.abs(ours_NQ - theirs_NQ)).mean(axis=1)
    return Pairs(both_N, (ours_N - theirs_N) / width_N, apart_N / width_N, theirs_N / width_N)
