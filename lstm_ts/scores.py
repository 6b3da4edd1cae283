"""What evaluation hands over: the forecasts of one model beside the baselines', and their scores.

Legend: N origins, H steps, Q levels. Every score is a mean over the rows whose target is known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts import metrics
from lstm_ts.metrics import Array

LSTM = "lstm"
ALWAYS = (LSTM, "persistence", "climatology", "volatility")
SHOWN_STEPS = (1, 6, 24)
TERCILES = ("low", "middle", "high")
CLAIM_P = 0.05
BPS = 1e4

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
    quantiles: Mapping[str, Array]  # forecaster -> q_NHQ, log returns; the LSTM first
    window_volatility_N: Array
    last_bar_position_N: Array  # of the close in the last bar, -1 at its high .. 1 at its low
    hour_of_day_N: NDArray[np.int64]  # of the origin, in the session's zone
    mase_scale_H: Array  # MAE of persistence in training, log return
    fold_N: NDArray[np.str_] | None = None  # of a walk forward: which fold's model made the forecast

    def __post_init__(self) -> None:
        n, horizon = self.y_NH.shape
        rows = (self.origin_ts_N, self.last_close_N, self.window_volatility_N, self.last_bar_position_N)
        assert n > 0 and all(a.shape == (n,) for a in (*rows, self.hour_of_day_N)), [a.shape for a in rows]
        assert self.target_ts_NH.shape == (n, horizon) and self.mase_scale_H.shape == (horizon,)
        assert self.origin_ts_N.dtype == self.target_ts_NH.dtype == np.dtype("datetime64[us]")
        assert (np.diff(self.origin_ts_N) > np.timedelta64(0)).all(), "origins must ascend"
        assert metrics.level_index(self.levels, 0.5) is not None, "the median is the point forecast"
        assert tuple(self.quantiles)[: len(ALWAYS)] == ALWAYS, tuple(self.quantiles)
        for name, q_NHQ in self.quantiles.items():
            assert q_NHQ.shape == (n, horizon, len(self.levels)), (name, q_NHQ.shape)
            skipped_H = np.isnan(q_NHQ).all(axis=(0, 2))
            assert (np.isfinite(q_NHQ).all(axis=(0, 2)) | skipped_H).all(), f"{name} has gaps within a step"
            assert name not in ALWAYS or not skipped_H.any(), f"{name} skips a step"

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
        """Rows whose window was calm, middling, volatile."""
        edges = np.quantile(self.window_volatility_N, [1 / 3, 2 / 3])
        tercile_N = np.searchsorted(edges, self.window_volatility_N)
        return {name: tercile_N == i for i, name in enumerate(TERCILES)}

    @cached_property
    def pinball_NH(self) -> dict[str, Array]:
        """Loss of each forecaster, mean over the levels; NaN where there is no target or no forecast."""
        return {name: metrics.pinball_NH(self.y_NH, q_NHQ, self.levels) for name, q_NHQ in self.quantiles.items()}

    def pinball_bps(self, name: str, step: int) -> float:
        return BPS * metrics.mean_of_known(self.pinball_NH[name][:, step - 1])

    def median_N(self, name: str, step: int) -> Array:
        middle = metrics.level_index(self.levels, 0.5)
        assert middle is not None
        return self.quantiles[name][:, step - 1, middle]

    def baselines_at(self, step: int) -> list[str]:
        return [name for name, q in self.quantiles.items() if name != LSTM and not np.isnan(q[0, step - 1, 0])]


def concatenate(records: Sequence[ForecastRecord]) -> ForecastRecord:
    """One record of several that follow each other in time; the MASE scale is their mean, weighted by origins."""
    first = records[0]
    names = ("origin_ts_N", "target_ts_NH", "last_close_N", "y_NH", "window_volatility_N", "last_bar_position_N",
             "hour_of_day_N", "fold_N")  # fmt: skip
    return ForecastRecord(
        symbol=first.symbol,
        levels=first.levels,
        quantiles={name: np.concatenate([r.quantiles[name] for r in records]) for name in first.quantiles},
        mase_scale_H=np.average([r.mase_scale_H for r in records], axis=0, weights=[r.n for r in records]),
        **{name: np.concatenate([getattr(r, name) for r in records]) for name in names},
    )


def _column(level: float) -> str:
    return "q" + f"{100 * level:05.2f}".rstrip("0").rstrip(".")


def to_frame(record: ForecastRecord) -> pl.DataFrame:
    """forecasts.parquet: a row per origin and step with the LSTM's quantiles, log returns; y is null where missing."""
    n, horizon = record.y_NH.shape
    q_RQ = record.quantiles[LSTM].reshape(n * horizon, -1)
    columns: dict[str, Any] = {
        "origin_ts": np.repeat(record.origin_ts_N, horizon),
        "step": np.tile(np.arange(1, horizon + 1), n),
        "target_ts": record.target_ts_NH.ravel(),
        "last_close": np.repeat(record.last_close_N, horizon),
        "y": record.y_NH.ravel(),
    }
    columns |= {_column(level): q_RQ[:, i] for i, level in enumerate(record.levels)}
    return pl.DataFrame(columns).with_columns(
        pl.col("origin_ts", "target_ts").dt.replace_time_zone("UTC"), pl.col("y").fill_nan(None)
    )


@dataclass(frozen=True)
class StepScores:
    """One forecaster at one step."""

    pinball_bps: float
    crps_bps: float
    mae_bps: float
    mae_usd: float
    directional_accuracy: float
    directional_accuracy_ci: tuple[float, float]
    coverage: dict[str, float]
    mase: float
    n: int


