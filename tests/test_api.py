"""What `import lstm_ts` offers in Python, beside the commands."""

import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import hydra
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from commands import list_group, succeed
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from matplotlib.figure import Figure
from processes import WAIT_S, python

import lstm_ts
from lstm_ts.api.hourly_bars import check_process
from lstm_ts.cli import compose
from lstm_ts.errors import ArtifactError, ConfigError, DataError, NoRows, WrongZone
from lstm_ts.sources.files.frames import to_pandas, to_polars

TINY: dict[str, Any] = {
    "tsteps": 24,
    "horizon": 6,
    "net": {"hidden": 8, "decoder": 8},
    "trainer": {"max_epochs": 1},
    "spec": {"max_missing": 6},
}
TYPED = ("tsteps=24", "horizon=6", "net.hidden=8", "net.decoder=8", "trainer.max_epochs=1", "spec.max_missing=6")
SILVER = {"calendar": "CMEGlobex_Silver", "zone": "America/New_York"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    succeed("ingest", folder, "source.start=2019-01-01", "source.end=2019-06-01")
    succeed("process", folder)
    return folder


@pytest.fixture(scope="module")
def trained(stored: Path) -> Path:
    return Path(succeed("train", stored, *TYPED)[-1])


@pytest.fixture(scope="module")
def hours(stored: Path) -> pl.DataFrame:
    return pl.read_parquet(stored / "data/processed/XAGUSD/*.parquet").sort("ts")


@pytest.fixture(scope="module")
def model(trained: Path) -> lstm_ts.TrainedModel:
    return lstm_ts.load(trained)


@pytest.fixture(scope="module")
def bars(hours: pl.DataFrame) -> lstm_ts.HourlyBars[pl.DataFrame]:
    return lstm_ts.read_bars(hours, symbol="XAGUSD", source="synthetic silver, seed 7")


@pytest.mark.slow
def test_fit_trains_what_the_command_trains(
    bars: lstm_ts.HourlyBars[pl.DataFrame], model: lstm_ts.TrainedModel, tmp_path: Path
) -> None:
    fitted = lstm_ts.fit(bars, **TINY)
    fitted.save(tmp_path / "model")
    again = lstm_ts.load(tmp_path / "model")
    theirs = model.forecasters["XAGUSD"]
    assert again.forecasters["XAGUSD"].network.weights.keys() == theirs.network.weights.keys()
    for name, weights in theirs.network.weights.items():
        assert np.array_equal(again.forecasters["XAGUSD"].network.weights[name], weights), name
    assert fitted.scores == again.scores == model.scores
    ours, config = (each.provenance.config for each in (again.forecasters["XAGUSD"], theirs))
    assert {key for key in config if ours[key] != config[key]} == {"logger", "paths", "registry", "trainer"}


def test_fits_in_threads_train_what_one_alone_does(
    bars: lstm_ts.HourlyBars[pl.DataFrame], model: lstm_ts.TrainedModel
) -> None:
    seeds = [{}, {"seed": 1}, {}, {"seed": 1}]
    with ThreadPoolExecutor(2) as pool:
        one, other, again, other_again = pool.map(lambda seed: lstm_ts.fit(bars, **TINY, **seed).forecast(bars), seeds)
    assert one.equals(model.forecast(bars)) and again.equals(one)
    assert other.equals(other_again) and not other.equals(one)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="others begin processes anew")
def test_a_fork_is_refused_instead_of_waiting_for_ever(model: lstm_ts.TrainedModel, hours: pl.DataFrame) -> None:
    assert hours.lazy().group_by("ts").len().collect().height  # by threads
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for work in (model.forecast, model.score):
            with pytest.raises(ConfigError, match=r"got a fork of one that uses Polars.*get_context\('spawn'\)"):
                pool.apply_async(work, (hours,)).get(timeout=60)


def check_among_ending_threads() -> None:
    for _ in range(500):
        Thread(target=time.sleep, args=(0.0005,)).start()
        check_process.__wrapped__(os.getpid())


def test_a_process_of_a_fork_server_reads_bars(stored: Path) -> None:
    path = str(stored / "data/processed/XAGUSD/*.parquet")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lstm_ts.api.hourly_bars"])
    with context.Pool(1) as pool:
        read = pool.apply_async(lstm_ts.read_bars, (path,), {"symbol": "XAGUSD"})
        assert len(read.get(timeout=60)) > 1000
        pool.apply_async(check_among_ending_threads).get(timeout=60)


