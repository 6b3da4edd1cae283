"""`--help` of each command."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import module_of, run
from omegaconf import OmegaConf
from processes import ROOT, WAIT_S, python
from test_cli import ENTRY_POINTS, SLOW
from test_configs import compose, without_hydra

from lstm_ts.commands import COMMANDS
from lstm_ts.configuration.command_help import describe_command
from lstm_ts.configuration.overrides import flatten

HELP_ALL = """
import runpy, sys
slow, *modules = sys.argv[1:]
for module in modules:
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print("ended", module, end.code, *(set(slow.split(",")) & set(sys.modules)))
"""


def keys_of(text: str) -> set[str]:
    values = text.partition("\nValues, key=value:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^  ([\w.]+)=", values, re.M))


def within(leaf: str, key: str) -> bool:
    """Some mappings stand on one line."""
    return leaf == key or leaf.startswith(f"{key}.")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_value_of_the_command_and_its_own_groups(name: str) -> None:
    cfg: Any = compose(name)
    content = OmegaConf.to_container(without_hydra(cfg))
    leaves = {key for key, value in flatten(content) if not isinstance(value, dict) and not key.endswith("_target_")}
    text = describe_command(name, [])
    keys = keys_of(text)
    assert {leaf for leaf in leaves if not any(within(leaf, key) for key in keys)} == set()
    assert {key for key in keys if not any(within(leaf, key) for leaf in leaves)} == set()
    groups = text.partition("default comes first:\n")[2].partition("\n\n")[0]
    chosen = {group for group in cfg.hydra.runtime.choices if not group.startswith("hydra/")}
    listed = set(re.findall(r"^  ([+\w]+)", groups, re.M)) - {"+experiment"}
    assert listed <= chosen
    assert all(cfg.get(group) is None for group in chosen - listed)
    assert ("+experiment" in groups) == (name in ("train", "backtest", "retrain"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_what_the_command_does_and_an_example(name: str) -> None:
    first, second, blank, _, example, *_ = describe_command(name, []).splitlines()
    assert first == f"{name}: {COMMANDS[name].summary}."
    assert second.endswith(".") and not blank
    assert example.startswith(f"  lstm-ts {name} ")


@pytest.mark.parametrize("width", [80, 120])
def test_help_fits_the_terminal(width: int) -> None:
    for name in COMMANDS:
        lines = describe_command(name, [], width).splitlines()
        assert all(len(line) <= width or line.startswith(("  lstm-ts ", "  registry.")) for line in lines)


def test_help_shows_what_the_files_say_of_a_key() -> None:
    text = describe_command("retrain", [], 200)
    assert re.search(r"  tsteps=48 +session hours in a window\n", text)
    assert re.search(r"  net.decoder=32 +width of the layer that joins the window with each target hour\n", text)
    assert re.search(r"  gate.min_skill=0.005 +share of a baseline's loss", text)
    assert "  logger=null" in text and "logger.save_dir" not in text


def test_help_shows_the_value_that_the_command_sets_and_the_file_that_is_chosen() -> None:
    assert "trainer.enable_progress_bar=false" in describe_command("backtest", [])
    assert "trainer.enable_progress_bar=true" in describe_command("train", [])
    files = describe_command("ingest", ["source=files"])
    assert "source.zone=null" in files and "source.seed" not in files
    assert "source.seed=7" in describe_command("ingest", ["source=nothing", "source=synthetic"])


def test_help_is_answered_before_what_is_slow_is_imported(tmp_path: Path) -> None:
    command = python("-c", HELP_ALL, ",".join(SLOW), *ENTRY_POINTS)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ended == [f"ended {module} 0" for module in ENTRY_POINTS], done.stderr


def test_a_command_that_is_called_answers_help_too(tmp_path: Path) -> None:
    assert module_of("process") == "lstm_ts.process"
    done = run("process", tmp_path, "--help", "min_minutes_share=0.5")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "process: make session hours of the stored minutes.")
    assert not list(tmp_path.iterdir())
    shown = run("process", tmp_path, "--cfg", "job", "min_minutes_share=0.5")
    assert "min_minutes_share: 0.5" in shown.stdout
