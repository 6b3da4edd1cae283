"""Live skill with an interval that is valid at every look. Pure.

The unit is the day: forecasts 24 hours ahead of one day overlap, and reach into the next. Legend: D days.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError
from lstm_ts.scoring.metrics import Array

RARE_DAYS = 30  # so many more would show the rare days of large losses that few days miss


@dataclass(frozen=True)
class DailyLosses:
    """Sums over the origins of each day whose target is known, in ascending days; a day without one is no row."""

    day_D: NDArray[np.datetime64]
    n_D: NDArray[np.int64]
    model_D: Array
    baseline_D: Array


@dataclass(frozen=True, kw_only=True)
class SkillSettings:
    alpha: float  # chance that the interval ever misses the true skill
    min_days: int  # before there is an interval
    tightest_days: int  # number of days for which the interval is tuned to be narrowest

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"Expected live_skill.alpha between 0 and 0.5, got {self.alpha}")
        if not 2 <= self.min_days <= self.tightest_days:
            raise ConfigError(
                f"Expected live_skill.min_days from 2 to tightest_days={self.tightest_days}, got {self.min_days}"
            )


@dataclass(frozen=True)
class LiveSkill:
    """1 - model's loss / baseline's loss; NaN is not known yet."""

    skill: float
    low: float
    high: float
    n: int  # origins
    days: int
    since: np.datetime64 | None  # the first day; None without any
    confidence: float  # that low to high holds the true skill, however often it is checked


def estimate_skill(days: DailyLosses, settings: SkillSettings) -> LiveSkill:
    """Skill over all the days, with a confidence sequence for it.

    The bound is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Time-uniform
    central limit theory and asymptotic confidence sequences, Theorem 2.2) for the mean of model - ratio * baseline.
    """
    count, n = len(days.day_D), int(days.n_D.sum())
    since = days.day_D[0] if count else None
    total = float(days.baseline_D.sum())
    if not total > 0:
        return LiveSkill(math.nan, math.nan, math.nan, n, count, since, 1 - settings.alpha)
    ratio = float(days.model_D.sum()) / total
    half = math.nan
    if count >= settings.min_days:
        sd = math.sqrt(_long_run_variance(days.model_D - ratio * days.baseline_D))
        half = sd / (total / count) * radius(count, alpha=settings.alpha, tightest=settings.tightest_days)
    return LiveSkill(1 - ratio, 1 - ratio - half, 1 - ratio + half, n, count, since, 1 - settings.alpha)


def describe_confidence(confidence: float) -> str:
    """Write it in percent, with as many digits as it has: an alpha of 0.005 is not 100 %."""
    return f"{100 * confidence:.6g} %"


def radius(n: int, *, alpha: float, tightest: int) -> float:
    """Half of the interval's width after n values, in their standard deviations.

    tightest   the n at which the mixture's rho makes it about as narrow as can be
    """
    odds = -2 * math.log(alpha)
    rho2 = (odds + math.log(odds) + 1) / tightest
    spent = n * rho2 + 1
    return math.sqrt(2 * spent / (n * n * rho2) * math.log(math.sqrt(spent) / alpha))


def _long_run_variance(residual_D: Array) -> float:
    """Variance and twice the autocovariance of the next day, never below the variance.

    Multiplied by 1 + RARE_DAYS / D: in 2,000 paths of real days each, without it 6 to 17 % left a 95 % interval.
    """
    count = len(residual_D)
    variance, next_day = (float(residual_D[lag:] @ residual_D[: count - lag]) / count for lag in (0, 1))
    return max(variance, variance + 2 * next_day) * (1 + RARE_DAYS / count)
