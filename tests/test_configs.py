"""Every file under conf/ composes, and every node in it is accepted by the code it names."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from lstm_ts import cli
from lstm_ts.configuration.conf_files import read_settings
from lstm_ts.configuration.parts import CONF, construct
from lstm_ts.errors import ConfigError
from lstm_ts.model.checkpoints import find_checkpoint
from lstm_ts.model.datamodule import Split
from lstm_ts.model.lightning_module import Optimisation
from lstm_ts.model.nets.recurrent import RecurrentConfig
from lstm_ts.sources.files.source import Files
from lstm_ts.training.trainer import build_trainer

ENTRY_POINTS = sorted(path.stem for path in Path(CONF).glob("*.yaml") if path.stem != "project")
SERVED = ("traffic", "forecast_log", "flags")
MONITORED = ("checks", "drift", "live_skill", "regime", "verdict")
GROUPS = ("source", "symbol", "net", "trainer", "logger", "gate", "experiment", "alerts", *MONITORED, *SERVED)
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in sorted((Path(CONF) / group).glob("*.yaml"))]


def compose(name: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose(name, list(overrides), return_hydra_config=True)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """As a command gets it."""
    mine = cfg.copy()
    with open_dict(mine):
        del mine["hydra"]
    return mine


def entry_point_of(option: str) -> str:
    if option == "experiment=walk_forward":
        return "backtest"
    served = dict.fromkeys(SERVED, "serve")
    return ({"source": "ingest", "gate": "retrain", "alerts": "alerts", "checks": "alerts"} | served).get(
        option.split("=")[0], "train"
    )


def test_every_group_of_the_folder_is_tried() -> None:
    groups = {path.parent.name for path in Path(CONF).glob("*/*.yaml")}
    assert groups == set(GROUPS)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_composes_with_its_defaults(name: str) -> None:
    cfg = compose(name)
    assert cfg.symbol.name == "XAGUSD"
    construct(cfg.symbol)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_composes_and_instantiates(option: str, tmp_path: Path) -> None:
    group = option.split("=")[0]
    prefix = "+" if group in ("experiment", *MONITORED) else ""
    needed = ["source.paths=bars.csv"] if option == "source=files" else []
    cfg = compose(entry_point_of(option), prefix + option, f"paths.outputs={tmp_path}", *needed)
    cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    if group in ("source", "alerts", *MONITORED, *SERVED):
        construct(cfg[group], **({"folder": tmp_path} if group == "forecast_log" else {}))
        return
    for node in ("symbol", "net", "spec", "split", "optimisation", *({"gate"} & set(cfg))):
        construct(cfg[node])
    build_trainer(cfg, tmp_path)


@pytest.mark.parametrize("path", sorted((Path(CONF) / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_asks_its_question_and_holds_only_differences(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")
    assert "?" in lines[1]
    assert len(lines) <= 16
    default = flat(compose(entry_point_of(f"experiment={path.stem}")))
    same = {key: value for key, value in flat(OmegaConf.load(path)).items() if default.get(key) == value}
    assert not same


@pytest.mark.parametrize("path", sorted((Path(CONF) / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_is_taken_by_its_command_and_refused_by_one_without_its_keys(path: Path) -> None:
    asked = f"+experiment={path.stem}"
    cli.compose(entry_point_of(asked[1:]), [asked])
    if path.stem == "walk_forward":
        with pytest.raises(
            ConfigError, match=r"keys of train, got walk in conf/experiment/walk_forward\.yaml, which bac"
        ):
            cli.compose("train", [asked])
    if path.stem.startswith("sweep"):
        with pytest.raises(ConfigError, match=rf"one run, got a sweep over .*net\.hidden.* lstm_ts\.train \{asked}"):
            cli.compose("train", [asked], single=True)


HEAD = "# @package _global_\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD + "horizn: 3", "got horizn in {file}; did you mean horizon=24 (conf/train.yaml)?"),
        (HEAD + "paths: {dta: x}", "got paths.dta in {file}; did you mean paths.data=data (conf/project.yaml)?"),
        ("horizon: 3", "Expected {file} to begin with the line # @package _global_, got none"),
        (HEAD + "horizon: [1", "Expected YAML in {file}, got in line 2: while parsing a flow sequence, expected"),
        (HEAD + "horizon:\t1\n\ttsteps: 2", "Expected YAML in {file}, got in line 2: while scanning"),
        (HEAD + "horizon: 1\nhorizon: 2", "got in line 3: while constructing a mapping, found duplicate key horizon"),
        (HEAD + "horizon: \x01", "Expected YAML in {file}, got: unacceptable character #x0001"),
        ("\udcff\udcfe", "Expected {file} in UTF-8, got invalid start byte at byte 0; save it as UTF-8"),
        (HEAD + "trainer.max_epochs: 1", "got trainer.max_epochs in {file}; write max_epochs on a line of its own"),
        (HEAD + "paths: {data.x: 1}", "Expected a key of train, got paths.data.x in {file}; its keys"),
    ],
)
def test_a_file_of_ones_own_that_nothing_reads_is_one_sentence(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as told:
        cli.compose("train", [f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine"])
    assert words.format(file=file) in str(told.value)


def test_a_file_of_ones_own_may_choose_groups_and_add_what_a_class_takes(tmp_path: Path) -> None:
    for group, content in (
        (
            "experiment",
            f"{HEAD}defaults: [{{override /net: wide}}]\ntrainer: {{max_steps: 9}}\nhydra: {{mode: RUN}}\n"
            "mine: 0.01\noptimisation: {lr: '${mine}'}",
        ),
        ("net", (Path(CONF) / "net/gru.yaml").read_text()),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / ("wide.yaml" if group == "net" else "mine.yaml")).write_text(content)
    cfg = cli.compose("train", [f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine", "+trainer.min_steps=2"])
    assert (cfg.trainer.max_steps, cfg.trainer.min_steps, cfg.optimisation.lr) == (9, 2, 0.01)


def flat(cfg: Any, prefix: str = "") -> dict[str, Any]:
    values = {}
    for key, value in OmegaConf.to_container(cfg, resolve=False).items() if prefix == "" else cfg.items():
        name = f"{prefix}{key}"
        values |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return values


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("+trainer.callbacks=[x]", "Expected no trainer.callbacks, which is set here, got ['x']; leave it out"),
        ("+trainer.fast_dev_run=true", "a validation after each epoch, got trainer.fast_dev_run=true; leave it out"),
        ("+trainer.overfit_batches=1", "got trainer.overfit_batches=1"),
        ("+trainer.check_val_every_n_epoch=5", "got trainer.check_val_every_n_epoch=5"),
        ("+trainer.val_check_interval=7777", "got trainer.val_check_interval=7777"),
        ("+trainer.val_check_interval=1", "got trainer.val_check_interval=1"),
        ("+trainer.min_epochs=9", "Expected trainer.min_epochs of at most trainer.max_epochs=8, got 9"),
        ("trainer.accelerator=tpu", "Expected settings Lightning accepts under trainer, got: Requirement 'torch_xla"),
    ],
)
def test_a_trainer_that_would_not_validate_each_epoch_is_refused(typed: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        cfg = cli.compose("train", [typed])
        cfg.logger = None
        build_trainer(cfg, tmp_path)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("node", "overrides", "words"),
    [
        ("net", ["net.hidden=1000000000"], "at most 64 layers and 65536 units"),
        ("optimisation", ["optimisation.step_decay=-1000"], "step_decay from -10 to 10"),
        ("optimisation", ["optimisation.weight_decay=1e300"], "weight_decay <= 100"),
        ("spec", ["tsteps=0"], "tsteps >= 2"),
        ("spec", ["tsteps=many"], "whole numbers"),
        ("spec", ["horizon=0"], "horizon >= 1"),
        ("spec", ["levels=[0.9,0.1]"], "ascending levels"),
        ("net", ["net.hidden=0"], "hidden"),
        ("net", ["net.dropout=1.5"], "dropout"),
        ("split", ["split.test_until=someday"], "an ISO date"),
        ("optimisation", ["optimisation.warm_up=2"], "warm_up"),
    ],
)
def test_a_value_out_of_range_is_named(node: str, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        construct(compose("train", *overrides)[node])


def test_constructors_repeat_no_default_that_the_configuration_gives() -> None:
    for kind in (Files, Split, Optimisation):
        assert kind.__init__.__kwdefaults__ is None
    assert all(field.default is MISSING for field in fields(RecurrentConfig))


def test_a_checkpoint_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.ckpt"):
        find_checkpoint("nowhere.ckpt", tmp_path, [])
    assert find_checkpoint(None, tmp_path, []) is None


@pytest.mark.parametrize("path", sorted(Path(CONF).rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_key_says_what_it_is(path: Path) -> None:
    told_elsewhere = {"hydra_logging", "job_logging", "experiment", "symbol"}  # conf/symbol/XAGUSD.yaml is the template
    if path.parent.name in told_elsewhere and path.stem != "XAGUSD":
        return
    own = [setting for setting in read_settings(path) if not setting.key.startswith(("instance.", "contract."))]
    assert not [setting.key for setting in own if not setting.comment]
