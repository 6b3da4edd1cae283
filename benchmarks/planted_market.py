"""Real minutes with planted changes: mean-reverting returns, and a higher volatility."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.bars import PRICES


@dataclass(frozen=True)
class MarketPhase:
    """Properties of the planted market from `since` on."""

    since: datetime
    reversal: float  # share of an hour's return that the next hour takes back; below 0: that it adds
    volatility: float = 1.0  # times the real returns


def plant(minutes: pl.DataFrame, phases: Sequence[MarketPhase]) -> pl.DataFrame:
    """minutes    ts, open, high, low, close, volume

    An hour's planted return is its real one times `volatility`, less `reversal` times the planted return of the hour
    before, spread evenly over its minutes. Before the first phase, prices are unchanged.
    """
    hours = minutes.group_by(hour=pl.col("ts").dt.truncate("1h"), maintain_order=True).agg(
        pl.col("close").last().log(), pl.len()
    )
    close_N, n_N = hours["close"].to_numpy(), hours["len"].to_numpy()
    reversal_N, volatility_N = _by_hour(hours["hour"], phases)
    before_N = np.concatenate([close_N[:1], close_N[:-1]])  # close of the hour before
    return_N, taken_N = volatility_N * (close_N - before_N), np.zeros(len(close_N))
    for i in range(1, len(close_N)):
        taken_N[i] = -reversal_N[i] * return_N[i - 1]
        return_N[i] += taken_N[i]
    planted_N = close_N[0] + np.concatenate([[0.0], np.cumsum(return_N)[:-1]])  # close of the planted hour before

    hour_M = np.repeat(np.arange(len(close_N)), n_N)
    share_M = np.concatenate([np.arange(1, n + 1) / n for n in n_N])
    added_M = planted_N[hour_M] + taken_N[hour_M] * share_M
    moved = {
        name: np.exp(added_M + volatility_N[hour_M] * (np.log(minutes[name].to_numpy()) - before_N[hour_M])).round(4)
        for name in PRICES
    }
    return minutes.with_columns(**{name: pl.Series(values) for name, values in moved.items()})


def _by_hour(hours: pl.Series, phases: Sequence[MarketPhase]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reversal_N, volatility_N = np.zeros(len(hours)), np.ones(len(hours))
    for phase in phases:
        from_then = (hours >= phase.since).to_numpy()
        reversal_N[from_then], volatility_N[from_then] = phase.reversal, phase.volatility
    return reversal_N, volatility_N