def test_a_forecast_is_that_of_predict(
    stored: Path, trained: Path, model: lstm_ts.TrainedModel, hours: pl.DataFrame
) -> None:
    said = json.loads("\n".join(succeed("predict", stored, f"model={trained}", "format=json")))
    frame = model.forecast(hours)
    assert frame.columns[:4] == ["step", "target_ts", "persistence", "q05"]
    for row, theirs in zip(frame.iter_rows(named=True), said["path"], strict=True):
        assert row["target_ts"].isoformat() == theirs["target_ts"]
        assert row["persistence"] == theirs["persistence"]
        prices = [value for name, value in row.items() if name.startswith("q")]
        assert prices == pytest.approx(list(theirs["quantiles"].values()), abs=1e-6)


def test_scores_are_those_of_evaluate(
    stored: Path, trained: Path, model: lstm_ts.TrainedModel, bars: lstm_ts.HourlyBars[pl.DataFrame]
) -> None:
    scores = json.loads(Path(succeed("evaluate", stored, f"model={trained}", "span.start=2019-05-10")[-1]).read_text())
    rows = {
        (row["step"], row["forecaster"]): row for row in model.score(bars, start="2019-05-10").iter_rows(named=True)
    }
    for step, horizon in scores["horizons"].items():
        ours = rows.pop((int(step), "lstm"))
        assert ours["pinball_bps"] == pytest.approx(horizon["pinball_bps"], abs=1e-6)
        assert ours["skill"] is None
        for name, theirs in horizon["baselines"].items():
            row = rows.pop((int(step), name))
            assert row["pinball_bps"] == pytest.approx(theirs["pinball_bps"], abs=1e-6)
            assert row["skill"] == pytest.approx(horizon["skill"][name], abs=1e-6)
            assert row["dm_p"] == pytest.approx(horizon["dm_p"][name], abs=1e-6)
            assert (row["coverage_80"], row["n"]) == (pytest.approx(theirs["coverage"]["0.8"]), theirs["n"])
    assert not rows


def test_pandas_in_is_pandas_out_with_the_same_numbers(model: lstm_ts.TrainedModel, hours: pl.DataFrame) -> None:
    indexed = to_pandas(hours).set_index("ts")
    local = indexed.tz_convert("Asia/Tokyo")
    kept = indexed.reset_index().set_index("ts", drop=False)
    seconds = kept.assign(ts=kept["ts"].dt.as_unit("s"))
    arrow = kept.convert_dtypes(dtype_backend="pyarrow")
    flagged = kept.assign(flag=pd.array([None] + [True] * (len(kept) - 1), dtype="boolean"))
    for frame in (indexed, local, indexed.reset_index(), kept, seconds, arrow, flagged):
        found = model.forecast(frame)
        assert isinstance(found, pd.DataFrame)
        assert to_polars(found).equals(model.forecast(hours))
    assert isinstance(lstm_ts.read_bars(indexed, symbol="XAGUSD").frame, pd.DataFrame)


def test_an_index_counts_unless_it_numbers_rows_or_repeats_a_column(
    hours: pl.DataFrame, bars: lstm_ts.HourlyBars[pl.DataFrame]
) -> None:
    whole = hours.filter(pl.col("ts").diff().fill_null(pl.duration(hours=1)) == pl.duration(hours=1)).head(5)
    first = hours.filter(pl.col("ts") - pl.col("ts").shift(-5) == -pl.duration(hours=5))["ts"][0]
    five = to_pandas(hours.filter(pl.col("ts") >= first).head(5))
    seconds = pd.RangeIndex(start := int(first.timestamp()), start + 5 * 3600, 3600, name="time")
    assert whole.height == 5
    assert to_polars(five.set_index(seconds).drop(columns="ts"))["time"].to_list() == list(seconds)
    assert "index" not in to_polars(five.iloc[1:]).columns
    with pytest.raises(ConfigError, match="several named ts; rename them"):
        to_polars(five.set_index(five["ts"] + pd.Timedelta(hours=1)))

    class Own(pd.DataFrame):
        pass

    assert isinstance(lstm_ts.read_bars(Own(to_pandas(hours)), symbol="XAGUSD").frame, pd.DataFrame)


@pytest.mark.parametrize(
    "extra",
    [
        pl.col("ts").dt.hour().alias("hour"),
        pl.col("ts").dt.time().alias("tod"),
        pl.col("ts").diff().alias("gap"),
        pl.col("ts").dt.strftime("%H:%M").alias("time"),
    ],
)
def test_a_column_beside_whole_stamps_changes_no_bar(
    hours: pl.DataFrame, bars: lstm_ts.HourlyBars[pl.DataFrame], extra: pl.Expr
) -> None:
    told = hours.with_columns(extra)
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S+00:00"):
        text = told.with_columns(pl.col("ts").dt.strftime(form))
        assert lstm_ts.read_bars(text, symbol="XAGUSD", zone="UTC").frame.equals(bars.frame)
    assert lstm_ts.read_bars(told, symbol="XAGUSD").frame.equals(bars.frame)


