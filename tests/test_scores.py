import dataclasses
import json
import math

import numpy as np
import polars as pl
import pytest

from lstm_ts.scores import ForecastRecord, compute_scores, to_frame

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
        "window_volatility_N": scale_N,
        "last_bar_position_N": np.zeros(len(scale_N)),
        "hour_of_day_N": np.arange(n) % 24,
        "mase_scale_H": 1e-3 * np.sqrt(steps_H),
    }
    return ForecastRecord(**(fields | changes))


def make_tiny_record(**changes):
    """Two origins, one step: y +1 % and -1 %; the LSTM's median is right by half, every other quantile lies on it."""
    wide = np.zeros((2, 1, 3))
    return make_record(
        n=2,
        horizon=1,
        y_NH=np.array([[0.01], [-0.01]]),
        quantiles={
            "lstm": wide + np.array([0.005, -0.005])[:, None, None],
            "persistence": wide,
            "climatology": wide + 0.01,
            "volatility": wide + np.array([-0.01, 0.0, 0.01]),
        },
        mase_scale_H=np.array([0.01]),
        **changes,
    )


def test_scores_of_two_origins_worked_out_by_hand():
    one = compute_scores(make_tiny_record()).horizons["1"]
    # Three equal quantiles, 0.005 below y and then 0.005 above it: 0.005 * (0.1 + 0.5 + 0.9) / 3 both times.
    assert one.pinball_bps == pytest.approx(25.0)
    assert one.crps_bps == pytest.approx(50.0)
    assert one.mae_bps == pytest.approx(50.0)
    up, down = math.exp(0.01) - math.exp(0.005), math.exp(-0.005) - math.exp(-0.01)
    assert one.mae_usd == pytest.approx(20 * (up + down) / 2)
    assert one.directional_accuracy == 1.0
    assert one.coverage == {"0.8": 0.0}
    assert one.mase == pytest.approx(0.5)
    assert one.n == 2
    # Persistence errs by 0.01 twice: 50 bps. Volatility: (0.1 * 0.02 + 0.5 * 0.01 + 0) / 3 in both rows: 70 / 3 bps.
    assert one.baselines["persistence"].pinball_bps == pytest.approx(50.0)
    assert one.baselines["volatility"].pinball_bps == pytest.approx(70 / 3)
    assert one.baselines["volatility"].coverage == {"0.8": 1.0}
    assert one.skill["persistence"] == pytest.approx(0.5)
    assert one.skill["volatility"] == pytest.approx(1 - 25 / (70 / 3))


def test_scores_json_has_the_agreed_keys():
    content = compute_scores(make_record()).to_json()
    groups = {"by_year", "by_quarter", "by_hour_of_day", "by_volatility_tercile"}
    assert set(content) == {"symbol", "span", "n", "levels", "horizons"} | groups
    assert content["span"] == ["2015-03-20T00:00:00Z", "2015-04-05T15:00:00Z"]
    assert list(content["horizons"]) == ["1", "2", "3", "4", "5", "6"]
    one = content["horizons"]["1"]
    step_keys = {"pinball_bps", "crps_bps", "mae_bps", "mae_usd", "directional_accuracy", "directional_accuracy_ci"}
    step_keys |= {"coverage", "mase", "n"}
    assert set(one) == step_keys | {"baselines", "skill", "dm_p"}
    assert (
        list(one["baselines"])
        == list(one["skill"])
        == list(one["dm_p"])
        == ["persistence", "climatology", "volatility"]
    )
    assert all(set(scores) == step_keys for scores in one["baselines"].values())


def test_scores_json_holds_null_and_never_nan():
    y_NH = make_record().y_NH.copy()
    y_NH[:, 5] = np.nan
    content = json.loads(json.dumps(compute_scores(make_record(y_NH=y_NH)).to_json(), allow_nan=False))
    assert content["horizons"]["6"]["pinball_bps"] is None
    assert content["horizons"]["6"]["dm_p"]["volatility"] is None
    persistence = content["horizons"]["1"]["baselines"]["persistence"]
    assert persistence["directional_accuracy"] is None
    assert persistence["directional_accuracy_ci"] == [None, None]


def test_a_forecast_that_knows_the_scale_beats_one_that_does_not():
    one = compute_scores(make_record(n=2000)).horizons["1"]
    assert one.skill["volatility"] > 0 and one.dm_p["volatility"] < 0.01
    assert one.coverage["0.8"] == pytest.approx(0.8, abs=0.03)


def test_a_missing_target_is_left_out_of_the_scores():
    whole = make_record(n=300)
    y_NH = whole.y_NH.copy()
    y_NH[200:, 0] = np.nan
    holed = compute_scores(make_record(n=300, y_NH=y_NH)).horizons["1"]
    assert holed.n == 200
    assert holed.pinball_bps == pytest.approx(1e4 * whole.pinball_NH["lstm"][:200, 0].mean())


def test_a_forecaster_that_skips_a_step_has_no_entry_there():
    record = make_record()
    lightgbm = record.quantiles["volatility"].copy()
    lightgbm[:, 1:] = np.nan
    scores = compute_scores(make_record(quantiles={**record.quantiles, "lightgbm": lightgbm}))
    assert "lightgbm" in scores.horizons["1"].baselines
    assert scores.horizons["1"].skill["lightgbm"] == scores.horizons["1"].skill["volatility"]
    assert all("lightgbm" not in part for part in (scores.horizons["2"].baselines, scores.horizons["2"].dm_p))


def test_groups_part_the_origins_and_hold_the_shown_steps():
    scores = compute_scores(make_record())
    # 2015-03-20 00:00 plus 288 hours is April: 288 origins in the first quarter, 112 in the second.
    assert {label: by_step["1"].n for label, by_step in scores.by_quarter.items()} == {"2015Q1": 288, "2015Q2": 112}
    assert list(scores.by_year) == ["2015"]
    assert list(scores.by_hour_of_day) == [str(hour) for hour in range(24)]
    terciles = {label: by_step["6"].n for label, by_step in scores.by_volatility_tercile.items()}
    assert terciles == {"low": 134, "middle": 133, "high": 133}
    assert list(scores.by_year["2015"]) == ["1", "6"]


def test_a_group_of_all_origins_scores_like_the_whole():
    scores = compute_scores(make_record())
    year, whole = scores.by_year["2015"]["6"], scores.horizons["6"]
    assert year.pinball_bps == whole.pinball_bps
    assert (year.skill, year.dm_p, year.coverage) == (whole.skill, whole.dm_p, whole.coverage)


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
