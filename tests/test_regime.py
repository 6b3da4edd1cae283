from dataclasses import replace
from datetime import UTC

import numpy as np
import polars as pl
import pytest
from models import fit_rows
from scipy.signal import lfilter
from scipy.stats import ks_2samp
from test_configs import compose

from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.model.features import make_grid
from lstm_ts.model.windows import WindowSpec, find_origins, make_windows
from lstm_ts.monitoring.regime import Hours, RegimeSettings, check_regime, measure_distance, read_hours

SETTINGS = {"recent_hours": 3, "block_hours": 2, "draws": 100, "alpha": 0.05}


def make_settings(**changes):
    return RegimeSettings(**(SETTINGS | changes))


def shipped():
    return construct(compose("train", "+regime=default").regime)


def hours_of(close_N, range_N, **inputs):
    return Hours(np.asarray(close_N, float), np.asarray(range_N, float), {k: np.asarray(v) for k, v in inputs.items()})


TRAINING = hours_of([20, 24, 22, 21, 23, 20], [0.001, 0.002, 0.003, 0.004, 0.002, 0.001])


def noisy_volatility(rng, n, memory=0.9):
    """Sizes whose logarithm is an autoregression: one hour is like the one before, as ranges are."""
    slow_N = lfilter([np.sqrt(1 - memory**2)], [1, -memory], rng.standard_normal(n + 500))[500:]
    return np.exp(0.5 * slow_N) * np.abs(rng.standard_normal(n))


def stretch(rng, n, *, price=20.0, wilder=1.0):
    size_N = noisy_volatility(rng, n)
    close_N = price * np.exp(0.0002 * rng.standard_normal(n))
    return Hours(close_N, wilder * 0.003 * size_N, {"range": np.log(size_N), "body": rng.standard_normal(n)})


def outside(checks):
    return [check.name for check in checks if check.outside]


@pytest.mark.parametrize(
    ("range_M", "value", "words"),
    [
        # stretches of three training hours have means of 20, 30, 30 and 23.3 bps
        (
            [0.002, 0.003, 0.002],
            23.3,
            "range of the last 3 hours is 23.3 bps, within the 20.0 to 30.0 of as long a str",
        ),
        ([0.001, 0.001, 0.001], 10.0, "10.0 bps, below the 20.0 to 30.0"),
        ([0.9, 0.003, 0.004, 0.003], 33.3, "33.3 bps, above the 20.0 to 30.0"),  # only the last three count
        ([0.001, np.nan, 0.001, 0.001], 10.0, "below"),  # a missing hour is none of them
    ],
)
def test_volatility_beside_every_as_long_stretch_of_training(range_M, value, words):
    volatility, _ = check_regime(TRAINING, hours_of([20.0], range_M), make_settings())
    assert volatility.value == pytest.approx(value, abs=0.04)
    assert (volatility.low, volatility.high) == (pytest.approx(20), pytest.approx(30))
    assert words in volatility.sentence


@pytest.mark.parametrize(
    ("close_M", "beyond", "words"),
    [
        ([99.0, 20.0], False, "The last close is 20, within the 20 to 24 of training."),
        ([20.0, 48.0, np.nan], True, "The last close is 48, above the 20 to 24 of training."),
        ([20.0, 19.9], True, "The last close is 19.9, below the 20 to 24 of training."),
    ],
)
def test_price_beside_all_of_training(close_M, beyond, words):
    _, price = check_regime(TRAINING, hours_of(close_M, [0.002] * 3), make_settings())
    assert (price.outside, price.sentence) == (beyond, words)


@pytest.mark.parametrize(
    ("sample", "distance"),
    [([2.5], 0.5), ([1, 1], 0.75), ([9, 9], 1.0), ([1, 2, 3, 4], 0.0), ([4, 0, 4], 5 / 12), ([2, 3], 0.25)],
)
def test_the_distance_is_the_largest_gap_of_the_distribution_functions(sample, distance):
    assert measure_distance(np.array([4.0, 2.0, 3.0, 1.0]), np.array([sample], float)) == pytest.approx([distance])


def test_the_distance_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(50):
        training_N, sample_M = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 7).astype(float)
        found = measure_distance(training_N, sample_M[None])[0]
        assert found == pytest.approx(ks_2samp(training_N, sample_M).statistic)