def test_options_of_bars_are_numbers_and_zones(hours: pl.DataFrame, bars: lstm_ts.HourlyBars[pl.DataFrame]) -> None:
    naive = hours.with_columns(pl.col("ts").dt.replace_time_zone(None))
    assert lstm_ts.read_bars(naive, symbol="XAGUSD", zone=ZoneInfo("UTC")).frame.equals(bars.frame)
    with pytest.raises(ConfigError, match="Expected a positive number, got price_factor='2'"):
        lstm_ts.read_bars(hours, symbol="XAGUSD", price_factor="2")  # type: ignore[call-overload]


def test_configurations_are_read_in_threads_and_within_another_program_of_hydra() -> None:
    names = ["XAGUSD", "XAUUSD", "NZDUSD", "UKOIL"]
    with hydra.initialize(config_path=None, version_base="1.2"), ThreadPoolExecutor(4) as pool:
        theirs = GlobalHydra.instance().hydra
        found = pool.map(lambda name: compose("project", [f"symbol={name}"]).symbol.name, names)
        assert list(found) == names
        assert GlobalHydra.instance().hydra is theirs and str(getbase()) == "1.2"


def test_minutes_make_the_hours_that_process_makes(stored: Path, hours: pl.DataFrame) -> None:
    minutes = pl.read_parquet(stored / "data/raw/XAGUSD/*.parquet").sort("ts")
    of_frame = lstm_ts.read_bars(minutes, symbol="XAGUSD").frame
    files = stored / "data/raw/XAGUSD/*.parquet"
    of_files = lstm_ts.read_bars(files, symbol="XAGUSD").frame
    assert lstm_ts.read_bars(files, symbol="XAGUSD", source="synthetic, mine").source == "synthetic, mine"
    assert of_frame.equals(of_files)
    assert of_frame.equals(hours.filter(pl.col("ts") <= of_frame["ts"][-1]))
    assert hours.height - of_frame.height <= 1  # whose last minutes had no tick


def test_synthetic_bars_are_those_of_ingest(bars: lstm_ts.HourlyBars[pl.DataFrame]) -> None:
    made = lstm_ts.synthetic_bars(start="2019-01-01", end="2019-06-01")
    assert repr(made) == repr(bars)
    assert made.frame.drop("minutes_share").equals(bars.frame.drop("minutes_share"))


@pytest.mark.parametrize(
    "picture", ["forecast", "forecast_fan", "calibration", "skill_by_horizon", "skill_through_time"]
)
def test_a_picture_is_a_figure_that_notebooks_show(
    model: lstm_ts.TrainedModel, bars: lstm_ts.HourlyBars[pl.DataFrame], picture: Any
) -> None:
    figure = model.plot(bars, picture)
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    said = " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
    assert "persistence" in said
    assert "synthetic silver, seed 7" in said and "trained on" not in said


