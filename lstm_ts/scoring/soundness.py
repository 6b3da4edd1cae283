"""Checks of one model's forecasts by themselves, without a comparison. Pure. Legend: N origins."""

import math
from collections.abc import Sequence

import numpy as np

from lstm_ts.scoring import metrics
from lstm_ts.scoring.comparison import NO_LOSS
from lstm_ts.scoring.decision import GateCheck
from lstm_ts.scoring.records import BPS, ForecastRecord
from lstm_ts.scoring.tables import percent

INTERVAL = "0.8"
NEGLIGIBLE = 0.01  # of the mean move: a shift of the median so short changes the loss by some 0.01 %


def check_coverage(record: ForecastRecord, step: int, bounds: Sequence[float]) -> GateCheck:
    """Check the coverage; a share outside the bounds fails only if its 95 % interval lies outside too."""
    low, high = bounds
    y_N = record.y_NH[:, step - 1]
    share = metrics.central_coverage(y_N, record.q_NHQ[:, step - 1], record.levels)[INTERVAL]
    least, most = metrics.wilson_interval(share, int((~np.isnan(y_N)).sum()) / step)
    passed = low <= share <= high or (False if most < low or least > high else None)
    found = f"{percent(share)} of the targets ({percent(least)} to {percent(most)} with 95 % confidence)"
    required = f"{percent(low)} to {percent(high)} is required"
    return GateCheck("coverage", passed, f"The central 80 % interval {step} h ahead covers {found}; {required}.")


def check_anchor(record: ForecastRecord, step: int, bounds: Sequence[float]) -> GateCheck:
    """Check that all median prices over the last close lie within the bounds."""
    low, high = bounds
    least, most = np.exp(np.quantile(record.median_N(record.model, step), [0, 1])).tolist()
    found = f"The median price {step} h ahead is {least:.4f} to {most:.4f} of the last close"
    return GateCheck("anchor", low <= least and most <= high, f"{found}; {low} to {high} is required.")


def check_last_bar(record: ForecastRecord, step: int, alpha: float) -> GateCheck:
    """Check that the forecast follows the last close's position in its bar at most twice as far as the returns do.

    Half of the forecast and the return are multiplied by the centred position, signed so that the forecast's product
    is positive on average: its surplus is a spurious relation. (Half, since a true one is learnt with an error.) A
    negligible one is none, whatever the market did.
    """
    y_N, median_N = record.y_NH[:, step - 1], record.median_N(record.model, step)
    position_N = np.where(np.isnan(y_N), np.nan, record.last_bar_position_N)
    shape_N = position_N - metrics.mean_of_known(position_N)
    claimed_N, true_N = shape_N * median_N, shape_N * y_N
    sign = math.copysign(1.0, metrics.mean_of_known(claimed_N))
    surplus = metrics.diebold_mariano(sign * claimed_N / 2, sign * true_N, step=step)
    high_to_low = 2 * BPS / max(metrics.mean_of_known(shape_N**2), NO_LOSS)
    claimed, true = (high_to_low * metrics.mean_of_known(product_N) for product_N in (claimed_N, true_N))
    least = NEGLIGIBLE * BPS * metrics.mean_of_known(np.abs(y_N))
    made_up = abs(claimed) >= least and surplus.bound(alpha) > 0
    sure = f"with {percent(1 - alpha)} confidence"
    verdict = (
        f"the forecast leans on the last bar more than twice as far as the market did ({sure}), which it has made up"
        if made_up
        else f"only more than twice as far as the market, {sure}, would count against it; a lean of less than "
        f"{least:.2f} bps never does"
    )
    reason = (
        f"Where the last bar closed at its low instead of its high, the median {step} h ahead lies {claimed:+z.2f} bps "
        f"from where it was and the market went {true:+z.2f} bps: {verdict}."
    )
    return GateCheck("last bar", not made_up, reason)
