import math

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from lstm_ts.scoring import pictures
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.scoring.scores import compute_scores

HOUR = np.timedelta64(1, "h")
LEVELS = tuple(i / 10 for i in range(1, 10))
NORMAL = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816])


def make_record(n=1500, horizon=6, y_NH=None):
    rng = np.random.default_rng(0)
    steps_H = np.arange(1, horizon + 1)
    q_NHQ = np.tile(1e-3 * NORMAL, (n, horizon, 1))
    origin_ts_N = np.datetime64("2015-01-20T00", "us") + np.arange(n) * HOUR
    return ForecastRecord(
        symbol="XAGUSD",
        levels=LEVELS,
        origin_ts_N=origin_ts_N,
        target_ts_NH=origin_ts_N[:, None] + steps_H * HOUR,
        last_close_N=np.full(n, 16.0),
        y_NH=1e-3 * rng.standard_normal((n, horizon)) if y_NH is None else y_NH,
        quantiles={"lstm": q_NHQ, "persistence": 0 * q_NHQ, "climatology": 1.1 * q_NHQ, "volatility": 0.7 * q_NHQ},
        baselines=("persistence", "climatology", "volatility"),
        window_volatility_N=rng.random(n),
        last_bar_position_N=rng.uniform(-1, 1, n),
        hour_of_day_N=np.arange(n) % 24,
        mase_scale_H=np.ones(horizon),
    )


def draw(record, source_name="files"):
    return pictures.draw_pictures(record, compute_scores(record), source_name)


def texts(figure):
    """Every word of a figure: titles, axis labels, legends, footer."""
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.fixture(scope="module")
def record():
    return make_record(n=300)


@pytest.fixture(scope="module")
def figures(record):
    return draw(record, "synthetic minutes, seed 7")


def test_every_picture_shows_persistence_and_names_its_source(figures):
    assert list(figures) == ["forecast_fan", "calibration", "skill_by_horizon", "skill_through_time"]
    for figure in figures.values():
        assert "persistence" in texts(figure)
        assert "synthetic minutes, seed 7" in texts(figure)


def test_persistence_is_a_flat_line_at_the_origins_close(figures):
    latest = figures["forecast_fan"].axes[0]
    (line,) = [line for line in latest.lines if line.get_label() == "persistence"]
    assert list(line.get_xdata()) == [0, 6]
    assert list(line.get_ydata()) == [16.0, 16.0]


def test_the_fan_spreads_from_the_close_to_the_quantiles_in_the_symbols_currency(figures):
    latest = figures["forecast_fan"].axes[0]
    (outer,) = [band for band in latest.collections if band.get_label() == "80 % interval"]
    high = max(y for _, y in outer.get_paths()[0].vertices)
    assert high == pytest.approx(16 * math.exp(1.2816e-3))


def test_quantiles_of_the_true_distribution_lie_near_the_diagonal():
    axes = draw(make_record(n=4000))["calibration"].axes[0]
    (line,) = [line for line in axes.lines if line.get_label() == "1 hour ahead"]
    assert np.abs(line.get_ydata() - np.array(LEVELS)).max() < 0.025


@pytest.mark.parametrize("name", ["climatology", "volatility"])
def test_skill_is_drawn_filled_only_where_the_test_allows_the_claim(name, record, figures):
    scores = compute_scores(record)
    claimed = [scores.horizons[str(step)].dm_p[name] < 0.05 for step in range(1, 7)]
    bars = [bar for axes in figures["skill_by_horizon"].axes for bar in axes.containers]
    (bar,) = [bar for bar in bars if bar.get_label() == f"over {name}"]
    color = to_rgba(bar.lines[0].get_color())
    (points,) = [
        points
        for points in figures["skill_by_horizon"].findobj(PathCollection)
        if tuple(points.get_edgecolor()[0]) == color
    ]
    white = [tuple(face[:3]) == (1.0, 1.0, 1.0) for face in points.get_facecolors()]
    assert white == [not claim for claim in claimed]
    assert (sum(claimed) > 3) == (name == "volatility")


def test_monthly_skill_worked_out_by_hand():
    ts_N = np.array(["2015-01-10", "2015-01-20", "2015-02-03"], dtype="datetime64[us]")
    month_M, skill_M = pictures._monthly_skill(ts_N, np.array([1.0, 2.0, np.nan]), np.array([2.0, 4.0, np.nan]))
    assert month_M.tolist() == [np.datetime64("2015-01-15", "us").item()]
    assert skill_M == pytest.approx([50.0])


def test_the_cumulative_loss_difference_ends_at_the_skill_of_the_table(record, figures):
    lower = figures["skill_through_time"].axes[2]
    assert lower.lines[0].get_ydata()[-1] == pytest.approx(
        100 * compute_scores(record).horizons["1"].skill["climatology"]
    )


@pytest.mark.parametrize(("n", "horizon"), [(3, 1), (30, 7)])
def test_short_records_can_be_drawn(n, horizon):
    for figure in draw(make_record(n=n, horizon=horizon)).values():
        figure.draw_without_rendering()


def test_a_step_without_a_single_known_target_can_be_drawn():
    y_NH = make_record(n=50).y_NH
    y_NH[:, 5] = np.nan
    for figure in draw(make_record(n=50, y_NH=y_NH)).values():
        figure.draw_without_rendering()