@dataclass(frozen=True)
class HorizonScores(StepScores):
    """The LSTM at one step, beside the baselines; skill is 1 - its pinball / the baseline's."""

    baselines: dict[str, StepScores]
    skill: dict[str, float]
    dm_p: dict[str, float]


@dataclass(frozen=True)
class GroupScores:
    """The LSTM at one step, over some of the origins."""

    n: int
    pinball_bps: float
    coverage: dict[str, float]
    skill: dict[str, float]
    dm_p: dict[str, float]


Groups = dict[str, dict[str, GroupScores]]  # group -> step -> scores


@dataclass(frozen=True)
class Scores:
    symbol: str
    span: tuple[str, str]  # first and last origin, ISO
    n: int
    levels: tuple[float, ...]
    horizons: dict[str, HorizonScores]
    by_year: Groups
    by_quarter: Groups
    by_hour_of_day: Groups
    by_volatility_tercile: Groups
    by_fold: Groups  # empty but for a walk forward

    @property
    def shown_steps(self) -> list[str]:
        return [str(step) for step in SHOWN_STEPS if str(step) in self.horizons]

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json: what could not be scored is null, never NaN."""
        content: dict[str, Any] = _plain(asdict(self))
        return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compute_scores(record: ForecastRecord) -> Scores:
    """All steps over all origins, and SHOWN_STEPS by group; years and quarters are those of the origin in UTC."""
    months_N = record.origin_ts_N.astype("datetime64[M]").astype(np.int64)
    years_N = 1970 + months_N // 12
    quarters_N = np.char.add(np.char.add(years_N.astype(str), "Q"), (months_N % 12 // 3 + 1).astype(str))
    first, last = np.datetime_as_string(record.origin_ts_N[[0, -1]], unit="s")
    return Scores(
        symbol=record.symbol,
        span=(f"{first}Z", f"{last}Z"),
        n=record.n,
        levels=record.levels,
        horizons={str(step): _score_horizon(record, step) for step in range(1, record.horizon + 1)},
        by_year=_score_groups(record, _rows_by_label(years_N)),
        by_quarter=_score_groups(record, _rows_by_label(quarters_N)),
        by_hour_of_day=_score_groups(record, _rows_by_label(record.hour_of_day_N)),
        by_volatility_tercile=_score_groups(record, record.volatility_terciles),
        by_fold={} if record.fold_N is None else _score_groups(record, _rows_by_label(record.fold_N)),
    )


def _score_horizon(record: ForecastRecord, step: int) -> HorizonScores:
    baselines = {name: _score_step(record, name, step) for name in record.baselines_at(step)}
    skill, dm_p = compare(record, step)
    return HorizonScores(**vars(_score_step(record, LSTM, step)), baselines=baselines, skill=skill, dm_p=dm_p)


def _score_step(record: ForecastRecord, name: str, step: int) -> StepScores:
    y_N, median_N = record.y_NH[:, step - 1], record.median_N(name, step)
    pinball = metrics.mean_of_known(record.pinball_NH[name][:, step - 1])
    mae = metrics.mean_of_known(np.abs(y_N - median_N))
    direction = metrics.directional_accuracy(y_N, median_N, step=step)
    return StepScores(
        pinball_bps=BPS * pinball,
        crps_bps=BPS * metrics.crps_from_pinball(pinball),
        mae_bps=BPS * mae,
        mae_usd=metrics.mean_of_known(np.abs(record.last_close_N * (np.exp(median_N) - np.exp(y_N)))),
        directional_accuracy=direction.share,
        directional_accuracy_ci=direction.interval,
        coverage=metrics.central_coverage(y_N, record.quantiles[name][:, step - 1], record.levels),
        mase=metrics.mase(mae, float(record.mase_scale_H[step - 1])),
        n=int((~np.isnan(y_N)).sum()),
    )


def compare(
    record: ForecastRecord, step: int, rows_N: Rows | slice = slice(None), *, name: str = LSTM
) -> tuple[dict[str, float], dict[str, float]]:
    """Skill of one forecaster over each baseline, and its Diebold-Mariano p."""
    ours = record.pinball_NH[name][rows_N, step - 1]
    skill, dm_p = {}, {}
    for baseline in record.baselines_at(step):
        theirs = record.pinball_NH[baseline][rows_N, step - 1]
        reference = metrics.mean_of_known(theirs)
        skill[baseline] = 1 - metrics.mean_of_known(ours) / reference if reference > 0 else math.nan
        dm_p[baseline] = metrics.diebold_mariano(ours, theirs, step=step).p
    return skill, dm_p


def _rows_by_label(label_N: NDArray[Any]) -> dict[str, Rows]:
    return {str(label): label_N == label for label in np.unique(label_N)}


def _score_groups(record: ForecastRecord, groups: dict[str, Rows]) -> Groups:
    return {
        label: {str(step): _score_group(record, step, rows_N) for step in record.shown_steps}
        for label, rows_N in groups.items()
    }


def _score_group(record: ForecastRecord, step: int, rows_N: Rows) -> GroupScores:
    y_N, q_NQ = record.y_NH[rows_N, step - 1], record.quantiles[LSTM][rows_N, step - 1]
    coverage = metrics.central_coverage(y_N, q_NQ, record.levels)
    skill, dm_p = compare(record, step, rows_N)
    return GroupScores(
        n=int((~np.isnan(y_N)).sum()),
        pinball_bps=BPS * metrics.mean_of_known(record.pinball_NH[LSTM][rows_N, step - 1]),
        coverage={name: share for name, share in coverage.items() if name == "0.8"},
        skill=skill,
        dm_p=dm_p,
    )
