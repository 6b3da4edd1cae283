import dataclasses

import numpy as np
import polars as pl
import pytest

from lstm_ts.scoring.records import ForecastRecord, concatenate, quantile_column, to_frame

LEVELS = (0.1, 0.5, 0.9)
HOUR = np.timedelta64(1, "h")


def make_record(n=400, horizon=6, start="2015-03-20T00", **changes):
    """Normal returns; the LSTM knows their scale, `volatility` takes it 30 % too wide."""
    rng = np.random.default_rng(0)
    scale_N = 1e-3 * np.exp(rng.normal(0, 0.3, n))
    steps_H = np.arange(1, horizon + 1)
    spread_NH = scale_N[:, None] * np.sqrt(steps_H)
    q_NHQ = spread_NH[..., None] * np.array([-1.2816, 0.0, 1.2816])
    origin_ts_N = np.datetime64(start, "us") + np.arange(n) * HOUR
    fields = {
        "symbol": "XAGUSD",
        "levels": LEVELS,
        "origin_ts_N": origin_ts_N,
        "target_ts_NH": origin_ts_N[:, None] + steps_H * HOUR,
        "last_close_N": np.full(n, 20.0),
        "y_NH": spread_NH * rng.standard_normal((n, horizon)),
        "quantiles": {
            "lstm": q_NHQ + 1e-5,
            "persistence": np.zeros_like(q_NHQ),
            "climatology": np.broadcast_to(q_NHQ.mean(axis=0), q_NHQ.shape),
            "volatility": 1.3 * q_NHQ,
        },
        "baselines": ("persistence", "climatology", "volatility"),
        "window_volatility_N": scale_N,
        "last_bar_position_N": np.zeros(len(scale_N)),
        "hour_of_day_N": np.arange(n) % 24,
        "mase_scale_H": 1e-3 * np.sqrt(steps_H),
    }
    return ForecastRecord(**(fields | changes))


def test_the_frame_has_a_row_per_origin_and_step_in_the_agreed_columns():
    levels = tuple(i / 20 for i in range(1, 20))
    q_NHQ = np.tile(np.arange(19) / 100, (2, 2, 1))
    quantiles = dict.fromkeys(("lstm", "persistence", "climatology", "volatility"), q_NHQ)
    y_NH = np.array([[0.1, np.nan], [0.2, 0.3]])
    frame = to_frame(make_record(n=2, horizon=2, levels=levels, quantiles=quantiles, y_NH=y_NH))
    q_columns = [f"q{5 * i:02d}" for i in range(1, 20)]
    assert frame.columns == ["origin_ts", "step", "target_ts", "last_close", "y", *q_columns]
    assert frame.schema["origin_ts"] == frame.schema["target_ts"] == pl.Datetime("us", "UTC")
    assert frame["step"].to_list() == [1, 2, 1, 2]
    assert frame["y"].to_list() == [0.1, None, 0.2, 0.3]
    assert frame["target_ts"].dt.hour().to_list() == [1, 2, 2, 3]
    assert (frame["q05"][0], frame["q95"][3]) == (0.0, 0.18)


def test_the_frame_holds_the_lstms_quantiles():
    record = make_record(n=3)
    assert np.array_equal(to_frame(record)["q90"].to_numpy(), record.quantiles["lstm"][..., 2].ravel())


def test_a_level_between_whole_percents_has_its_own_column():
    assert "q02.5" in to_frame(make_record(n=2, levels=(0.025, 0.5, 0.975))).columns
    names = {0.001: "q00.1", 0.05: "q05", 0.1: "q10", 0.10001: "q10.001", 0.9999999999: "q99.99999999"}
    assert [quantile_column(level) for level in names] == list(names.values())


def test_a_record_without_persistence_is_not_a_record():
    quantiles = dict(make_record().quantiles)
    del quantiles["persistence"]
    with pytest.raises(AssertionError):
        make_record(quantiles=quantiles)


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": (0.1, 0.4, 0.9)},
        {"last_close_N": np.ones(3)},
        {"mase_scale_H": np.ones(2)},
        {"origin_ts_N": make_record().origin_ts_N[::-1]},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes):
    with pytest.raises(AssertionError):
        dataclasses.replace(make_record(), **changes)


def test_terciles_part_the_origins_by_the_volatility_of_their_windows():
    record = make_record(n=6, window_volatility_N=np.array([3.0, 1.0, 6.0, 2.0, 5.0, 4.0]))
    terciles = {name: np.flatnonzero(rows_N).tolist() for name, rows_N in record.volatility_terciles.items()}
    assert terciles == {"low": [1, 3], "middle": [0, 5], "high": [2, 4]}


def test_records_that_follow_each_other_become_one():
    first = make_record(n=1, horizon=1, mase_scale_H=np.array([2.0]), fold_N=np.array(["a"]))
    second = make_record(
        n=3, horizon=1, mase_scale_H=np.array([6.0]), fold_N=np.array(["b"] * 3), start="2015-03-21T00"
    )
    both = concatenate([first, second])
    assert both.n == 4
    assert both.fold_N.tolist() == ["a", "b", "b", "b"]
    assert both.mase_scale_H == [5.0]
    assert np.array_equal(both.quantiles["lstm"][1:], second.quantiles["lstm"])
    assert both.pinball_bps("lstm", 1) == pytest.approx(
        (first.pinball_bps("lstm", 1) + 3 * second.pinball_bps("lstm", 1)) / 4
    )


def test_records_that_overlap_are_refused():
    with pytest.raises(AssertionError, match="ascend"):
        concatenate([make_record(n=2, fold_N=np.array(["a"] * 2))] * 2)
