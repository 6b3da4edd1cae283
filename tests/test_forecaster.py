import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from models import make_data, random_network, symbol_bars

from lstm_ts.errors import ArtifactError, NotEnoughBars
from lstm_ts.market.bars import PRICES
from lstm_ts.market.session import Session
from lstm_ts.model.artifact import load_forecaster, save_forecasters
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.provenance import code_revision
from lstm_ts.model.windows import WindowSpec

SPEC = WindowSpec(tsteps=24, horizon=4, levels=(0.1, 0.5, 0.9), max_missing=3)
CONFIG = LSTMConfig(hidden=8, layers=2, decoder=8, dropout=0.1)


@pytest.fixture(scope="module")
def forecaster(hourly_bars: pl.DataFrame, silver: Session) -> Forecaster:
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC)
    data.setup()
    (its,) = data.symbols
    provenance = Provenance("XAGUSD", "test hours", "", "", "ab", "", 0, "", "", {"torch": "2"}, {"tsteps": 24})
    network = random_network(data, CONFIG)
    return Forecaster(network, its.scaler, its.reference, SPEC, silver, provenance, {"n": 1})


@pytest.fixture
def folder(forecaster: Forecaster, tmp_path: Path) -> Path:
    save_forecasters([forecaster], tmp_path / "model")
    return tmp_path / "model"


def test_a_loaded_model_gives_the_same_numbers(forecaster: Forecaster, folder: Path, hourly_bars: pl.DataFrame) -> None:
    loaded = load_forecaster(folder)
    np.testing.assert_array_equal(loaded.forecast(hourly_bars).q_HQ, forecaster.forecast(hourly_bars).q_HQ)
    assert loaded.provenance == forecaster.provenance
    assert loaded.spec == SPEC
    assert loaded.scores == {"n": 1}


def test_the_artifact_holds_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "manifest.json",
        "network.onnx",
        "weights.safetensors",
    ]
    json.loads((folder / "manifest.json").read_text())
    assert (folder / "weights.safetensors").read_bytes()[8:9] == b"{"  # safetensors opens with a JSON header


def test_anyone_can_check_the_hashes(folder: Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True, timeout=60
    )


@pytest.mark.parametrize("name", ["network.onnx", "weights.safetensors", "manifest.json"])
def test_a_model_altered_in_one_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name} as it was saved, got other bytes"):
        load_forecaster(folder)


def test_a_last_bar_of_a_closed_hour_is_refused(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    friday = hourly_bars.filter(pl.col("ts").dt.strftime("%Y-%m-%d %H") <= "2014-05-09 19")
    saturday = friday.tail(1).with_columns(pl.col("ts") + pl.duration(hours=14))
    with pytest.raises(NotEnoughBars, match=r"the last bar to be of an open hour"):
        forecaster.forecast(pl.concat([friday, saturday]))


def test_a_level_the_model_has_not_learnt_is_named(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    with pytest.raises(ArtifactError, match=r"a model with the level 0\.25"):
        forecaster.forecast(hourly_bars).price_HL(0.25)


def test_saving_again_replaces_nothing_by_halves(forecaster: Forecaster, folder: Path) -> None:
    with pytest.raises(OSError, match="not empty"):
        save_forecasters([forecaster], folder)  # a version is immutable
    load_forecaster(folder)


def test_too_few_bars_are_said_with_both_numbers(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    whole = hourly_bars.filter(pl.col("ts").is_between(hourly_bars["ts"][200], hourly_bars["ts"][209]))
    with pytest.raises(NotEnoughBars, match=r"at least 24 session hours for one window, got \d+"):
        forecaster.forecast(whole)


def test_too_many_missing_hours_are_said(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    gappy = pl.concat([hourly_bars[:-12], hourly_bars[-2:]])
    with pytest.raises(NotEnoughBars, match=r"at most 3 of the last 24 session hours to be missing, got \d+"):
        forecaster.forecast(gappy)


def test_targets_follow_the_session_calendar(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    friday_20_utc = hourly_bars.filter(pl.col("ts").dt.strftime("%Y-%m-%d %H") <= "2014-05-09 19")
    forecast = forecaster.forecast(friday_20_utc)
    assert f"{forecast.origin_ts:%a %H:%M}" == "Fri 20:00"
    assert [f"{ts:%a %H:%M}" for ts in forecast.target_ts_H] == ["Fri 21:00", "Sun 23:00", "Mon 00:00", "Mon 01:00"]


def test_prices_are_the_quantiles_of_the_return_on_the_last_close(
    forecaster: Forecaster, hourly_bars: pl.DataFrame
) -> None:
    forecast = forecaster.forecast(hourly_bars)
    assert forecast.last_close == hourly_bars["close"][-1]
    np.testing.assert_allclose(forecast.price_HL(0.9)[:, 0], forecast.last_close * np.exp(forecast.q_HQ[:, 2]))
    later = replace(forecast, last_close=2 * forecast.last_close)
    np.testing.assert_allclose(later.price_HL(0.5), 2 * forecast.price_HL(0.5))


def test_a_model_names_the_commit_that_its_image_was_built_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_TS_REVISION", "0123abc")
    assert code_revision() == "0123abc"
    monkeypatch.delenv("LSTM_TS_REVISION")
    assert code_revision() != "0123abc"


@pytest.mark.parametrize(("bars", "factor"), [(7, 3.0), (1, 10.0), (1, 0.01), (5, 0.5)])
def test_another_unit_within_the_window_is_told(
    forecaster: Forecaster, hourly_bars: pl.DataFrame, bars: int, factor: float
) -> None:
    late = pl.int_range(pl.len()) >= pl.len() - bars
    prices = pl.when(late).then(pl.col(PRICES) * factor).otherwise(pl.col(PRICES))
    jump = forecaster.forecast(hourly_bars.with_columns(prices)).level_jump
    way = "much" if factor > 1 else "little"
    assert jump.startswith("within the window, an open of ") and f" times as {way} as the close before it, " in jump
    assert float(jump.split(" is ")[1].split()[0]) == pytest.approx(max(factor, 1 / factor), rel=0.02)
    assert forecaster.forecast(hourly_bars).level_jump == ""