def test_recent_hours_like_those_of_training_are_seldom_off():
    """Each hour is like the one before: the plain test calls many of the same stretches other than training."""
    rng, rules, ours, plain = np.random.default_rng(0), shipped(), 0, 0
    for _ in range(60):
        values_N = np.log(noisy_volatility(rng, 8_000))
        training, recent = (
            Hours(np.ones(1), 0.003 * np.ones(8_000), {"range": v}) for v in np.split(values_N, [7_500])
        )
        recent = replace(recent, range_N=training.range_N)
        ours += bool(outside(check_regime(training, recent, rules)))
        plain += ks_2samp(values_N[:7_500], values_N[7_500:]).pvalue < 0.01
    assert ours <= 2
    assert plain >= 3


def test_the_same_market_twice_as_dear_is_told_of_its_price_only():
    rng = np.random.default_rng(3)
    training = stretch(rng, 8_000)
    recent = stretch(rng, 500)
    assert outside(check_regime(training, recent, shipped())) == []
    dear = replace(recent, close_N=2 * recent.close_N)
    assert outside(check_regime(training, dear, shipped())) == ["price"]


def test_a_wilder_market_and_a_scale_that_is_off_are_told_apart():
    rng = np.random.default_rng(3)
    training, wild = stretch(rng, 8_000), stretch(rng, 500, wilder=2.0)
    assert "volatility" in outside(check_regime(training, wild, shipped()))
    off = replace(wild, range_N=wild.range_N / 2, inputs={**wild.inputs, "range": wild.inputs["range"] + 0.6})
    found = {check.name: check for check in check_regime(training, off, shipped())}
    assert outside(found.values()) == ["input range"]
    assert "Input range of the last 500 hours is distributed off the training hours'" in found["input range"].sentence


def test_the_same_hours_have_the_same_limits():
    rng = np.random.default_rng(4)
    training, recent = stretch(rng, 2_000), stretch(rng, 500)
    assert check_regime(training, recent, shipped()) == check_regime(training, recent, shipped())


def test_hours_are_what_the_network_is_shown_of_the_last_hour_of_each_window(silver, hourly_bars):
    spec = WindowSpec(tsteps=12, horizon=3, levels=(0.1, 0.5, 0.9), max_missing=12)
    grid = make_grid(hourly_bars, silver, ahead=3)
    rows_N = find_origins(grid, spec).rows_N
    windows = make_windows(grid, fit_rows(grid, len(grid.ts_G), spec), rows_N, spec)
    hours = read_hours(grid, windows, np.isin(np.arange(len(grid.ts_G)), rows_N))
    assert np.array_equal(hours.close_N, grid.close_G[rows_N])
    assert np.allclose(np.exp(hours.range_N), [grid_high_over_low(hourly_bars, grid, row) for row in rows_N])
    shown_N4 = windows[:].x_BTF[:, -1, :4]
    assert np.allclose(np.stack([hours.inputs[name] for name in ("body", "gap", "range", "position")], 1), shown_N4)


def grid_high_over_low(hourly_bars, grid, row):
    bar = hourly_bars.row(by_predicate=pl.col("ts") == grid.ts_G[row].item().replace(tzinfo=UTC), named=True)
    return bar["high"] / bar["low"]


def test_too_few_hours_and_other_inputs_are_named():
    with pytest.raises(NoRows, match="Expected 3 recent hours and twice as many of training, got 2 and 6"):
        check_regime(TRAINING, hours_of([20.0], [0.001, 0.001]), make_settings())
    with pytest.raises(NoRows, match="closes"):
        check_regime(TRAINING, hours_of([np.nan], [0.001] * 3), make_settings())
    with pytest.raises(ConfigError, match=r"Expected the inputs \[\], got \['body'\]"):
        check_regime(TRAINING, hours_of([20.0], [0.001] * 3, body=[0.0]), make_settings())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_hours": 4}, "regime.block_hours"),
        ({"alpha": 0.0}, "regime.alpha"),
        ({"draws": 79}, "regime.draws of at least 4 / alpha = 80, got 79"),
    ],
)
def test_a_setting_out_of_range_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_settings(**changes)
