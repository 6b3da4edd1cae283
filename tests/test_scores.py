import dataclasses
import json
import math

import numpy as np
import pytest
from test_records import make_record

from lstm_ts.scoring.metrics import diebold_mariano
from lstm_ts.scoring.records import concatenate
from lstm_ts.scoring.scores import compare, compute_scores


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
    assert one.mae_price == pytest.approx(20 * (up + down) / 2)
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
    groups = {"by_year", "by_quarter", "by_hour_of_day", "by_volatility_tercile", "by_fold"}
    assert set(content) == {"symbol", "currency", "model", "span", "n", "levels", "horizons"} | groups
    assert content["span"] == ["2015-03-20T00:00:00Z", "2015-04-05T15:00:00Z"]
    assert list(content["horizons"]) == ["1", "2", "3", "4", "5", "6"]
    one = content["horizons"]["1"]
    step_keys = {"pinball_bps", "crps_bps", "mae_bps", "mae_price", "directional_accuracy", "directional_accuracy_ci"}
    step_keys |= {"coverage", "mase", "n"}
    assert set(one) == step_keys | {"best", "baselines", "skill", "dm_p"}
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


@pytest.mark.parametrize(("every", "overlapping"), [(1, 24), (7, 4), (23, 2), (24, 1)])
def test_rows_that_lie_apart_are_tested_by_the_overlap_of_their_targets(every, overlapping):
    record = make_record(n=1000, horizon=24)
    rows = np.arange(record.n) % every == 0
    ours, theirs = (record.pinball_NH[name][rows, 23] for name in ("lstm", "volatility"))
    _, dm_p = compare(record, 24, rows)
    assert dm_p["volatility"] == diebold_mariano(ours, theirs, step=overlapping).p


def test_a_walk_forward_is_scored_by_fold():
    first, second = make_record(n=100), make_record(n=200, start="2015-03-30T00")
    folds = [dataclasses.replace(r, fold_N=np.full(r.n, name)) for r, name in ((first, "one"), (second, "two"))]
    by_fold = compute_scores(concatenate(folds)).by_fold
    assert {label: by_step["1"].n for label, by_step in by_fold.items()} == {"one": 100, "two": 200}
    assert by_fold["one"]["1"].pinball_bps == compute_scores(first).horizons["1"].pinball_bps
    assert compute_scores(first).by_fold == {}


def test_any_forecaster_can_be_compared_with_the_baselines():
    skill, dm_p = compare(make_record(), 1, name="volatility")
    assert skill["volatility"] == 0
    assert skill["persistence"] > 0 and dm_p["persistence"] < 0.001