def test_what_is_unusual_is_told(
    model: lstm_ts.TrainedModel, hours: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    tenfold = hours.with_columns(pl.col("open", "high", "low", "close") * 100)
    model.forecast(tenfold)
    assert "Warning about the forecast of XAGUSD: another price level" in caplog.text
    caplog.clear()
    model.score(lstm_ts.read_bars(hours, symbol="XAGUSD"), start="2019-02-01")
    assert "In sample: the span begins before 2019-" in caplog.text
    assert "trained on synthetic silver, seed 7, and is applied to a frame" in caplog.text
    assert "(the model was trained on synthetic silver, seed 7)" in model.plot(hours).get_supxlabel()


@pytest.mark.parametrize(
    ("use", "kind", "words"),
    [
        (
            lambda model, hours: model.forecast(hours.with_columns(pl.col("ts").dt.replace_time_zone(None))),
            WrongZone,
            r"GMT\+2/\+3, by lstm_ts\.read_bars\(…, symbol='XAGUSD', zone=…\)$",
        ),
        (
            lambda model, hours: model.score(hours.rename({"ts": "close time"})),
            DataError,
            r"set stamps=close, by lstm_ts\.read_bars\(…, symbol='XAGUSD', stamps=…\)$",
        ),
        (
            lambda model, hours: model.forecast(lstm_ts.read_bars(hours, symbol="XAUUSD")),
            ArtifactError,
            "Expected bars of XAGUSD, as in the model's training, got XAUUSD; load or fit a model of XAUUSD",
        ),
        (lambda model, hours: model.score(hours.tail(TINY["tsteps"])), NoRows, "Expected outcomes to score, got none"),
        (lambda model, hours: model.plot(hours.tail(TINY["tsteps"]), "calibration"), NoRows, "Expected outcomes"),
        (lambda model, hours: lstm_ts.load("x" * 300), ConfigError, "got 'x{60}': File name too long; name another"),
        (lambda model, hours: model.save("x" * 300), ConfigError, "File name too long"),
        (lambda model, hours: model.save("a\0b"), ConfigError, r"got 'a\\x00b': embedded null"),
        (lambda model, hours: lstm_ts.synthetic_bars("FOO"), ConfigError, "XAUUSD, got FOO; choose one of them"),
        (
            lambda model, hours: lstm_ts.synthetic_bars(start="2021-01-01"),
            ConfigError,
            "^Expected start before end and before now, got 2021-01-01 and 2020-01-01; move one of them$",
        ),
        (lambda model, hours: lstm_ts.synthetic_bars(seed=-1), ConfigError, "^Expected seed as a whole number"),
    ],
)
def test_what_a_model_cannot_do_is_told_with_what_python_can(
    model: lstm_ts.TrainedModel, hours: pl.DataFrame, use: Callable[..., Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        use(model, hours)


def test_only_the_libraries_that_are_used_are_asked_for(
    model: lstm_ts.TrainedModel, bars: lstm_ts.HourlyBars[pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match="Expected onnx for fit, got"):
        lstm_ts.fit(bars, **TINY)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert isinstance(model.plot(bars), Figure)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="Expected matplotlib for plot, got"):
        model.plot(bars)


def test_a_market_of_ones_own_needs_no_file(hours: pl.DataFrame, bars: lstm_ts.HourlyBars[pl.DataFrame]) -> None:
    mine = lstm_ts.Symbol(name="MINE", session=lstm_ts.Session(**SILVER), currency="EUR", decimals=2)
    pooled = lstm_ts.fit(bars, lstm_ts.read_bars(hours, symbol=mine, source="synthetic, mine"), **TINY)
    assert list(pooled.forecasters) == ["XAGUSD", "MINE"]
    assert pooled.forecasters["MINE"].quote is not None and pooled.forecasters["MINE"].quote.currency == "EUR"
    with pytest.raises(ConfigError, match=r"which of XAGUSD, MINE they are of, got DataFrame; read them by"):
        pooled.forecast(hours)
    alone = lstm_ts.TrainedModel({"MINE": pooled.forecasters["MINE"]})
    assert alone.forecast(hours).height == TINY["horizon"]


@pytest.mark.parametrize("settings", [TINY, TINY | {"trainer": {"max_epochs": 1, "gradient_clip_val": "much"}}])
def test_a_fit_gives_random_numbers_and_threads_back(
    bars: lstm_ts.HourlyBars[pl.DataFrame], settings: dict[str, Any]
) -> None:
    random.seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with suppress(ConfigError):
            lstm_ts.fit(bars, **settings)
        assert (random.random(), torch.get_num_threads()) == (random.Random(1).random(), 3)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hours: hours.drop("close"), "Expected columns open, high, low, close and a column of time stamps"),
        (lambda hours: hours.clear(), "got a frame without a row"),
        (lambda hours: hours.with_columns(pl.col("ts").dt.replace_time_zone(None)), "Expected zone for the frame"),
        (lambda hours: hours.with_columns(pl.col("ts").dt.offset_by("5h")), "set zone, or another session"),
        (lambda hours: hours.with_columns(pl.lit("EURUSD").alias("symbol")), "Expected rows of XAGUSD"),
        (lambda hours: hours.gather_every(3).head(5), "Expected"),
        (lambda hours: hours["close"], "Expected a frame of polars or pandas, or a path, got Series"),
        (lambda hours: hours.lazy(), "got a LazyFrame; give frame.collect()"),
        (lambda hours: to_pandas(hours.select("open", "close")).set_axis(["a", "a"], axis=1), "named a;"),
        (
            lambda hours: pd.concat({"XAGUSD": to_pandas(hours)}, axis=1),
            "got names of several levels, as ('XAGUSD', 'ts'); choose one",
        ),
        (lambda hours: "nowhere/*.csv", "Expected a file, or a glob that matches one, got bars=nowhere"),
        (lambda hours: hours.head(1), "got not one whole session hour; give more bars"),
        (
            lambda hours: pl.concat([hours.head(100), hours.slice(100, 40).upsample("ts", every="1m").fill_null(1)]),
            "apart from 2019-01-08 07:01 UTC on; give those from 2019-01-08T07:01 UTC on alone",
        ),
    ],
)
def test_bars_that_nobody_can_use_are_one_sentence(hours: pl.DataFrame, change: Any, words: str) -> None:
    with pytest.raises((DataError, ConfigError)) as refused:
        lstm_ts.read_bars(change(hours), symbol="XAGUSD")
    assert words in str(refused.value)
    assert not any(wrong in str(refused.value) for wrong in ("source.", "span.", "max_mismatch", "stored"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizn": 6}, "Expected a key of train, got horizn=6; did you mean horizon=24"),
        ({"trainer": {"max_epoch": 3}}, "did you mean trainer.max_epochs=8"),
        ({"net": "gruu"}, f"Expected net= with one of {list_group('net')}, got gruu"),
        ({"experiment": "quick"}, "Expected +experiment= with one of"),
        ({"symbol": "XAUUSD"}, "got symbol; leave them out"),
        ({"symbol.name": "XAUUSD", "min_minutes_share": 0.9}, "got min_minutes_share, symbol.name; leave them out"),
        ({"levels": [0.9, 0.1]}, "Expected ascending levels"),
        ({"tsteps": 20000}, "session hours"),
        ({"warm_start": "${nope}"}, "got: Interpolation key 'nope' not found; correct them"),
    ],
)
def test_a_setting_that_fit_does_not_know_is_one_sentence(
    bars: lstm_ts.HourlyBars[pl.DataFrame], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, DataError)) as refused:
        lstm_ts.fit(bars, **settings)
    assert words in str(refused.value)


