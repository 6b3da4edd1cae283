"""Years of forecasts that no training has seen, which the benchmarks of monitoring draw their runs from.

FOLDER holds silver's minutes of 2011 to 2015 (`xagusd_m1_<year>.parquet`) and hours of 2018 to 2022
(`h1/xagusd_h1_2018_2022.parquet`). The commands of docs/quickstart.md train a model on the first years of each; the
values in `conf/` were chosen on the first half of what it then forecasts, and figures are of the second.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from benchmarks.skill import run
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import utc
from lstm_ts.model.artifact import load_forecasters
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.scoring.metrics import Array, mean_of_known, pinball_NH
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.store.bar_store import BarStore

SYMBOL = "XAGUSD"
MINUTES, HOURS = "silver-2013-15", "silver-2020-22"
TRAINED: Mapping[str, tuple[str, str]] = {  # from when it is validated, and from when it is out of sample
    MINUTES: ("2012-09-01", "2013-01-01"),
    HOURS: ("2019-09-01", "2020-01-01"),
}
BLOCK_HOURS = 120  # a week of session hours stays together
GATE_HOURS = 1450  # three months, as the gate's record


@dataclass(frozen=True)
class Sample:
    name: str
    forecaster: Forecaster
    hourly_bars: pl.DataFrame
    record: ForecastRecord  # from the end of training on

    def evaluate(self, bars: pl.DataFrame, start: str, end: str | None) -> ForecastRecord:
        return evaluate(self.forecaster, bars, Span(utc(start), utc(end)))


def store_bars(data: Path, folder: Path) -> None:
    files = {MINUTES: data / "xagusd_m1_*.parquet", HOURS: data / "h1" / "xagusd_h1_2018_2022.parquet"}
    for name, path in files.items():
        run("ingest", "source=files", f"source.paths={path}", "source.zone=UTC", f"paths.data={folder / name}")
    run("process", f"paths.data={folder / MINUTES}")


def train_sample(folder: Path, name: str, *, dates: tuple[str, str] | None = None, seed: int = 0) -> Sample:
    """Train on the stored bars, and forecast what came after.

    dates   instead of those in TRAINED
    """
    valid_from, test_from = dates or TRAINED[name]
    split = (f"split.valid_from={valid_from}", f"split.test_from={test_from}", f"seed={seed}")
    model = run("train", f"paths.data={folder / name}", f"paths.outputs={folder / 'outputs'}", *split)
    forecaster = load_forecasters(Path(model))[SYMBOL]
    bars = BarStore(folder / name / "processed" / SYMBOL, HOURLY_SCHEMA).read()
    return Sample(name, forecaster, bars, evaluate(forecaster, bars, Span(utc(test_from), None)))


def take(record: ForecastRecord, rows_N: NDArray[np.int64], *, step: int = 1) -> ForecastRecord:
    """Those rows' forecasts up to `step`, as if one had followed the other hour by hour."""
    origin_ts_N = record.origin_ts_N[0] + np.arange(len(rows_N)) * np.timedelta64(1, "h")
    return replace(
        record,
        origin_ts_N=origin_ts_N,
        target_ts_NH=origin_ts_N[:, None] + np.arange(1, step + 1) * np.timedelta64(1, "h"),
        last_close_N=record.last_close_N[rows_N],
        y_NH=record.y_NH[rows_N, :step],
        quantiles={name: q_NHQ[rows_N, :step] for name, q_NHQ in record.quantiles.items()},
        window_volatility_N=record.window_volatility_N[rows_N],
        last_bar_position_N=record.last_bar_position_N[rows_N],
        hour_of_day_N=record.hour_of_day_N[rows_N],
        mase_scale_H=record.mase_scale_H[:step],
    )


def take_half(record: ForecastRecord, half: str) -> ForecastRecord:
    """The first half, which values were chosen on, or the second, in order; one step ahead."""
    middle = record.n // 2
    return take(record, np.arange(middle) if half == "first" else np.arange(middle, record.n))


def draw_rows(rng: np.random.Generator, n: int, hours: int) -> NDArray[np.int64]:
    """Rows of n in blocks of a week (circular block bootstrap)."""
    starts = rng.integers(n, size=-(-hours // BLOCK_HOURS))
    return np.asarray((starts[:, None] + np.arange(BLOCK_HOURS)).ravel()[:hours] % n)


def degrade(record: ForecastRecord, rise: float) -> Iterator[tuple[str, ForecastRecord]]:
    """The record with the model's forecasts one step ahead spoilt in four ways, each until its loss is `rise` higher.

    The loss is the mean of pinball over the width of the model's own interval as it was. The median stays where
    intervals are made too wide or too narrow; else the whole forecast is moved, by the same or by a random share of it.
    """
    q_NQ, y_N = record.q_NHQ[:, 0], record.y_NH[:, 0]
    width_N1 = q_NQ[:, -1:] - q_NQ[:, :1]
    median_N1 = q_NQ[:, len(record.levels) // 2, None]
    noise_N1 = np.random.default_rng(0).standard_normal(width_N1.shape)
    usual = _scaled_loss(y_N, q_NQ, width_N1, record.levels)

    def distort(kind: str, amount: float) -> Array:
        widths = {"too wide": 1 + amount, "too narrow": 1 / (1 + amount)}
        moves = {"shifted": amount * width_N1, "moved at random": amount * noise_N1 * width_N1}
        return np.asarray(median_N1 + (q_NQ - median_N1) * widths.get(kind, 1.0) + moves.get(kind, 0.0))

    for kind in ("too wide", "too narrow", "shifted", "moved at random"):

        def missing(amount: float, kind: str = kind) -> float:
            return _scaled_loss(y_N, distort(kind, amount), width_N1, record.levels) / usual - 1 - rise

        q_NHQ = record.q_NHQ.copy()
        q_NHQ[:, 0] = distort(kind, brentq(missing, 0, 50))
        yield kind, replace(record, quantiles={**record.quantiles, record.model: q_NHQ})


def _scaled_loss(y_N: Array, q_NQ: Array, width_N1: Array, levels: tuple[float, ...]) -> float:
    return mean_of_known(pinball_NH(y_N[:, None], q_NQ[:, None], levels)[:, 0] / width_N1[:, 0])
