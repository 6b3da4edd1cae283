"""Retraining as a whole: in this process where a command's own is not what is tested."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import random_hours
from hydra.core.hydra_config import HydraConfig
from processes import WAIT_S, child, fork, python, wait_for
from test_configs import compose, without_hydra

from dashboard.experiments.runs import LOSSES, read_losses
from lstm_ts.errors import ConfigError, LstmTsError, RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.model import provenance
from lstm_ts.registry import promotion
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION
from lstm_ts.retrain import main, retrain
from lstm_ts.store.bar_store import BarStore

START = datetime(2014, 1, 6, tzinfo=UTC)
SETTINGS = (
    "tsteps=24", "horizon=6", "net.hidden=4", "net.decoder=4", "trainer.max_epochs=1", "spec.max_missing=6",
    "retrain.valid=2w", "retrain.holdout=2w", "gate.min_origins=100", "trainer.enable_progress_bar=false",
)  # fmt: skip
LENIENT = ("gate.baselines=[persistence]", "gate.margin=0.4", "gate.tercile_margin=0.4", "gate.coverage=[0.5,1]")


@pytest.fixture(scope="module")
def stored(silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-six weeks of a random walk."""
    folder = tmp_path_factory.mktemp("stored")
    hourly_bars = random_hours(silver, START, START + timedelta(weeks=26))
    for symbol in ("XAGUSD", "XAUUSD"):
        with BarStore(folder / "data/processed" / symbol, HOURLY_SCHEMA).upsert("synthetic random hours") as staging:
            staging.add(hourly_bars)
    return folder


class Loop:
    """Retraining in one folder, again and again."""

    def __init__(self, folder: Path, stored: Path, ledger_url: str) -> None:
        self.folder, self.stored, self.runs = folder, stored, 0
        self.ledger = Ledger(ledger_url)
        self.registry = Registry(f"sqlite:///{folder}/registry/mlflow.db", self.ledger)

    def arguments(self, weeks: int, *settings: str) -> list[str]:
        end = f"span.end={(START + timedelta(weeks=weeks)).date()}"
        return [*SETTINGS, end, f"paths.data={self.stored}/data", f"paths.outputs={self.folder}", *settings]

    def retrain(self, weeks: int, *settings: str) -> None:
        cfg = compose("retrain", *self.arguments(weeks, *settings))
        self.runs += 1
        cfg.hydra.runtime.output_dir = str(self.folder / f"run{self.runs}")
        HydraConfig.instance().set_config(cfg)
        retrain(without_hydra(cfg), self.registry, self.ledger)

    @property
    def champion(self) -> int | None:
        version = self.registry.champion("XAGUSD")
        return version.number if version else None

    @property
    def verdicts(self) -> list[str]:
        return [version.tags["verdict"] for version in self.registry.versions("XAGUSD")]


@pytest.fixture
def loop(stored: Path, empty: Path, tmp_path: Path) -> Iterator[Loop]:
    shutil.copytree(empty, tmp_path / "registry")
    loop = Loop(tmp_path, stored, f"sqlite:///{tmp_path}/registry/ledger.db")
    yield loop
    loop.ledger.close()