def test_each_market_is_fitted_once_and_from_bars(bars: lstm_ts.HourlyBars[pl.DataFrame], hours: pl.DataFrame) -> None:
    with pytest.raises(ConfigError, match="each once, got XAGUSD, XAGUSD; join those of each"):
        lstm_ts.fit(bars, bars)
    with pytest.raises(ConfigError, match=r"as lstm_ts\.read_bars gives them, got DataFrame"):
        lstm_ts.fit(hours)  # type: ignore[arg-type]


def test_a_model_is_copied_and_its_parts_are_shown_in_a_line(
    model: lstm_ts.TrainedModel, bars: lstm_ts.HourlyBars[pl.DataFrame]
) -> None:
    assert pickle.loads(pickle.dumps(model)).forecast(bars).equals(model.forecast(bars))
    assert repr(model.forecasters).startswith("{'XAGUSD': <lstm of XAGUSD, trained until 2019-")
    assert len({bars, bars, model}) == 2 and bars in [model, bars]
    model.scores.clear()  # type: ignore[attr-defined]
    assert model.scores


def test_a_setting_may_name_the_file_of_its_group(bars: lstm_ts.HourlyBars[pl.DataFrame]) -> None:
    with pytest.raises(DataError, match="session hours"):
        lstm_ts.fit(bars, trainer="default", tsteps=20000)


def test_a_folder_is_loaded_whole_and_written_once(
    model: lstm_ts.TrainedModel, trained: Path, hours: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repr(lstm_ts.load(trained.parent)) == repr(model)
    with pytest.raises(ConfigError, match="Expected a new folder"):
        model.save(tmp_path)
    for use in (lstm_ts.load, model.save):
        with pytest.raises(ConfigError, match="Expected the path of a folder, got None"):
            use(None)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"Expected a folder to write, got .*manifest\.json/below: Not a directory; name"
    ):
        model.save(trained / "manifest.json" / "below")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model.save("~/mine") == tmp_path / "mine" and repr(lstm_ts.load("~/mine")) == repr(model)
    with pytest.raises(ArtifactError, match="Expected a model folder"):
        lstm_ts.load(tmp_path)
    with pytest.raises(ConfigError, match="Expected a picture among forecast,"):
        model.plot(hours, "pie")  # type: ignore[arg-type]


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, lstm_ts; print(sorted({'polars', 'hydra', 'torch'} & set(sys.modules)), *dir(lstm_ts))"
    said = subprocess.run(python("-c", code), capture_output=True, text=True, check=True, timeout=WAIT_S).stdout
    assert said.startswith("[] ")
    assert set(lstm_ts.__all__) <= set(said.split())


def test_a_forecast_in_python_needs_neither_pytorch_nor_pandas(trained: Path, stored: Path) -> None:
    code = (
        f"import sys, lstm_ts; m = lstm_ts.load({str(trained)!r});"
        f"m.forecast(lstm_ts.read_bars({str(stored / 'data/processed/XAGUSD/*.parquet')!r}, symbol='XAGUSD'));"
        "print({'torch', 'lightning', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "set()", done.stderr
