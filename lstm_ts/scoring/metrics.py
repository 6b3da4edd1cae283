"""Scores of quantile forecasts, and the test behind every claim of skill. Pure functions of arrays.

Legend: N origins, H steps, Q levels. Targets, quantiles and losses are log returns, not bps.
NaN in y is a missing target: its rows have no loss and are left out of every mean and test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CENTRAL_INTERVALS = {"0.5": (0.25, 0.75), "0.8": (0.1, 0.9), "0.9": (0.05, 0.95)}


def level_index(levels: Sequence[float], wanted: float) -> int | None:
    """Return the index of a level, None if it is not among them; 3 * 0.05 counts as 0.15."""
    return next((i for i, level in enumerate(levels) if math.isclose(level, wanted, abs_tol=1e-9)), None)


def mean_of_known(values: Array) -> float:
    """Return the mean without the NaNs; NaN where there is no other value."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def pinball_NH(y_NH: Array, q_NHQ: Array, levels: Sequence[float]) -> Array:
    """Quantile loss max(t e, (t - 1) e) with e = y - q (Koenker & Bassett 1978), mean over the levels t."""
    error_NHQ = y_NH[..., None] - q_NHQ
    return np.asarray((error_NHQ * levels + np.maximum(-error_NHQ, 0.0)).mean(axis=-1), dtype=np.float64)


def crps_from_pinball(pinball: float) -> float:
    """CRPS as twice the pinball loss over evenly spaced levels (Gneiting & Ranjan 2011), blind in the outer tails."""
    return 2.0 * pinball


def coverage(y_N: Array, low_N: Array, high_N: Array) -> float:
    """Share of known targets inside the closed interval."""
    inside_N = ((low_N <= y_N) & (y_N <= high_N)).astype(np.float64)
    return mean_of_known(np.where(np.isnan(y_N), np.nan, inside_N))


def central_coverage(y_N: Array, q_NQ: Array, levels: Sequence[float]) -> dict[str, float]:
    """Coverage of the 50, 80 and 90 % intervals, of those whose two levels exist."""
    shares = {}
    for name, (low, high) in CENTRAL_INTERVALS.items():
        i, j = level_index(levels, low), level_index(levels, high)
        if i is not None and j is not None:
            shares[name] = coverage(y_N, q_NQ[:, i], q_NQ[:, j])
    return shares


def mirrored_coverages(y_N: Array, q_NQ: Array, levels: Sequence[float]) -> tuple[Array, Array]:
    """Nominal and observed coverage of every interval between two levels that mirror each other."""
    pairs = [(i, level_index(levels, 1 - level)) for i, level in enumerate(levels) if level < 0.5]
    found = [(i, j) for i, j in pairs if j is not None]
    nominal = np.array([levels[j] - levels[i] for i, j in found])
    return nominal, np.array([coverage(y_N, q_NQ[:, i], q_NQ[:, j]) for i, j in found])


def mase(mae: float, scale: float) -> float:
    """Mean absolute scaled error (Hyndman & Koehler 2006); `scale` is the training MAE of persistence at that step."""
    return mae / scale if scale > 0 else math.nan


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """95 % score interval of a binomial share (Wilson 1927); `n` may be an effective, fractional size."""
    z = NormalDist().inv_cdf(0.975)
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


@dataclass(frozen=True)
class DirectionalAccuracy:
    share: float
    interval: tuple[float, float]
    n: int


def directional_accuracy(y_N: Array, median_N: Array, *, step: int) -> DirectionalAccuracy:
    """Share of rows whose return has the sign of the median forecast.

    A forecast or a return of exactly zero has no direction and is left out; so persistence gets NaN, not 0 %.
    Targets `step` hours long overlap, so n rows count as n / step in the interval.
    """
    counted_N = ~np.isnan(y_N) & (y_N != 0) & (median_N != 0)
    n = int(counted_N.sum())
    if n == 0:
        return DirectionalAccuracy(math.nan, (math.nan, math.nan), 0)
    share = float((np.sign(y_N[counted_N]) == np.sign(median_N[counted_N])).mean())
    return DirectionalAccuracy(share, wilson_interval(share, n / step), n)


def _student_quantile(share: float, degrees: int) -> float:
    from scipy.special import stdtrit  # slow to import, and a service has no use for it

    return float(stdtrit(degrees, share))


@dataclass(frozen=True)
class DieboldMariano:
    mean: float  # of loss a - loss b, below zero where a is better
    standard_error: float  # of the mean, HLN-corrected; 0 if the losses differ by a constant, NaN with too few rows
    p: float  # two-sided; NaN without a standard error above 0
    n: int
    lag: int

    def bound(self, confidence: float) -> float:
        """Return the bound that the true mean lies below with this confidence, and above with 1 - confidence."""
        return self.mean + _student_quantile(confidence, self.n - 1) * self.standard_error

    def detectable(self, *, alpha: float, power: float) -> float:
        """Return the smallest true difference that a one-sided test at `alpha` finds with probability `power`."""
        return (_student_quantile(1 - alpha, self.n - 1) + _student_quantile(power, self.n - 1)) * self.standard_error


def diebold_mariano(loss_a_N: Array, loss_b_N: Array, *, step: int) -> DieboldMariano:
    """Test of equal accuracy of two forecasts of the same targets (Diebold & Mariano 1995).

    Long-run variance with Bartlett weights (Newey & West 1987), lag max(step - 1, floor(4 (n / 100)^(2/9)))
    (the second by Newey & West 1994); beyond one step the rectangular kernel up to step - 1 of Diebold & Mariano where
    that is larger, since Bartlett weights play the overlap of the targets down. The statistic is multiplied by
    sqrt((n + 1 - 2 step + step (step - 1) / n) / n) and compared with Student's t of n - 1 degrees of freedom
    (Harvey, Leybourne & Newbold 1997). Rows without a loss are left out and the others close up, so a lag counts rows
    kept; `step` is how many in a row have targets that overlap, fewer than hours ahead where rows lie apart.
    """
    difference = loss_a_N - loss_b_N
    difference = difference[~np.isnan(difference)]
    n, mean = difference.size, mean_of_known(difference)
    lag = max(step - 1, math.floor(4 * (n / 100) ** (2 / 9)))
    variance = _long_run_variance(difference - mean, step=step, lag=lag) if n > step else math.nan
    if not variance > 0:
        return DieboldMariano(mean, variance, math.nan, n, lag)
    correction = math.sqrt((n + 1 - 2 * step + step * (step - 1) / n) / n)
    standard_error = math.sqrt(variance / n) / correction
    from scipy.special import stdtr

    p = 2 * float(stdtr(n - 1, -abs(mean) / standard_error))
    return DieboldMariano(mean, standard_error, p, n, lag)


def _long_run_variance(centred: Array, *, step: int, lag: int) -> float:
    """Return the variance with Bartlett weights up to `lag`; beyond one step, unweighted up to step - 1 if larger."""
    n = centred.size
    covariances = [float(centred[k:] @ centred[: n - k]) / n for k in range(min(lag, n - 1) + 1)]
    weighted = [(1 - k / (lag + 1)) * covariance for k, covariance in enumerate(covariances)]
    bartlett, overlap = (2 * sum(terms) - covariances[0] for terms in (weighted, covariances[:step]))
    return bartlett if step == 1 else max(bartlett, overlap)