@pytest.fixture(scope="module")
def promoted(stored: Path, empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where version 1 is champion."""
    folder = tmp_path_factory.mktemp("promoted")
    shutil.copytree(empty, folder / "registry")
    loop = Loop(folder, stored, f"sqlite:///{folder}/registry/ledger.db")
    loop.retrain(20)
    loop.ledger.close()
    return folder


@pytest.fixture
def turned(promoted: Path, stored: Path, tmp_path: Path) -> Iterator[Loop]:
    """A loop that has made version 1 of twenty weeks champion."""
    shutil.copytree(promoted, tmp_path, dirs_exist_ok=True)
    loop = Loop(tmp_path, stored, f"sqlite:///{tmp_path}/registry/ledger.db")
    loop.runs = 1
    yield loop
    loop.ledger.close()


@pytest.mark.slow
def test_the_loop_turns_on_either_database(stored: Path, empty: Path, tmp_path: Path, ledger_url: str) -> None:
    shutil.copytree(empty, tmp_path / "registry", dirs_exist_ok=True)
    loop = Loop(tmp_path, stored, ledger_url)
    loop.retrain(20, *LENIENT)
    loop.retrain(24, *LENIENT)
    loop.registry.rollback("XAGUSD", actor="a person", reason="a test")
    loop.ledger.close()
    again = Loop(tmp_path, stored, ledger_url)
    assert [row.to_version for row in again.registry.history("XAGUSD", CHAMPION)] == [1, 2, 1]
    assert [(row.version, row.verdict) for row in again.ledger.decisions("XAGUSD")] == [(1, "promote"), (2, "promote")]
    again.ledger.close()


@pytest.mark.slow
def test_a_first_model_without_skill_serves_as_an_experiment(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.retrain(20)
    assert loop.champion == 1
    kept = loop.registry.metrics(loop.registry.version("XAGUSD", 1))["val_loss"]
    assert min(read_losses(loop.folder / "run1" / LOSSES)) == pytest.approx(kept)
    assert loop.registry.version("XAGUSD", 1).tags["experimental"] == "true"
    (decision,) = loop.ledger.decisions("XAGUSD")
    assert (decision.verdict, decision.experimental, decision.champion) == ("promote", True, None)
    assert decision.span_end == START + timedelta(weeks=20)
    assert decision.span_start == START + timedelta(weeks=18)
    forecaster = loop.registry.load(loop.registry.version("XAGUSD", "champion"))
    assert forecaster.provenance.data_end == decision.span_start.isoformat()
    assert forecaster.provenance.config["split"]["test_from"] == decision.span_start.isoformat()
    assert forecaster.scores["symbol"] == "XAGUSD"
    report = (loop.folder / "run1/scores/report.html").read_text()
    assert "Gate: promote, experimental (there is no champion yet)" in report
    assert "Gate: promote, experimental" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_bars_again_are_nothing_new_until_code_or_libraries_change(
    turned: Loop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turned.retrain(20)
    assert "Nothing new since version 1 of XAGUSD" in capsys.readouterr().out
    assert turned.verdicts == ["promote"]
    assert len(turned.ledger.alias_changes("XAGUSD", CHAMPION)) == 2
    monkeypatch.setattr(provenance, "LIBRARIES", (*provenance.LIBRARIES, "scipy"))  # another one counts
    turned.retrain(20)
    assert len(turned.registry.versions("XAGUSD")) == 2
    turned.retrain(20, "name=another", "seed=1")
    assert [version.number for version in turned.registry.versions("another")] == [1]


@pytest.mark.slow
def test_a_fresher_model_that_is_no_worse_takes_over_until_a_rollback(loop: Loop) -> None:
    loop.retrain(20, *LENIENT)
    loop.retrain(24, *LENIENT)
    assert (loop.champion, loop.verdicts) == (2, ["promote", "promote"])
    assert loop.ledger.decisions("XAGUSD")[1].champion == 1
    loop.registry.rollback("XAGUSD", actor="a person", reason="a test")
    loop.retrain(24, *LENIENT)
    assert loop.champion == 1, "what was rolled back came back by itself"
    moves = [(row.from_version, row.to_version, row.actor) for row in loop.registry.history("XAGUSD", CHAMPION)]
    assert moves == [(None, 1, "retrain"), (1, 2, "retrain"), (2, 1, "a person")]


@pytest.mark.slow
def test_a_rejected_candidate_is_kept_and_serves_nobody(turned: Loop) -> None:
    turned.retrain(24, "gate.coverage=[0.01,0.02]")
    assert (turned.champion, turned.verdicts) == (1, ["promote", "reject"])
    assert turned.ledger.decisions("XAGUSD")[1].verdict == "reject"
    gate = turned.registry.read_gate(turned.registry.version("XAGUSD", 2))
    assert {check["name"]: check["passed"] for check in gate["checks"]}["coverage"] is False


@pytest.mark.slow
def test_with_too_few_origins_there_is_no_champion(loop: Loop) -> None:
    loop.retrain(20, "gate.min_origins=2000")
    assert (loop.champion, loop.verdicts) == (None, ["insufficient_evidence"])


def test_a_dry_run_shows_the_decision_and_changes_nothing(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.retrain(20, "retrain.dry_run=true")
    assert "Gate: promote" in capsys.readouterr().out
    assert loop.verdicts == []
    assert loop.ledger.decisions("XAGUSD") == []
    assert loop.ledger.alias_changes("XAGUSD", CHAMPION) == []


@pytest.mark.parametrize(
    ("weeks", "settings", "words"),
    [
        (24, ["tsteps=12"], "Expected a champion of tsteps 12, got 24 in version 1 of XAGUSD"),
        (24, ["horizon=7"], "Expected a champion of horizon 7, got 6"),
        (24, ["symbol=XAUUSD", "name=XAGUSD"], "Expected a champion of symbol XAUUSD, got XAGUSD"),
        (24, ["symbol.session.zone=UTC"], "Expected a champion of symbol.session.zone UTC, got America/New_York"),
        (19, [], "Expected a held-out span that version 1 of XAGUSD has not seen"),
        (24, ["retrain.start=champion", "net.hidden=5"], "Expected a champion of {'name': 'lstm', 'hidden': 5"),
        (24, ["retrain.start=champion", "retrain.valid=7w"], "Expected a champion trained before the validation"),
        (24, ["name=a b"], "Expected a name of 1 to 64 characters"),
        (24, ["ckpt_path=last"], "Expected no ckpt_path here"),
        (
            24,
            ["trainer.devices=2", "trainer.strategy=ddp"],
            "ddp_spawn or ddp_fork with .* got ddp;",
        ),
        (24, ["retrain.start=warm"], "retrain.start=scratch, champion or both, got warm"),
        (24, ["retrain.holdout=1y"], "shorten them, or move span.end"),
        (24, ["gate.steps=[1,9]"], "within horizon=6"),
    ],
)
def test_a_mistake_is_one_sentence_and_moves_nothing(turned: Loop, weeks: int, settings: list[str], words: str) -> None:
    with pytest.raises(LstmTsError, match=words):
        turned.retrain(weeks, *settings)
    assert (turned.champion, turned.verdicts) == (1, ["promote"])


def test_no_version_is_decided_on_before_the_bars_that_it_has_seen(
    turned: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSTM_TS_CLOCK", (START + timedelta(weeks=23)).isoformat())
    with pytest.raises(ConfigError, match="a time after the last stored bar"):
        turned.retrain(24)


def test_a_tampered_champion_stops_the_retraining(turned: Loop) -> None:
    (weights,) = (turned.folder / "registry/artifacts").rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RegistryError, match="version 1 of XAGUSD"):
        turned.retrain(24)
    assert turned.verdicts == ["promote"]


def retrain_alone(arguments: list[str], said: Path, dies: bool) -> None:
    """In a process of its own, as the command; it may die of SIGKILL before the promotion."""
    if dies:
        promotion._promote = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    sys.argv[1:] = arguments
    with said.open("w") as file, redirect_stdout(file):
        main()


def kill_before_the_promotion(loop: Loop, weeks: int, *settings: str) -> None:
    process = fork(retrain_alone, loop.arguments(weeks, *settings), loop.folder / "said", True)
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL


def test_a_registry_that_is_not_the_ledgers_is_refused_before_the_training(turned: Loop, empty: Path) -> None:
    (decision,), own = turned.ledger.decisions("XAGUSD"), turned.ledger
    shutil.copy(empty / "ledger.db", turned.folder / "another.db")
    with closing(Ledger(f"sqlite:///{turned.folder}/another.db")) as another:
        another.record_decision(replace(decision, data_sha256="of other bars"))
        turned.ledger, turned.registry = another, Registry(turned.registry.uri, another)
        with pytest.raises(RegistryError, match=r"set registry\.uri and registry\.ledger to two that belong together"):
            turned.retrain(24)
    shutil.copy(empty / "mlflow.db", turned.folder / "registry/mlflow.db")
    turned.ledger, turned.registry = own, Registry(turned.registry.uri, own)
    with pytest.raises(RegistryError, match="got another or an empty one"):
        turned.retrain(24)
    assert turned.verdicts == []


@pytest.mark.slow
@pytest.mark.parametrize("weeks", [20, 24])
def test_a_kill_after_the_registration_loses_no_promotion(loop: Loop, weeks: int) -> None:
    """The next run finds the version, moves the alias and writes the decision down, with new bars or without."""
    kill_before_the_promotion(loop, 20)
    assert (loop.champion, loop.verdicts, loop.ledger.decisions("XAGUSD")) == (None, ["promote"], [])
    loop.retrain(weeks)
    assert loop.champion == 1
    assert [decision.version for decision in loop.ledger.decisions("XAGUSD")] == list(range(1, 1 + len(loop.verdicts)))


@pytest.mark.slow
def test_no_promotion_is_made_up_for_over_a_champion_it_was_not_judged_against(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.retrain(20, *LENIENT)
    loop.retrain(22, *LENIENT)
    kill_before_the_promotion(loop, 24, *LENIENT)
    loop.registry.rollback("XAGUSD", actor="a person", reason="a test")
    loop.retrain(24, *LENIENT)
    assert "Not made champion: version 3 of XAGUSD was not judged against version 1" in capsys.readouterr().out
    assert (loop.champion, len(loop.ledger.decisions("XAGUSD"))) == (1, 3)


@pytest.mark.slow
def test_of_two_at_once_the_second_waits_and_finds_nothing_new(loop: Loop) -> None:
    said = [loop.folder / name for name in ("one", "other")]
    both = [fork(retrain_alone, loop.arguments(20), path, False) for path in said]
    for process in both:
        process.join(WAIT_S)
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted("Nothing new" in path.read_text() for path in said) == [False, True]
    assert loop.verdicts == ["promote"]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.2, 0.4, 0.8])
def test_killed_at_any_moment_of_the_registration_it_leaves_whole_versions(loop: Loop, after_s: float) -> None:
    """The moment is counted from the report, which is the last thing written before the registration."""
    loop.retrain(20, *LENIENT)
    arguments = [*loop.arguments(24, *LENIENT), f"hydra.run.dir={loop.folder}/killed"]
    with child(python("-m", "lstm_ts.retrain", *arguments), stderr=subprocess.DEVNULL) as process:
        wait_for((loop.folder / "killed/model").exists, process=process)
        time.sleep(after_s)
    assert loop.champion in (1, 2)
    versions = loop.registry.versions("XAGUSD")
    assert [loop.registry.load(version).provenance.symbol for version in versions] == ["XAGUSD"] * len(versions)
    loop.retrain(24, *LENIENT)
    assert (loop.champion, loop.verdicts) == (2, ["promote", "promote"])
    assert [decision.version for decision in loop.ledger.decisions("XAGUSD")] == [1, 2]
