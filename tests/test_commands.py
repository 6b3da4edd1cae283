"""`lstm-ts COMMAND`, what a plain installation lacks, and the wheel outside a checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import WAIT_S

from lstm_ts import commands
from lstm_ts.commands import COMMANDS, LIBRARIES, check_extras
from lstm_ts.errors import ConfigError

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_ts", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_every_command_is_a_module_and_every_extra_is_declared() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(find_spec(command.module) for command in COMMANDS.values())
    assert set(LIBRARIES) <= set(extras)
    assert {extra for command in COMMANDS.values() for extra in command.extras} == set(LIBRARIES)
    for extra, libraries in LIBRARIES.items():
        for library in libraries:
            assert any(requirement.startswith(library) for requirement in extras[extra]), library


def test_every_command_has_its_configuration() -> None:
    top = {path.stem for path in (ROOT / "lstm_ts/conf").glob("*.yaml")} - {"project"}
    assert set(COMMANDS) == top


def test_the_list_of_commands_is_shown_for_help_and_for_nothing() -> None:
    asked = run("--help")
    assert asked.returncode == 0 and asked.stdout == run().stdout
    assert all(f"  {name} " in asked.stdout for name in COMMANDS)


def test_a_reader_that_ends_early_sees_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lstm_ts", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")
    ending = "from lstm_ts.lifetime import exit_without_reader as f\nwith f(): print(1); raise SystemExit(3)"
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", ending]
    done = subprocess.run(command, env=buffered, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=buffered, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert b"No space left on device: '<stdout>'" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("process", "--help")])
def test_a_full_stdout_is_one_sentence_and_a_closed_one_is_none(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "lstm_ts", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Expected room on the disk") and len(done.stderr.splitlines()) == 1
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_character_that_stdout_cannot_encode_is_escaped() -> None:
    done = run("retrain", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "\\u2026" in done.stdout, done.stderr


def test_an_unknown_command_is_one_line_of_json_on_request() -> None:
    refused = run("predct", LSTM_TS_LOG="json")
    said = json.loads(refused.stderr)
    assert (refused.returncode, said["event"], said["exit_code"]) == (2, "refused", 2)
    assert said["message"] == "Expected a command, got predct; did you mean predict?"


def test_a_command_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    refused = run("predct", "model=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "Error: Expected a command, got predct; did you mean predict?\n"


def test_a_command_does_what_its_module_does() -> None:
    refused = run("process", "symbl=XAGUSD")
    module = [sys.executable, "-m", "lstm_ts.process", "symbl=XAGUSD"]
    assert refused.returncode == 2
    assert refused.stderr == subprocess.run(module, capture_output=True, text=True, timeout=60).stderr


def test_a_missing_extra_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LIBRARIES", LIBRARIES | {"train": ["json", "no_such_a"], "registry": ["no_such_b"]})
    with pytest.raises(
        ConfigError, match=r"no_such_a and no_such_b for retrain.*pip install 'lstm_ts\[train,registry\]'"
    ):
        check_extras("retrain")
    check_extras("predict")


@pytest.mark.slow
def test_a_wheel_works_outside_a_checkout(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # setuptools builds in the tree
    for part in ("lstm_ts", "serve", "dashboard"):
        shutil.copytree(ROOT / part, tree / part)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, tree], check=True, timeout=WAIT_S)
    [wheel] = tmp_path.glob("*.whl")
    site, home, here = tmp_path / "site", tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        content.extractall(site)
    configuration = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lstm_ts/conf").rglob("*.yaml")}
    assert configuration <= names

    def command(*arguments: str) -> str:
        environment = {"PYTHONPATH": str(site), "HOME": str(home), "PATH": "/usr/bin:/bin"}
        full = [sys.executable, "-m", "lstm_ts", *arguments]
        return subprocess.run(
            full, cwd=here, env=environment, check=True, capture_output=True, text=True, timeout=WAIT_S
        ).stdout

    where = "import lstm_ts; print(lstm_ts.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=here, env={"PYTHONPATH": str(site)}, capture_output=True, timeout=WAIT_S
    )
    assert found.stdout.decode().strip() == str(site / "lstm_ts/__init__.py")
    assert "XAGUSD" in command("ingest", "source.start=2013-01-01", "source.end=2013-03-01")
    assert "hours" in command("process")
    assert sorted(path.name for path in here.iterdir()) == ["data", "outputs"]
    assert [path.name for path in home.iterdir()] == [".cache"]  # the sessions by year


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lstm-ts tra", "train"),
        ("lstm-ts train hori", "horizon="),
        ("lstm-ts train net=l", "net=lstm"),
    ],
)
def test_a_shell_completes_commands_groups_and_keys(line: str, offered: str, tmp_path: Path) -> None:
    program = tmp_path / "lstm-ts"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lstm_ts "$@"\n')
    program.chmod(0o755)
    asked = (
        'eval "$(lstm-ts -sc install=bash)"; complete -p lstm-ts > /dev/null || exit 1; '
        'hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    words = line.split()
    shell = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_CWORD": str(len(words) - 1)}
    environment = os.environ | shell | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", asked], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.stdout.split() == [offered], done.stderr
