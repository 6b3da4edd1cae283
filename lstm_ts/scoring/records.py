"""Records of the forecasts of one model and of the baselines for the same origins, as made by evaluation.

Legend: N origins, H steps, Q levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.prices import Quote
from lstm_ts.scoring import metrics
from lstm_ts.scoring.metrics import Array

SHOWN_STEPS = (1, 6, 24)
TERCILES = ("low", "middle", "high")
BPS = 1e4
PERSISTENCE = "persistence"  # the forecast to beat
ROLLING_HAR = "har_rolling"  # which an untrained network equals but for skew and drift

Times = NDArray[np.datetime64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class ForecastRecord:
    """Forecasts of every forecaster for the same origins; a forecaster that skips a step has NaN in all of its rows."""

    symbol: str
    levels: tuple[float, ...]
    origin_ts_N: Times  # microseconds, UTC, ascending
    target_ts_NH: Times
    last_close_N: Array
    y_NH: Array  # log return, NaN where the target hour is missing
    quantiles: Mapping[str, Array]  # forecaster -> q_NHQ, log returns; the model first
    baselines: tuple[str, ...]  # names of those among them
    window_volatility_N: Array
    last_bar_position_N: Array  # of the close in the last bar, -1 at its high .. 1 at its low
    hour_of_day_N: NDArray[np.int64]  # of the origin, in the session's zone
    mase_scale_H: Array  # MAE of persistence in training, log return
    quote: Quote | None = None  # of the prices; None: unknown
    fold_N: NDArray[np.str_] | None = None  # of a walk forward: which fold's model made the forecast

    def __post_init__(self) -> None:
        n, horizon = self.y_NH.shape
        rows = (self.origin_ts_N, self.last_close_N, self.window_volatility_N, self.last_bar_position_N)
        assert n > 0 and all(a.shape == (n,) for a in (*rows, self.hour_of_day_N)), [a.shape for a in rows]
        assert self.target_ts_NH.shape == (n, horizon) and self.mase_scale_H.shape == (horizon,)
        assert self.origin_ts_N.dtype == self.target_ts_NH.dtype == np.dtype("datetime64[us]")
        assert (np.diff(self.origin_ts_N) > np.timedelta64(0)).all(), "origins must ascend"
        assert metrics.level_index(self.levels, 0.5) is not None, "the median is the point forecast"
        assert {PERSISTENCE} <= set(self.baselines) < self.quantiles.keys(), (self.baselines, tuple(self.quantiles))
        for name, q_NHQ in self.quantiles.items():
            assert q_NHQ.shape == (n, horizon, len(self.levels)), (name, q_NHQ.shape)
            skipped_H = np.isnan(q_NHQ).all(axis=(0, 2))
            assert (np.isfinite(q_NHQ).all(axis=(0, 2)) | skipped_H).all(), f"{name} has gaps within a step"
            assert name != self.model or not skipped_H.any(), f"{name} skips a step"

    @property
    def model(self) -> str:
        """The name of the model's network."""
        return next(iter(self.quantiles))

    @property
    def q_NHQ(self) -> Array:
        """The model's quantiles, log returns."""
        return self.quantiles[self.model]

    @property
    def loss_NH(self) -> Array:
        """The model's pinball loss; NaN where there is no target."""
        return self.pinball_NH[self.model]

    @property
    def n(self) -> int:
        return len(self.origin_ts_N)

    @property
    def horizon(self) -> int:
        return len(self.mase_scale_H)

    @property
    def shown_steps(self) -> list[int]:
        return [step for step in SHOWN_STEPS if step <= self.horizon]

    @cached_property
    def volatility_terciles(self) -> dict[str, Rows]:
        """Rows by the volatility of their window: low, middle, high."""
        edges = np.quantile(self.window_volatility_N, [1 / 3, 2 / 3])
        tercile_N = np.searchsorted(edges, self.window_volatility_N)
        return {name: tercile_N == i for i, name in enumerate(TERCILES)}

    @cached_property
    def pinball_NH(self) -> dict[str, Array]:
        """Loss of each forecaster, mean over the levels; NaN where there is no target or no forecast."""
        return {name: metrics.pinball_NH(self.y_NH, q_NHQ, self.levels) for name, q_NHQ in self.quantiles.items()}

    @cached_property
    def relative_losses(self) -> dict[str, float]:
        """Loss of each forecaster but the model over that of persistence, mean over the steps; the best first."""
        losses: dict[str, float] = {}
        for name in dict.fromkeys(name for step in range(1, self.horizon + 1) for name in self.others_at(step)):
            known_H = ~np.isnan(self.pinball_NH[name]).all(axis=0)
            loss_H, none_H = (np.nanmean(self.pinball_NH[n][:, known_H], axis=0) for n in (name, PERSISTENCE))
            losses[name] = float(np.mean(loss_H / none_H))
        return dict(sorted(losses.items(), key=lambda item: item[1]))

    def pinball_bps(self, name: str, step: int) -> float:
        return BPS * metrics.mean_of_known(self.pinball_NH[name][:, step - 1])

    def median_N(self, name: str, step: int) -> Array:
        middle = metrics.level_index(self.levels, 0.5)
        assert middle is not None
        return self.quantiles[name][:, step - 1, middle]

    def best_baseline(self, step: int) -> str:
        """Return the baseline with the least loss at the step."""
        return min(self.baselines, key=lambda name: np.nan_to_num(self.pinball_bps(name, step), nan=np.inf))

    def others_at(self, step: int) -> list[str]:
        """Return the forecasters beside the model that forecast the step."""
        return [name for name, q in self.quantiles.items() if name != self.model and not np.isnan(q[0, step - 1, 0])]


def concatenate(records: Sequence[ForecastRecord]) -> ForecastRecord:
    """Join records that follow each other in time; the MASE scale is their mean, weighted by origins."""
    first = records[0]
    names = ("origin_ts_N", "target_ts_NH", "last_close_N", "y_NH", "window_volatility_N", "last_bar_position_N",
             "hour_of_day_N", "fold_N")  # fmt: skip
    return ForecastRecord(
        symbol=first.symbol,
        levels=first.levels,
        quote=first.quote,
        quantiles={name: np.concatenate([r.quantiles[name] for r in records]) for name in first.quantiles},
        baselines=first.baselines,
        mase_scale_H=np.average([r.mase_scale_H for r in records], axis=0, weights=[r.n for r in records]),
        **{name: np.concatenate([getattr(r, name) for r in records]) for name in names},
    )


def quantile_column(level: float) -> str:
    """Return the name of a level's column: q05 for 0.05, q97.5 for 0.975; of the 10 digits that a level has."""
    return "q" + f"{100 * level:011.8f}".rstrip("0").rstrip(".")


def to_frame(record: ForecastRecord) -> pl.DataFrame:
    """Return the frame of forecasts.parquet: a row per origin and step with the model's quantiles, log returns.

    y is null where missing.
    """
    n, horizon = record.y_NH.shape
    q_RQ = record.q_NHQ.reshape(n * horizon, -1)
    columns: dict[str, Any] = {
        "origin_ts": np.repeat(record.origin_ts_N, horizon),
        "step": np.tile(np.arange(1, horizon + 1), n),
        "target_ts": record.target_ts_NH.ravel(),
        "last_close": np.repeat(record.last_close_N, horizon),
        "y": record.y_NH.ravel(),
    }
    columns |= {quantile_column(level): q_RQ[:, i] for i, level in enumerate(record.levels)}
    return pl.DataFrame(columns).with_columns(
        pl.col("origin_ts", "target_ts").dt.replace_time_zone("UTC"), pl.col("y").fill_nan(None)
    )
