"""Comparison of the market with the training hours: a finding, but no alarm by itself. Pure.

A forecast is in units of its window's volatility: higher prices or volatility need not make it worse; `concept_drift`
tests for that.
Legend: N training hours, M recent hours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.model.features import Grid
from lstm_ts.model.windows import BODY, GAP, MAX_RETURN, POSITION, RANGE, Windows
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import BPS
from lstm_ts.scoring.tables import percent

SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
INPUTS = 4  # of the network, which share alpha
SEED = 0  # the same hours always give the same limit


@dataclass(frozen=True, kw_only=True)
class RegimeSettings:
    """Settings of the comparison; conf/regime/default.yaml describes each."""

    recent_hours: int
    block_hours: int
    draws: int
    alpha: float

    def __post_init__(self) -> None:
        if not 1 <= self.block_hours <= self.recent_hours:
            raise ConfigError(
                f"Expected regime.block_hours from 1 to recent_hours={self.recent_hours}, got {self.block_hours}"
            )
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"Expected regime.alpha between 0 and 0.5, got {self.alpha}")
        if self.draws * self.alpha < INPUTS:
            least = f"{INPUTS} / alpha = {math.ceil(INPUTS / self.alpha)}"
            raise ConfigError(f"Expected regime.draws of at least {least}, got {self.draws}")


@dataclass(frozen=True)
class Hours:
    """Known hours in order; missing values of each array are NaN."""

    close_N: Array
    range_N: Array  # log(high / low)
    inputs: Mapping[str, Array]  # the network's inputs, scaled


@dataclass(frozen=True)
class RegimeCheck:
    name: str
    value: float
    low: float  # of the usual range
    high: float
    sentence: str

    @property
    def outside(self) -> bool:
        return not self.low <= self.value <= self.high


def read_hours(grid: Grid, windows: Windows[NDArray[Any]], inside_G: NDArray[np.bool_]) -> Hours:
    """Hours of the grid, each input in units of the window that ends with it; missing ones are left out."""
    rows = np.flatnonzero(inside_G & ~grid.missing_G & ~np.isnan(windows.volatility_G))
    columns = windows.features_GF[rows].astype(np.float64)
    volatility_N = windows.volatility_G[rows].astype(np.float64)
    inputs = {
        "body": (columns[:, BODY] / volatility_N).clip(-MAX_RETURN, MAX_RETURN),
        "gap": (columns[:, GAP] / volatility_N).clip(-MAX_RETURN, MAX_RETURN),
        "range": columns[:, RANGE] - windows.log_volatility_G[rows],
        "position": columns[:, POSITION],
    }
    assert len(inputs) == INPUTS
    return Hours(grid.close_G[rows], grid.range_G[rows], inputs)


def check_regime(training: Hours, recent: Hours, settings: RegimeSettings) -> list[RegimeCheck]:
    """Compare the last `recent_hours` with the training hours: volatility, price, then each input.

    Raises    NoRows: too few of either; ConfigError: other inputs than in training
    """
    if training.inputs.keys() != recent.inputs.keys():
        raise ConfigError(f"Expected the inputs {sorted(training.inputs)}, got {sorted(recent.inputs)}")
    checks = [_check_volatility(training, recent, settings), _check_price(training, recent)]
    for name, training_N in training.inputs.items():
        checks.append(_check_input(name, training_N, recent.inputs[name], settings, tests=len(training.inputs)))
    return checks


def describe_regime(name: str, checks: Sequence[RegimeCheck]) -> Finding:
    outside = [check.sentence for check in checks if check.outside]
    if outside:
        sentence = f"Another regime than in the training of {name}, which is no drift by itself. {' '.join(outside)}"
        return Finding("regime", name, Health.BAD, sentence)
    volatility, price = checks[:2]
    return Finding("regime", name, Health.GOOD, f"{volatility.sentence} {price.sentence}")


def _check_volatility(training: Hours, recent: Hours, settings: RegimeSettings) -> RegimeCheck:
    """Compare the mean range of the recent hours with every stretch of as many training hours."""
    training_N, recent_M = _known(training.range_N, recent.range_N, settings)
    value = BPS * float(recent_M.mean())
    sums_N = np.append(0, training_N).cumsum()
    stretch_N = BPS * (sums_N[len(recent_M) :] - sums_N[: -len(recent_M)]) / len(recent_M)
    low, high = float(stretch_N.min()), float(stretch_N.max())
    found = f"The mean hourly range of the last {len(recent_M):,} hours is {value:.1f} bps, {_place(value, low, high)}"
    return RegimeCheck(
        "volatility", value, low, high, f"{found} the {low:.1f} to {high:.1f} of as long a stretch of training hours."
    )


def _check_price(training: Hours, recent: Hours) -> RegimeCheck:
    training_N, recent_M = _drop_missing(training.close_N), _drop_missing(recent.close_N)
    if not len(training_N) or not len(recent_M):
        raise NoRows("Expected closes of training hours and of recent hours, got none of one of them")
    value, low, high = float(recent_M[-1]), float(training_N.min()), float(training_N.max())
    sentence = f"The last close is {value:.6g}, {_place(value, low, high)} the {low:.6g} to {high:.6g} of training."
    return RegimeCheck("price", value, low, high, sentence)


def _place(value: float, low: float, high: float) -> str:
    return "below" if value < low else "above" if value > high else "within"


def _check_input(name: str, training_N: Array, recent_M: Array, settings: RegimeSettings, *, tests: int) -> RegimeCheck:
    """Compare the Kolmogorov-Smirnov distance with that of training hours drawn in blocks, since hours are dependent.

    The limit holds for `tests` inputs together, and is widened since the training hours are a sample too.
    """
    training_N, recent_M = _known(training_N, recent_M, settings)
    n, m = len(training_N), len(recent_M)
    drawn = _draw_blocks(training_N, m, settings)
    distances = measure_distance(training_N, np.vstack([drawn, recent_M]))
    high = float(np.quantile(distances[:-1], 1 - settings.alpha / tests)) * math.sqrt(1 + m / n)
    value = float(distances[-1])
    place = "off" if value > high else "like"
    sentence = (
        f"Input {name} of the last {m:,} hours is distributed {place} the training hours': distance {value:.3f}, "
        f"limit {high:.3f} at {percent(settings.alpha, 0)}."
    )
    return RegimeCheck(f"input {name}", value, 0.0, high, sentence)


def _draw_blocks(training_N: Array, m: int, settings: RegimeSettings) -> Array:
    """Draw a circular block bootstrap (Politis & Romano 1992): draws x m values."""
    n, length = len(training_N), settings.block_hours
    starts = np.random.default_rng(SEED).integers(n, size=(settings.draws, math.ceil(m / length)))
    rows = (starts[..., None] + np.arange(length)) % n
    return np.asarray(training_N[rows.reshape(settings.draws, -1)[:, :m]])


def measure_distance(training_N: Array, sample_DM: Array) -> Array:
    """Return the largest gap between the empirical distribution functions of the training hours and each sample.

    It lies at a value of the sample: there the sample's jumps from (i - 1) / M to i / M.
    """
    sorted_N, sample_DM = np.sort(training_N), np.sort(sample_DM, axis=1)
    below_DM, up_to_DM = (np.searchsorted(sorted_N, sample_DM, side) / len(sorted_N) for side in SIDES)
    m = sample_DM.shape[1]
    step_M = np.arange(m) / m
    return np.asarray(np.maximum(below_DM - step_M, step_M + 1 / m - up_to_DM).max(axis=1))


def _known(training_N: Array, recent_M: Array, settings: RegimeSettings) -> tuple[Array, Array]:
    """Raises    NoRows: fewer known hours than can be compared"""
    training_N, recent_M = _drop_missing(training_N), _drop_missing(recent_M)[-settings.recent_hours :]
    if len(recent_M) < settings.recent_hours or len(training_N) < 2 * settings.recent_hours:
        raise NoRows(
            f"Expected {settings.recent_hours:,} recent hours and twice as many of training, got {len(recent_M):,} "
            f"and {len(training_N):,}; wait for more, or set regime.recent_hours"
        )
    return training_N, recent_M


def _drop_missing(values: Array) -> Array:
    return values[~np.isnan(values)]
