"""The forecasts of a version at every session hour, and their scores once the outcomes are known. Pure.

Legend: N origins, H steps, S steps that are scored, B baselines, Q levels.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lstm_ts.ledger.monitor_rows import HourlyForecast, Outcome, Score
from lstm_ts.model.features import Array, Bars
from lstm_ts.scoring.metrics import level_index
from lstm_ts.scoring.records import TERCILES, ForecastRecord

INTERVAL = 0.1, 0.9
MAX_SHIFT = 0.1  # of the interval: a return that revisions have changed by more is of two series
MODEL = "model"  # whatever its network


def list_forecasts(
    record: ForecastRecord, bars: Bars, *, name: str, version: int, tsteps: int, at: datetime
) -> list[HourlyForecast]:
    """Return the record's forecasts, each with the hash of its window in `bars`, as for a served forecast."""
    ends_N = np.searchsorted(bars.ts_N, record.origin_ts_N - np.timedelta64(1, "h"), side="right")
    steps = tuple(record.shown_steps)
    columns = [step - 1 for step in steps]
    q_NHQ = record.q_NHQ.astype(np.float32)
    baseline_q_NBSQ = np.stack([record.quantiles[name][:, columns] for name in record.baselines], axis=1)
    baseline_q_NBSQ = baseline_q_NBSQ.astype(np.float32)
    return [
        HourlyForecast(
            name=name,
            version=version,
            origin_ts=record.origin_ts_N[i].item().replace(tzinfo=UTC),
            symbol=record.symbol,
            at=at,
            last_close=float(record.last_close_N[i]),
            volatility=float(record.window_volatility_N[i]),
            hour_of_day=int(record.hour_of_day_N[i]),
            levels=record.levels,
            target_ts_H=record.target_ts_NH[i],
            q_HQ=q_NHQ[i],
            baselines=record.baselines,
            steps=steps,
            baseline_q_BSQ=baseline_q_NBSQ[i],
            input_sha256=bars.between(max(ends_N[i] - tsteps, 0), ends_N[i]).sha256,
        )
        for i in range(record.n)
    ]


@dataclass(frozen=True)
class Closes:
    """The close of each hour by the time of its close: as first seen complete, and after the last revision."""

    first: Mapping[datetime, float]
    latest: Mapping[datetime, float]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Closes":
        """outcomes   the revisions of each hour ascending"""
        return cls(
            {outcome.target_ts: outcome.close for outcome in outcomes if outcome.revision == 0},
            {outcome.target_ts: outcome.close for outcome in outcomes},
        )


def make_record(forecasts: Sequence[HourlyForecast], closes: Closes) -> ForecastRecord:
    """Join the forecasts of one version with their outcomes; baselines are NaN at steps that are not scored.

    forecasts   ascending by origin, at least one
    Returns     outcomes as each hour was when it was complete; NaN where it is unknown, or where the bars were revised
                between origin and outcome, such as by a split
    """
    first = forecasts[0]
    horizon, columns = len(first.q_HQ), [step - 1 for step in first.steps]
    target_ts_NH = np.stack([forecast.target_ts_H for forecast in forecasts])
    origins = [forecast.origin_ts for forecast in forecasts]
    last_close_N = np.array([forecast.last_close for forecast in forecasts])
    stored_N = np.array([closes.latest.get(ts, close) for ts, close in zip(origins, last_close_N, strict=True)])
    y_NH = np.log(_join(target_ts_NH, closes.first) / last_close_N[:, None])
    stored_y_NH = np.log(_join(target_ts_NH, closes.latest) / stored_N[:, None])
    low, high = (level_index(first.levels, level) for level in INTERVAL)
    width_NH = np.stack([forecast.q_HQ[:, high] - forecast.q_HQ[:, low] for forecast in forecasts])
    y_NH[np.abs(y_NH - stored_y_NH) > MAX_SHIFT * width_NH] = np.nan
    quantiles = {MODEL: np.stack([forecast.q_HQ for forecast in forecasts]).astype(np.float64)}
    for i, name in enumerate(first.baselines):
        quantiles[name] = np.full_like(quantiles[MODEL], np.nan)
        quantiles[name][:, columns] = np.stack([forecast.baseline_q_BSQ[i] for forecast in forecasts])
    return ForecastRecord(
        symbol=first.symbol,
        levels=first.levels,
        origin_ts_N=np.array([ts.replace(tzinfo=None) for ts in origins], "datetime64[us]"),
        target_ts_NH=target_ts_NH,
        last_close_N=last_close_N,
        y_NH=y_NH,
        quantiles=quantiles,
        baselines=first.baselines,
        window_volatility_N=np.array([forecast.volatility for forecast in forecasts]),
        last_bar_position_N=np.full(len(forecasts), np.nan),
        hour_of_day_N=np.array([forecast.hour_of_day for forecast in forecasts]),
        mase_scale_H=np.full(horizon, np.nan),
    )


def _join(target_ts_NH: NDArray[np.datetime64], close_by_target: Mapping[datetime, float]) -> Array:
    rows = target_ts_NH.tolist()
    return np.array([[close_by_target.get(ts.replace(tzinfo=UTC), np.nan) for ts in row] for row in rows])


def find_edges(record: ForecastRecord) -> list[float]:
    """Return the volatility terciles' edges of an out-of-sample record."""
    edges: list[float] = np.quantile(record.window_volatility_N, [1 / 3, 2 / 3]).tolist()
    return edges


def list_scores(
    record: ForecastRecord,
    scored: Container[tuple[datetime, int]],
    *,
    name: str,
    version: int,
    edges: Sequence[float],
    at: datetime,
) -> list[Score]:
    """Score the forecasts that have an outcome and no score yet, in the order of targets.

    scored   origins and steps that have a score
    edges    see `find_edges`
    """
    low, high = (level_index(record.levels, level) for level in INTERVAL)
    assert low is not None and high is not None, record.levels
    below_NH = (record.q_NHQ < record.y_NH[..., None]).sum(axis=-1)
    tercile_N = np.searchsorted(edges, record.window_volatility_N)
    found = []
    for i, origin in enumerate(record.origin_ts_N.tolist()):
        for step in record.shown_steps:
            h, origin_ts = step - 1, origin.replace(tzinfo=UTC)
            if np.isnan(record.y_NH[i, h]) or (origin_ts, step) in scored:
                continue
            score = Score(
                name=name,
                version=version,
                origin_ts=origin_ts,
                step=step,
                at=at,
                y=float(record.y_NH[i, h]),
                losses={name: float(loss_NH[i, h]) for name, loss_NH in record.pinball_NH.items()},
                low=float(record.q_NHQ[i, h, low]),
                high=float(record.q_NHQ[i, h, high]),
                levels_below=int(below_NH[i, h]),
                hour_of_day=int(record.hour_of_day_N[i]),
                volatility=TERCILES[tercile_N[i]],
            )
            found.append((record.target_ts_NH[i, h], score))
    return [score for _, score in sorted(found, key=lambda pair: (pair[0], pair[1].step))]
