"""Training as a whole: resumption, early stopping's choice, tracking, and the negative controls."""

import json
import re
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import psutil
import pytest
from commands import ROOT, run_process, succeed
from lightning.pytorch.callbacks import ModelCheckpoint
from models import make_data, symbol_bars
from omegaconf import OmegaConf
from processes import WAIT_S, child, python, wait_for
from test_cli import TINY
from test_configs import compose, without_hydra

from dashboard.experiments.runs import read_runs
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import make_hourly_bars
from lstm_ts.market.session import Moment, Session, utc
from lstm_ts.model.checkpoints import find_checkpoint
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.export import export
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.lightning_module import Optimisation
from lstm_ts.model.nets import describe_net
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.provenance import hash_training
from lstm_ts.model.windows import WindowSpec
from lstm_ts.scoring.scores import compute_scores
from lstm_ts.sources.synthetic import Synthetic
from lstm_ts.training.forecasters import build_module, find_test_spans, fit, train
from lstm_ts.training.forecasters import make_data as make_training_data
from lstm_ts.training.trainer import build_trainer, describe_run


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    succeed("ingest", folder, "source.start=2019-01-01", "source.end=2019-07-01")
    succeed("process", folder)
    return folder


def test_the_final_epochs_learn_the_validation_hours_and_know_nothing_of_later_ones(
    hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    asked = ("symbols=[XAGUSD]", "~logger", "trainer.enable_progress_bar=false", f"paths.outputs={tmp_path}")
    cfg = without_hydra(compose("train", *TINY, *asked, "+logger={}", "optimisation.final_epochs=1"))
    split = Split(valid_from="2014-04-01", test_from="2014-05-01", test_until=None)

    def fit_with_others_from(start: str) -> Forecaster:
        later = pl.col("ts") >= utc(start)
        bars = hourly_bars.with_columns(
            pl.when(later).then(pl.col(name) * 1.5).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
        )
        data = make_training_data(cfg, [symbol_bars(bars, silver)], split)
        return fit(cfg, data, build_trainer(cfg, tmp_path / start)).forecaster

    as_it_was, tested, validated = map(fit_with_others_from, ("2030-01-01", "2014-05-01", "2014-04-15"))
    assert as_it_was.provenance.trained_until == as_it_was.provenance.data_end == "2014-05-01T00:00:00+00:00"
    assert as_it_was.network.graph == tested.network.graph
    assert as_it_was.location_weight == tested.location_weight
    np.testing.assert_array_equal(as_it_was.scaler.return_profile_W, tested.scaler.return_profile_W)
    assert as_it_was.network.graph != validated.network.graph
    assert (as_it_was.scaler.return_profile_W != validated.scaler.return_profile_W).any()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty", "ignore:The dirpath has changed")
def test_a_run_that_had_stopped_early_trains_no_further_epoch(
    hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    asked = ("symbols=[XAGUSD]", "~logger", "trainer.enable_progress_bar=false", f"paths.outputs={tmp_path}")
    stops = ("patience=1", "trainer.max_epochs=30", "optimisation.lr=0.1")
    cfg = without_hydra(compose("train", *TINY, *asked, "+logger={}", *stops))
    split = Split(valid_from="2014-04-01", test_from="2014-05-01", test_until=None)
    data = make_training_data(cfg, [symbol_bars(hourly_bars, silver)], split)
    stopped = fit(cfg, data, build_trainer(cfg, tmp_path))
    last = tmp_path / "checkpoints/last.ckpt"
    assert 1 < len(stopped.losses) < 30
    for folder in (tmp_path, tmp_path / "other"):
        resumed = fit(cfg, data, build_trainer(cfg, folder), ckpt_path=last)
        assert resumed.losses == stopped.losses
        assert resumed.forecaster.network.graph == stopped.forecaster.network.graph
    run = describe_run(cfg, data)
    assert find_checkpoint("last", tmp_path, run) == last
    for setting, theirs in (
        ("symbols=[XAUUSD]", r"symbols=\[XAGUSD\];"),
        ("net=gru", "net._target_=lstm_ts.model.nets.lstm.LSTMConfig;"),
        ("horizon=5", "spec.horizon=6;"),
        ("trainer.max_epochs=31", "trainer.max_epochs=30;"),
        ("+trainer.max_time=00:00:01:00", "fewer settings;"),
    ):
        other = without_hydra(compose("train", *TINY, *asked, "+logger={}", *stops, setting))
        with pytest.raises(ConfigError, match=f"ckpt_path=last with .*, got one of {theirs}"):
            find_checkpoint("last", tmp_path, describe_run(other, data))
    with pytest.raises(ConfigError, match="bars of XAGUSD"):
        find_checkpoint(str(last), tmp_path, run[:-1])
    cfg.patience = 2
    assert describe_run(cfg, data) == run
    assert len(fit(cfg, data, build_trainer(cfg, tmp_path / "longer"), ckpt_path=last).losses) > len(stopped.losses)
    cfg.trainer.max_epochs = 1
    with pytest.raises(ConfigError, match=r"under trainer, got: You restored a checkpoint with current_epoch=\d+, but"):
        fit(cfg, data, build_trainer(cfg, tmp_path / "shorter"), ckpt_path=last)
    OmegaConf.update(cfg, "trainer.max_steps", 1, force_add=True)
    with pytest.raises(ConfigError, match=r"at least one whole epoch .*; raise trainer\.max_steps or"):
        fit(cfg, data, build_trainer(cfg, tmp_path / "shortest"))


@pytest.mark.parametrize("test_from", [1.0, "2030-01-01"])
def test_without_a_whole_horizon_after_test_from_the_validation_is_scored_and_no_later_hour_counts_as_seen(
    hourly_bars: pl.DataFrame, silver: Session, test_from: Moment
) -> None:
    cfg = without_hydra(compose("train", *TINY, "symbols=[XAGUSD]"))
    split = Split(valid_from="2014-04-01", test_from=test_from, test_until=None)
    data = make_training_data(cfg, [symbol_bars(hourly_bars, silver)], split)
    assert find_test_spans(cfg, data) == [Span(utc("2014-04-01"), data.test_from)]
    assert data.test_from <= hourly_bars["ts"][-1] + timedelta(hours=1)
    cfg.optimisation.final_epochs = 1
    with pytest.raises(ConfigError, match="or too few for one horizon; move it"):
        find_test_spans(cfg, data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("trainer.max_epochs=6",),
        ("trainer.max_epochs=5", "optimisation.lr=0.3"),
        ("trainer.max_epochs=5", "hydra.run.dir=${paths.outputs}/train/mine"),
    ],
    ids=["the best epoch still to come", "the best epoch already past", "in a folder of the user's"],
)
def test_an_interrupted_run_goes_on_to_the_same_model(stored: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Killed after its first epoch, resumed with `ckpt_path=last`, against one that was left alone."""
    settings = (*TINY, *settings, f"paths.data={stored}/data")
    whole = Path(succeed("train", tmp_path / "whole", *settings)[-1])
    paths = (f"paths.outputs={tmp_path}/cut/outputs",)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with child(python("-m", "lstm_ts.train", *settings, *paths), **quiet) as process:
        wait_for(lambda: list((tmp_path / "cut").rglob("last.ckpt")), process=process)
    assert not list((tmp_path / "cut").rglob("model")), "the run was over before it could be killed"
    resumed = Path(succeed("train", tmp_path / "cut", *settings, "ckpt_path=last")[-1])
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_runs_started_together_have_a_folder_each(stored: Path, tmp_path: Path) -> None:
    paths = (f"paths.data={stored}/data", f"paths.outputs={tmp_path}/outputs")
    command = python("-m", "lstm_ts.train", *TINY, *paths)
    with child(command) as one, child(command) as two, child(command) as three:
        codes = [process.wait(WAIT_S) for process in (one, two, three)]
    assert codes == [0, 0, 0]
    assert len(list(tmp_path.rglob("model/manifest.json"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_a_training_outlives_its_command(stored: Path, tmp_path: Path, number: int) -> None:
    long = ("trainer.max_epochs=99999", "patience=99999", "trainer.devices=2", "trainer.strategy=ddp_fork")
    paths = (f"paths.data={stored}/data", f"paths.outputs={tmp_path}/outputs", "trainer.accelerator=cpu")
    in_background = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")  # as a shell starts what a script leaves to it
    command = [*in_background, *python("-m", "lstm_ts.train", *TINY, *long, *paths)]
    with child(command, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(tmp_path.rglob("last.ckpt")), process=process)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(WAIT_S)
    _, left = psutil.wait_procs(workers, WAIT_S)
    for each in left:
        each.kill()
    assert len(workers) >= 2 and not left


@pytest.mark.slow
def test_two_processes_find_the_loss_of_one_at_the_same_batches(stored: Path, tmp_path: Path) -> None:
    settings = (*TINY, "trainer.max_epochs=3", "net.dropout=0", "trainer.accelerator=cpu", f"paths.data={stored}/data")
    settings += ("optimisation.final_epochs=1",)
    losses, skills = {}, {}
    for strategy in ("auto", "ddp", "ddp_spawn", "ddp_fork"):
        devices = 1 if strategy == "auto" else 2
        options = (f"trainer.strategy={strategy}", f"trainer.devices={devices}")
        done = run_process("train", tmp_path / strategy, *settings, *options)
        assert done.returncode == 0, done.stderr
        assert "sync_dist" not in done.stderr
        (found,) = re.findall(r"Validation loss: ([\d.]+) times", done.stderr)
        (scores,) = (tmp_path / strategy).rglob("scores.json")
        losses[strategy] = float(found)
        skills[strategy] = json.loads(scores.read_text())["horizons"]["1"]["skill"]["volatility"]
        assert len(list((tmp_path / strategy / "outputs").rglob("manifest.json"))) == 1
    assert list(losses.values()) == pytest.approx([losses["auto"]] * 4, abs=1e-3)
    assert list(skills.values()) == pytest.approx([skills["auto"]] * 4, abs=1e-3)


@pytest.mark.parametrize("name", ["persistence", "har", "lightgbm", "champion"])
def test_a_network_with_the_name_of_another_forecast_is_refused_before_it_is_trained(
    hourly_bars: pl.DataFrame, silver: Session, name: str
) -> None:
    data = make_data(symbol_bars(hourly_bars, silver), spec=WindowSpec(24, 6, (0.1, 0.5, 0.9), 6))
    config = type("Named", (LSTMConfig,), {"name": name})(hidden=8, layers=1, decoder=8, dropout=0.0)
    optimisation = Optimisation(lr=5e-3, weight_decay=0.0, warm_up=0.3, step_decay=1.0, final_epochs=0)
    with pytest.raises(ConfigError, match=f"Expected a network of another name than .*, got {name}; rename it"):
        build_module(data, config, optimisation, start=None)


def test_code_outside_the_package_belongs_to_what_determines_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside").mkdir()
    for file, target in (("alone_net.py", "alone_net.Config"), ("outside/layers.py", "outside.net.Config")):
        hashes = []
        for content in ("a = 1", "a = 2"):
            (tmp_path / file).write_text(content)
            hashes.append(hash_training({"net": {"_target_": target}}))
        assert hashes[0] != hashes[1]
    assert hash_training({"net": {"_target_": "torch.nn.LSTM"}}) != hashes[1]


TOY_NET = '''
"""A network that knows the mean of the window alone."""
from dataclasses import dataclass
from typing import ClassVar
from torch import nn

@dataclass(frozen=True)
class ToyConfig:
    name: ClassVar[str] = "toy"
    units: int

    def build(self, *, features, target_columns, volatilities, base_HQ):
        return ToyNet(self, features, base_HQ)

class ToyNet(nn.Module):
    def __init__(self, config, features, base_HQ):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, config.units), nn.Tanh(), nn.Linear(config.units, 1))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)
        self.register_buffer("base_HQ", base_HQ)

    def forward(self, x_BTF, calendar_BHC, profile_BH, volatility_BV):
        stretch_B11 = self.layers(x_BTF.mean(1)).exp()[..., None]
        return stretch_B11 * self.base_HQ
'''


@pytest.mark.slow
def test_a_network_and_a_symbol_from_outside_the_package_train_and_predict(tmp_path: Path) -> None:
    """Each is a file of its own and a YAML, in a folder that the command line names."""
    (tmp_path / "toy_net.py").write_text(TOY_NET)
    (tmp_path / "conf/net").mkdir(parents=True)
    (tmp_path / "conf/symbol").mkdir()
    (tmp_path / "conf/net/toy.yaml").write_text("_target_: toy_net.ToyConfig\nunits: 3\n")
    silver = (ROOT / "conf/symbol/XAGUSD.yaml").read_text()
    (tmp_path / "conf/symbol/TOY.yaml").write_text(silver.replace("XAGUSD", "TOY").replace("USD", "CHF"))
    options = ("symbol=TOY", f"hydra.searchpath=[{tmp_path}/conf]")
    settings = [text for text in TINY if not text.startswith("net.")]
    here = {"PYTHONPATH": str(tmp_path)}
    for command, more in (
        ("ingest", ("source.start=2019-01-01", "source.end=2019-07-01")),
        ("process", ()),
        ("train", ("net=toy", *settings)),
    ):
        done = run_process(command, tmp_path, *options, *more, **here)
        assert done.returncode == 0, done.stderr
    assert "\ntoy " in done.stdout
    model = done.stdout.splitlines()[-1]
    done = run_process("predict", tmp_path, *options, f"model={model}")  # which needs nothing of the network's file
    assert done.returncode == 0, done.stderr
    assert "CHF" in done.stdout


@pytest.mark.slow
def test_wandb_keeps_each_run_of_a_sweep_in_files_while_no_key_is_set(stored: Path, tmp_path: Path) -> None:
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path)}
    sweep = ("hydra.mode=MULTIRUN", "seed=0,1", "data.batch_size=32", "logger=wandb", f"paths.data={stored}/data")
    done = run_process("train", tmp_path, *TINY, *sweep, **environment)
    assert done.returncode == 0, done.stderr
    runs = [path.read_bytes() for path in (tmp_path / "outputs").rglob("offline-run-*/*.wandb")]
    assert len(runs) == 2
    logs = [path.read_text() for path in tmp_path.rglob("debug-core.log")]
    assert logs and all('"disable-analytics":true' in text for text in logs)
    group = str(next((tmp_path / "outputs").rglob("multirun.yaml")).parent)
    curves = ("train/loss", "val/loss", "train/windows_per_s", "lr-AdamW")
    results = ("calibration", "table-file", "step_decay", "XAGUSD-forecaster")
    for logged in (*curves, *results, group):
        assert all(logged.encode() in content for content in runs), logged
    shown = read_runs(tmp_path / "outputs")
    assert [(each.trial, each.config["seed"], each.trouble) for each in shown] == [(1, 1, ""), (0, 0, "")]
    assert all(each.offline and each.offline.is_dir() and not each.url for each in shown)


def planted_data(session: Session, *, shuffled: bool) -> BarsDataModule:
    """A year of a planted AR(1) signal; shuffled, each training and validation target belongs to another window."""
    source = Synthetic(session=session, start="2018-01-01", end="2019-01-01", seed=7, start_price=20.0,
                       signal="planted_ar", ar_coefficient=0.3)  # fmt: skip
    minute_bars = pl.concat([batch.bars for batch in source.read_batches()])
    hours = session.hours(minute_bars["ts"][0], minute_bars["ts"][-1])
    data = make_data(
        symbol_bars(make_hourly_bars(minute_bars, hours, min_minutes_share=0.25), session),
        spec=WindowSpec(tsteps=24, horizon=2, levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_missing=6),
        split=Split(valid_from=0.6, test_from=0.75, test_until=None),
        batch_size=128,
        half_life_hours=24,
        half_lives_hours=(1, 4, 12, 24),
    )
    data.setup()
    if shuffled:
        fitted_N = np.concatenate([data.train_windows.origin_N, data.valid_windows.origin_N])
        data.train_windows.z_GH[fitted_N] = data.train_windows.z_GH[np.random.default_rng(0).permutation(fitted_N)]
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "jobs"),
    [
        (("+experiment=sweep_capacity", "hydra.sweeper.params={net.hidden:'4,8'}"), 2),
        (("+experiment=sweep_tpe", "hydra.sweeper.n_trials=2"), 2),
        (("hydra.mode=MULTIRUN", "seed=0,1", "hydra/launcher=joblib"), 2),
    ],
    ids=["basic", "optuna", "joblib"],
)
def test_a_sweep_trains_a_model_per_job(stored: Path, tmp_path: Path, sweep: tuple[str, ...], jobs: int) -> None:
    tiny = [setting for setting in TINY if not setting.startswith("net.hidden")]
    succeed("train", tmp_path, *tiny, *sweep, f"paths.data={stored}/data")
    assert len(list((tmp_path / "outputs").rglob("model/manifest.json"))) == jobs


@pytest.mark.parametrize("shuffled", [False, True])
def test_shuffled_targets_find_nothing_where_the_true_ones_find_the_signal(
    tmp_path: Path, silver: Session, shuffled: bool
) -> None:
    data, config = planted_data(silver, shuffled=shuffled), LSTMConfig(hidden=16, layers=1, decoder=16, dropout=0.0)
    trainer = L.Trainer(
        max_epochs=4,
        callbacks=[ModelCheckpoint(tmp_path, monitor="val/loss")],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    optimisation = Optimisation(lr=5e-3, weight_decay=0.0, warm_up=0.3, step_decay=1.0, final_epochs=0)
    L.seed_everything(0, verbose=False)
    model = build_module(data, config, optimisation, start=None)
    train(model, data, trainer, ckpt_path=None)
    provenance = Provenance("XAGUSD", "synthetic planted_ar", "", "", "", "", 0, "", "", {}, {})
    network, (its,) = export(model.net, describe_net(config), data.spec, volatilities=data.volatilities), data.symbols
    forecaster = Forecaster(network, its.scaler, its.reference, data.spec, silver, provenance, {})
    one_hour = compute_scores(evaluate(forecaster, its.bars.hourly_bars, Span(data.test_from, None))).horizons["1"]
    if shuffled:
        assert one_hour.skill["volatility"] < 0.01
        assert 0.45 < one_hour.directional_accuracy < 0.55
    else:
        assert one_hour.skill["volatility"] > 0.01
        assert one_hour.dm_p["volatility"] < 0.001
        assert one_hour.directional_accuracy > 0.55


@pytest.mark.slow
@pytest.mark.parametrize(("signal_name", "skilled"), [("random_walk", False), ("planted_ar", True)])
def test_negative_controls(tmp_path: Path, signal_name: str, skilled: bool) -> None:
    """On a random walk there is no skill; a planted AR(1) signal is found."""
    horizon = train_on(tmp_path, f"source.signal={signal_name}")
    climatology = horizon["skill"]["climatology"], horizon["dm_p"]["climatology"]
    if skilled:
        assert horizon["skill"]["volatility"] > 0.01
        assert horizon["dm_p"]["volatility"] < 0.001
        assert horizon["directional_accuracy"] > 0.55
    else:
        assert horizon["skill"]["volatility"] < 0 or horizon["dm_p"]["volatility"] > 0.05
        assert climatology[0] < 0 or climatology[1] > 0.05, climatology
        accuracy = horizon["directional_accuracy"]
        assert accuracy is None or 0.47 < accuracy < 0.53  # None: the median stays at the last close


def train_on(folder: Path, *source: str) -> Any:
    """Scores one hour ahead, of a training on two years of synthetic minutes."""
    succeed("ingest", folder, "source.start=2018-01-01", "source.end=2020-01-01", *source)
    succeed("process", folder)
    lines = succeed("train", folder, "+experiment=quickstart", "horizon=2", "trainer.max_epochs=6")
    scores = json.loads((Path(lines[-1]).parent / "scores" / "scores.json").read_text())
    return scores["horizons"]["1"]
