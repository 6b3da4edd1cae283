import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from models import make_data, random_network, symbol_bars
from processes import ROOT, WAIT_S, fork, free_port, wait_for

from lstm_ts.errors import ArtifactError, ConfigError, RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import Session
from lstm_ts.model.artifact import SUMS, load_forecaster, save_forecasters
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.windows import WindowSpec
from lstm_ts.registry.__main__ import Request, answer
from lstm_ts.registry.mlflow_store import MlflowStore
from lstm_ts.registry.model_folder import MODEL_SHA256, load_registered
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import Version, describe_pages
from lstm_ts.store.disk import hash_file

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GATE = {
    "verdict": "promote",
    "experimental": False,
    "checks": [
        {"name": "samples", "passed": True, "reason": "4321 origins, at least 500 asked for"},
        {"name": "skill", "passed": None, "reason": "skill over volatility +0.4 % (DM p = 0.2)"},
    ],
}
TAGS = {
    "verdict": "promote",
    "experimental": "true",
    "trained_until": "2014-04-01T00:00:00+00:00",
    "data_end": "2014-05-01T00:00:00+00:00",
    "request_sha256": "ab",
    "judged_against": "",
}
METRICS = {"pinball_1h_bps": 7.006, "skill_persistence_1h": 0.4, "skill_volatility_1h": 0.0057, "val_loss": 0.91}
Opened = tuple[Registry, Ledger]


@pytest.fixture(scope="module")
def model(hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = WindowSpec(tsteps=24, horizon=2, levels=(0.1, 0.5, 0.9), max_missing=3)
    data = make_data(symbol_bars(hourly_bars, silver), spec=spec)
    data.setup()
    (its,) = data.symbols
    network = random_network(data, LSTMConfig(hidden=4, layers=1, decoder=4, dropout=0.0))
    provenance = Provenance("XAGUSD", "test hours", "", "", "ab", "", 7, "", "c0ffee", {"torch": "2"}, {"tsteps": 24})
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_forecasters([Forecaster(network, its.scaler, its.reference, spec, silver, provenance, {"n": 1})], folder)
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path) -> Path:
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(empty / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    registry, ledger = open_registry(folder)
    yield registry, ledger
    ledger.close()


@pytest.fixture
def registry(opened: Opened) -> Registry:
    return opened[0]


def open_registry(folder: Path, uri: str | None = None) -> Opened:
    ledger = Ledger(f"sqlite:///{folder}/ledger.db")
    return Registry(uri or f"sqlite:///{folder}/mlflow.db", ledger), ledger


def register(registry: Registry, model: Path, name: str = "XAGUSD", count: int = 1) -> None:
    for _ in range(count):
        registry.register(name, model, gate=GATE, tags=TAGS, metrics=METRICS, params={"tsteps": 24})


def promote(registry: Registry, *numbers: int) -> None:
    for number in numbers:
        registry.promote("XAGUSD", number, alias="champion", actor="a test", reason=f"it is {number}")


def champion(registry: Registry) -> int | None:
    found = registry.champion("XAGUSD")
    return found.number if found else None


def targets(registry: Registry) -> list[int | None]:
    return [row.to_version for row in registry.history("XAGUSD", "champion")]


def files_of(folder: Path, version: int) -> Path:
    """The run folder of a version, in which lie model/ and gate.json."""
    runs = (folder / "artifacts" / "XAGUSD").glob("*/artifacts")
    return sorted(runs, key=lambda path: path.stat().st_ctime_ns)[version - 1]


def test_a_version_gives_back_what_was_registered(registry: Registry, model: Path, hourly_bars: pl.DataFrame) -> None:
    register(registry, model)
    version = registry.version("XAGUSD", 1)
    assert TAGS.items() <= version.tags.items()
    assert registry.read_gate(version) == GATE
    assert registry.metrics(version) == METRICS
    assert abs(version.created - datetime.now(UTC)) < timedelta(minutes=1)
    ours, theirs = load_forecaster(model).forecast(hourly_bars), registry.load(version).forecast(hourly_bars)
    np.testing.assert_array_equal(ours.q_HQ, theirs.q_HQ)


def test_versions_come_oldest_first_with_their_aliases(registry: Registry, model: Path) -> None:
    register(registry, model, count=3)
    promote(registry, 2)
    registry.promote("XAGUSD", 3, alias="challenger", actor="a test", reason="next")
    found = [(version.number, version.aliases) for version in registry.versions("XAGUSD")]
    assert found == [(1, ()), (2, ("champion",)), (3, ("challenger",))]
    assert registry.version("XAGUSD", "challenger").number == 3


def test_names_stand_side_by_side(registry: Registry, model: Path) -> None:
    register(registry, model, count=2)
    register(registry, model, "EURUSD")
    promote(registry, 2)
    assert registry.champion("EURUSD") is None
    assert [version.number for version in registry.versions("EURUSD")] == [1]
    assert [registry.versions(name) for name in ("USD", "eurusd", "EUR'USD", "%")] == [[]] * 4


def test_a_name_not_seen_yet_has_no_version_and_no_champion(registry: Registry) -> None:
    assert registry.versions("XAGUSD") == []
    assert registry.champion("XAGUSD") is None
    assert registry.history("XAGUSD", "champion") == []
    with pytest.raises(RegistryError, match=r"name to be one that is registered, got XAGUSD; there is none; python -m"):
        registry.version("XAGUSD", 1)


@pytest.mark.parametrize("ref", [9, "9", "best", "not an alias!"])
def test_an_unknown_version_is_answered_with_those_there_are(registry: Registry, model: Path, ref: int | str) -> None:
    register(registry, model, count=2)
    promote(registry, 1)
    with pytest.raises(RegistryError, match=rf"among \[1, 2\] or an alias among \['champion'\], got {ref}"):
        registry.version("XAGUSD", ref)


def test_what_is_no_model_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="a model folder"):
        register(registry, tmp_path)
    assert registry.versions("XAGUSD") == []


def test_a_name_that_is_no_folder_is_refused(registry: Registry, model: Path) -> None:
    for name in ("XAG/USD", "..", ".hidden", "", "silver\n"):
        with pytest.raises(ConfigError, match=f"Expected a name of 1 to 64 characters .*, got {re.escape(repr(name))}"):
            register(registry, model, name)


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def rewrite_with_sums(model: Path) -> None:
    """As someone would who knows the format."""
    manifest, sums = model / "manifest.json", model / "SHA256SUMS"
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace("c0ffee", "facade"))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(manifest.read_bytes()).hexdigest()))
    load_forecaster(model)


ALTERATIONS: dict[str, Callable[[Path], None]] = {
    "weights": lambda run: alter(run / "model" / "weights.safetensors"),
    "manifest": lambda run: alter(run / "model" / "manifest.json"),
    "sums": lambda run: alter(run / "model" / "SHA256SUMS"),
    "manifest and sums": lambda run: rewrite_with_sums(run / "model"),
    "a lost file": lambda run: (run / "model" / "SHA256SUMS").unlink(),
    "a lost run": lambda run: shutil.rmtree(run),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_version_is_neither_loaded_nor_exported_nor_made_champion(
    registry: Registry, model: Path, folder: Path, alteration: str
) -> None:
    register(registry, model, count=2)
    promote(registry, 1)
    ALTERATIONS[alteration](files_of(folder, 2))
    message = "Expected the files of version 2 of XAGUSD as they were registered"
    with pytest.raises(RegistryError, match=message):
        registry.load(registry.version("XAGUSD", 2))
    with pytest.raises(RegistryError, match=message):
        registry.export(registry.version("XAGUSD", 2), folder / "exported")
    with pytest.raises(RegistryError, match=message):
        promote(registry, 2)
    assert not (folder / "exported").exists()
    assert (champion(registry), targets(registry)) == (1, [1])


def test_an_intact_version_of_other_windows_is_told_from_an_altered_one(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    register(registry, model)
    forecaster, other = load_forecaster(model), tmp_path / "other"
    save_forecasters([replace(forecaster, spec=replace(forecaster.spec, tsteps=12))], other)
    version = registry.version("XAGUSD", 1)
    version = replace(version, tags={**version.tags, MODEL_SHA256: hash_file(other / SUMS)})
    with pytest.raises(
        RegistryError, match=r"^Expected version 1 of XAGUSD to read the windows of this code, .*name=…"
    ):
        load_registered(version, other)


def test_no_rollback_to_an_altered_version(registry: Registry, model: Path, folder: Path) -> None:
    register(registry, model, count=2)
    promote(registry, 1, 2)
    alter(files_of(folder, 1) / "model" / "weights.safetensors")
    with pytest.raises(RegistryError, match="version 1 of XAGUSD"):
        registry.rollback("XAGUSD", actor="a test", reason="worse")
    assert (champion(registry), targets(registry)) == (2, [1, 2])


def test_an_altered_gate_report_is_refused(registry: Registry, model: Path, folder: Path) -> None:
    register(registry, model)
    alter(files_of(folder, 1) / "gate.json")
    with pytest.raises(RegistryError, match=r"gate\.json of version 1 of XAGUSD as it was registered"):
        registry.read_gate(registry.version("XAGUSD", 1))


def test_rolling_back_twice_goes_back_two_promotions_and_not_further(registry: Registry, model: Path) -> None:
    register(registry, model, count=3)
    promote(registry, 1, 2, 3)
    assert registry.rollback("XAGUSD", actor="a test", reason="").aliases == ("champion",)
    assert champion(registry) == 2
    registry.rollback("XAGUSD", actor="a test", reason="")
    assert champion(registry) == 1
    with pytest.raises(RegistryError, match=r"an earlier champion of XAGUSD .* got none before version 1"):
        registry.rollback("XAGUSD", actor="a test", reason="")
    assert targets(registry) == [1, 2, 3, 2, 1]


def test_a_version_takes_the_place_of_the_one_it_was_judged_against_and_of_no_other(
    registry: Registry, model: Path
) -> None:
    register(registry, model, count=3)
    promote(registry, 1, 2)
    for over, champion_then in ((1, 2), (2, 3)):
        registry.promote("XAGUSD", 3, alias="champion", actor="a test", reason="better", over=over)
        assert champion(registry) == champion_then


def test_a_registry_in_the_place_of_another_is_told(registry: Registry, model: Path, folder: Path) -> None:
    register(registry, model)
    shutil.copy(folder / "mlflow.db", folder / "copy.db")
    (folder / "copy.db").replace(folder / "mlflow.db")
    with pytest.raises(RegistryError, match="that was opened, got another file; restart"):
        registry.versions("XAGUSD")


def test_promoting_the_champion_again_writes_nothing(opened: Opened, model: Path) -> None:
    registry, ledger = opened
    register(registry, model)
    promote(registry, 1, 1)
    assert [row.state for row in ledger.alias_changes("XAGUSD", "champion")] == ["intended", "done"]


def test_only_the_known_aliases_are_moved(registry: Registry, model: Path) -> None:
    register(registry, model)
    with pytest.raises(ConfigError, match="alias=champion or challenger, got best"):
        registry.promote("XAGUSD", 1, alias="best", actor="a test", reason="")


def test_a_ledger_of_another_registry_learns_nothing_false(folder: Path, empty: Path, model: Path) -> None:
    registry, ledger = open_registry(folder)
    register(registry, model)
    promote(registry, 1)
    rows = ledger.alias_changes("XAGUSD", "champion")
    wrong = Registry(f"sqlite:///{empty}/mlflow.db", ledger)
    for asks in (lambda: wrong.history("XAGUSD", "champion"), lambda: wrong.rollback("XAGUSD", actor="a", reason="b")):
        with pytest.raises(RegistryError, match=r"registry\.uri and registry\.ledger belong together"):
            asks()
    with pytest.raises(RegistryError, match="the ledger refers to, got one without XAGUSD; check that"):
        Registry(wrong.uri, ledger, make=False)
    assert ledger.alias_changes("XAGUSD", "champion") == rows
    ledger.close()


def test_a_registration_that_was_killed_leaves_no_name_in_the_list(registry: Registry, model: Path) -> None:
    registry.store._client.create_registered_model("XAUUSD")
    register(registry, model)
    assert registry.names() == ["XAGUSD"]


def audited(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int | None, int | None, str]]:
    """Each line of the audit."""
    fields = [vars(record) for record in caplog.records if record.name == "lstm_ts.audit"]
    return [(line["event"], line["alias"], line["from_version"], line["version"], line["actor"]) for line in fields]


def test_an_alias_moved_outside_is_found(registry: Registry, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    register(registry, model, count=2)
    promote(registry, 1)
    caplog.set_level(logging.INFO, "lstm_ts.audit")
    caplog.clear()
    registry.store.set_alias("XAGUSD", "champion", 2)
    found = registry.history("XAGUSD", "champion")[-1]
    assert (found.action, found.from_version, found.to_version, found.actor) == ("found", 1, 2, "unknown")
    assert "outside" in found.reason
    assert targets(registry) == [1, 2]  # and only once
    assert audited(caplog) == [("found_moved", "champion", 1, 2, "unknown")]
    assert registry.rollback("XAGUSD", actor="a test", reason="").number == 1


def challengers(registry: Registry) -> list[tuple[str, int | None]]:
    return [(row.action, row.to_version) for row in registry.history("XAGUSD", "challenger")]


def challenge(registry: Registry, number: int) -> None:
    registry.promote("XAGUSD", number, alias="challenger", actor="a test", reason="to be tried")


def test_the_champion_is_not_made_its_own_challenger(registry: Registry, model: Path) -> None:
    register(registry, model)
    promote(registry, 1)
    with pytest.raises(RegistryError, match="a challenger beside the champion, got version 1 of XAGUSD, which is the"):
        challenge(registry, 1)
    assert registry.version("XAGUSD", 1).aliases == ("champion",)


def test_a_challenger_that_becomes_champion_is_challenger_no_more(
    registry: Registry, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(registry, model, count=2)
    promote(registry, 1)
    challenge(registry, 2)
    caplog.set_level(logging.INFO, "lstm_ts.audit")
    caplog.clear()
    promote(registry, 2)
    assert registry.version("XAGUSD", 2).aliases == ("champion",)
    assert challengers(registry) == [("promote", 2), ("release", None)]
    challenge(registry, 1)
    registry.rollback("XAGUSD", actor="a test", reason="worse")
    assert registry.version("XAGUSD", 1).aliases == ("champion",)
    assert challengers(registry)[2:] == [("promote", 1), ("release", None)]
    assert Counter(event for event, *_ in audited(caplog)) == {"promoted": 2, "released": 2, "rolled_back": 1}
    assert ("rolled_back", "champion", 2, 1, "a test") in audited(caplog)


def test_two_roles_given_elsewhere_become_one(registry: Registry, model: Path) -> None:
    register(registry, model)
    promote(registry, 1)
    registry.store.set_alias("XAGUSD", "challenger", 1)
    promote(registry, 1)
    assert registry.version("XAGUSD", 1).aliases == ("champion",)
    assert challengers(registry) == [("found", 1), ("release", None)]


# Registries that are moved or copied


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_registry_elsewhere_works_and_writes_nothing_where_it_was(
    folder: Path, model: Path, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    home, old = tmp_path_factory.mktemp("new") / "registry", folder / "registry"
    old.mkdir()
    for name in ("mlflow.db", "ledger.db"):
        (folder / name).rename(old / name)
    registry, ledger = open_registry(old)
    register(registry, model)
    promote(registry, 1)
    ledger.close()
    if how == "moved":
        old.rename(home)
    else:
        shutil.copytree(old, home)
    before = snapshot(old)
    registry, ledger = open_registry(home)
    first = registry.version("XAGUSD", 1)
    assert place(first).is_relative_to(home)
    registry.load(first)
    assert registry.read_gate(first) == GATE
    assert str(home) in ask(registry, "show")
    assert "champion" in ask(registry, "list")
    ask(registry, "export", version=1, to=str(home / "exported"))
    register(registry, model, count=2)
    promote(registry, 3)
    ledger.close()
    for number in (2, 3):
        assert place(registry.version("XAGUSD", number)).is_relative_to(home)
        registry.load(registry.version("XAGUSD", number))
    assert snapshot(old) == before
    if how == "copied":
        registry, ledger = open_registry(old)
        assert [version.number for version in registry.versions("XAGUSD")] == [1]
        ledger.close()


def place(version: Version) -> Path:
    return Path(version.source.removeprefix("file://"))


def test_a_copy_of_the_databases_alone_reads_the_models_where_they_are(
    opened: Opened, folder: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    register(opened[0], model)
    alone = tmp_path_factory.mktemp("alone")
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(folder / name, alone / name)
    registry, ledger = open_registry(alone)
    registry.load(registry.version("XAGUSD", 1))
    ledger.close()


# Processes that die, and processes at once


def dying(call: int, methods: tuple[str, ...], task: Callable[..., None], *arguments: Any) -> None:
    """Runs in a process of its own: SIGKILL just before the nth call among some methods, or else at the end."""
    from mlflow import MlflowClient

    calls = 0

    def deadly(work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*args, **kwargs)

        return wrapped

    for owner, method in [(Ledger, "record_alias"), *((MlflowClient, method) for method in methods)]:
        setattr(owner, method, deadly(vars(owner)[method]))
    task(*arguments)
    assert calls + 1 == call, f"{calls} calls"
    os.kill(os.getpid(), signal.SIGKILL)


def promote_2(folder: Path) -> None:
    promote(open_registry(folder)[0], 2)


def register_one(folder: Path, model: Path) -> None:
    register(open_registry(folder)[0], model)


def register_three(folder: Path, model: Path) -> None:
    register(open_registry(folder)[0], model, count=3)


def promote_in_turn(folder: Path, first: int, second: int) -> None:
    registry = open_registry(folder)[0]
    for _ in range(5):
        promote(registry, first, second)


def die(call: int, methods: tuple[str, ...], task: Callable[..., None], *arguments: Any) -> None:
    process = fork(dying, call, methods, task, *arguments)
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2, 3, 4])  # before the intention, the move, the row done, and after it
def test_a_promotion_killed_between_two_steps_is_done_or_not_and_the_history_knows(
    opened: Opened, model: Path, folder: Path, call: int
) -> None:
    registry, _ = opened
    register(registry, model, count=2)
    promote(registry, 1)
    die(call, ("set_registered_model_alias",), promote_2, folder)
    assert (champion(registry), targets(registry)) == ((2, [1, 2]) if call > 2 else (1, [1]))
    last = registry.history("XAGUSD", "champion")[-1]
    assert (last.action, last.reason) == ("promote", f"it is {last.to_version}")
    promote(registry, 2)
    assert registry.rollback("XAGUSD", actor="a test", reason="").number == 1


STEPS = (
    "create_experiment",
    "create_run",
    "log_batch",
    "log_artifacts",
    "log_text",
    "set_terminated",
    "create_registered_model",
    "create_model_version",
)


@pytest.mark.slow
@pytest.mark.parametrize("call", range(1, len(STEPS) + 2))
def test_a_registration_killed_before_any_step_leaves_no_version_or_the_whole(
    opened: Opened, model: Path, folder: Path, call: int
) -> None:
    registry, _ = opened
    die(call, STEPS, register_one, folder, model)
    assert len(registry.versions("XAGUSD")) == (call > len(STEPS))
    register(registry, model)
    for version in registry.versions("XAGUSD"):
        registry.load(version)
        assert registry.read_gate(version) == GATE
        assert registry.metrics(version) == METRICS


@pytest.mark.slow
def test_two_processes_that_move_an_alias_at_once_take_turns(opened: Opened, model: Path, folder: Path) -> None:
    registry, _ = opened
    register(registry, model, count=4)
    processes = [fork(promote_in_turn, folder, *pair) for pair in ((1, 2), (3, 4))]
    for process in processes:
        process.join(WAIT_S)
        assert process.exitcode == 0
    done = registry.history("XAGUSD", "champion")
    assert len(done) == 20
    assert [row.from_version for row in done[1:]] == [row.to_version for row in done[:-1]]
    assert {row.action for row in done} == {"promote"}


@pytest.mark.slow
def test_two_processes_that_register_at_once_both_succeed(opened: Opened, model: Path, folder: Path) -> None:
    registry, _ = opened
    processes = [fork(register_three, folder, model) for _ in range(2)]
    for process in processes:
        process.join(WAIT_S)
        assert process.exitcode == 0
    versions = registry.versions("XAGUSD")
    assert [version.number for version in versions] == [1, 2, 3, 4, 5, 6]
    assert len({version.source for version in versions}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9, 1.2, 1.5])
def test_a_registry_whose_making_is_killed_can_be_made(tmp_path: Path, after_s: float) -> None:
    process = fork(open_registry, tmp_path)
    time.sleep(after_s)
    process.kill()
    process.join(WAIT_S)
    registry, ledger = open_registry(tmp_path)
    assert registry.names() == []
    ledger.close()


# Registries that do not answer


def test_a_server_that_is_away_is_said_in_one_sentence_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        registry, ledger = open_registry(tmp_path, f"http://me:secret@127.0.0.1:{held.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(RegistryError, match=r"an answer from the registry at http://\*\*\*@127") as raised:
            registry.champion("XAGUSD")
    assert time.monotonic() - begun < 10
    assert "secret" not in str(raised.value)
    ledger.close()


def test_a_file_that_is_no_database_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 9)
    with pytest.raises(RegistryError, match=r"mlflow\.db, got: .*file is not a database"):
        MlflowStore(f"sqlite:///{tmp_path}/mlflow.db")


# The command


def ask(registry: Registry, action: str, **options: Any) -> str:
    nothing: dict[str, Any] = {"version": None, "alias": "champion", "at": None, "to": None, "reason": None}
    return answer(registry, Request(**{"action": action, "name": "XAGUSD"} | nothing | options))


def test_list_shows_each_version_in_a_row_and_other_names_after_it(registry: Registry, model: Path) -> None:
    register(registry, model, count=2)
    register(registry, model, "EURUSD")
    promote(registry, 2)
    headings, first, second, other, page = ask(registry, "list").splitlines()
    assert headings.split()[:3] == ["version", "created", "(UTC)"]
    assert first.split()[0::3] == ["1", "-", "2014-04-01", "+0.6"]
    assert second.split()[3:] == [
        "champion",
        "promote",
        "(experimental)",
        "2014-04-01",
        "7.006",
        "bps",
        "+0.6",
        "%",
        "(volatility)",
    ]
    assert other == "Also registered: EURUSD, champion none yet"
    assert page.endswith(", then http://127.0.0.1:5000/#/models/XAGUSD")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "sqlite:///outputs/registry/mlflow.db",
            "mlflow ui --backend-store-uri sqlite:///outputs/registry/mlflow.db, then "
            "http://127.0.0.1:5000/#/models/XAGUSD",
        ),
        ("https://me:secret@mlflow.example:8443/at/", "https://mlflow.example:8443/at/#/models/XAGUSD"),
        (
            "postgresql+psycopg://me:secret@db/mlflow",
            'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI", then http://127.0.0.1:5000/#/models/XAGUSD',
        ),
    ],
)
def test_the_page_of_the_versions_is_told_without_a_password(uri: str, said: str) -> None:
    assert describe_pages(uri, "XAGUSD") == f"MLflow's page of them: {said}"


def test_show_gives_provenance_scores_and_the_gates_reasons(registry: Registry, model: Path) -> None:
    register(registry, model)
    promote(registry, 1)
    text = ask(registry, "show")
    for words in ("XAGUSD, version 1", "c0ffee", "test hours", "7.006", "passed: 4321 origins", "open: skill over"):
        assert words in text


def test_promote_asks_for_a_version_and_a_reason(registry: Registry, model: Path) -> None:
    register(registry, model)
    with pytest.raises(ConfigError, match=r"version=… for action=promote"):
        ask(registry, "promote")
    with pytest.raises(ConfigError, match=r"reason=… for action=promote"):
        ask(registry, "promote", version=1)
    assert champion(registry) is None
    assert ask(registry, "promote", version=1, reason="by hand") == "The champion of XAGUSD is version 1."
    assert registry.history("XAGUSD", "champion")[0].reason == "by hand"


def test_rollback_says_where_it_went_and_history_who_and_why(registry: Registry, model: Path) -> None:
    register(registry, model, count=2)
    promote(registry, 1, 2)
    assert ask(registry, "rollback", reason="worse live") == "The champion of XAGUSD is version 1 again."
    last = ask(registry, "history").splitlines()[-1]
    assert last.split()[2:7] == ["champion", "2", "→", "1", "rollback"]
    assert last.endswith("worse live")
    assert "had no champion" in ask(registry, "history", at=NOON)


def test_export_copies_the_verified_model_into_a_new_folder(registry: Registry, model: Path, tmp_path: Path) -> None:
    register(registry, model)
    folder = tmp_path / "new" / "model"
    assert ask(registry, "export", version=1, to=str(folder)) == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "manifest.json",
        "network.onnx",
        "weights.safetensors",
    ]
    load_forecaster(folder)
    with pytest.raises(ConfigError, match="a new folder"):
        ask(registry, "export", version=1, to=str(folder))
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("action", "options", "words"),
    [
        ("delete", {}, "action=list, show, history, promote, rollback or export, got delete"),
        ("list", {"name": "EURUSD"}, "got EURUSD; there is XAGUSD"),
        ("show", {"version": 7}, r"among \[1\] .* got 7"),
        ("history", {"alias": "challenger"}, r"an alias among \[\], got challenger"),
        ("rollback", {}, r"an alias among \[\], got champion"),
        ("rollback", {"name": "EURUSD"}, "got EURUSD; there is XAGUSD"),
        ("rollback", {"alias": "challenger"}, "alias=champion for action=rollback, got challenger"),
        ("rollback", {"version": 1}, "no version for action=rollback, got version=1; .* action=show, promote, export"),
        ("promote", {"version": 1, "reason": " "}, "reason=… for action=promote, got none"),
        ("promote", {"version": 1, "reason": "r", "to": "x"}, "no to for action=promote, got to=x"),
        ("show", {"version": 10**20}, r"among \[1\] .* got 100000000000000000000"),
        ("export", {"version": 1}, "to=… for action=export"),
        ("export", {"version": 1, "to": ""}, "to=… for action=export"),
    ],
)
def test_a_mistake_on_the_command_line_moves_nothing(
    opened: Opened, model: Path, action: str, options: dict[str, Any], words: str
) -> None:
    registry, ledger = opened
    register(registry, model)
    with pytest.raises((RegistryError, ConfigError), match=words):
        ask(registry, action, **options)
    assert ledger.alias_changes("XAGUSD", "champion") == []


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_ts.registry", f"paths.outputs={folder}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=WAIT_S
    )


@pytest.mark.slow
def test_a_registry_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: Expected a registry at {tmp_path}/registry/mlflow.db, got none; ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_prints_results_alone_and_leaves_no_file(folder: Path, model: Path) -> None:
    home = folder / "registry"
    home.mkdir()
    for path in folder.glob("*.db"):
        path.rename(home / path.name)
    registry, ledger = open_registry(home)
    register(registry, model)
    ledger.close()
    done = run(folder)
    assert (done.returncode, done.stderr) == (0, "")
    head, row, page = done.stdout.splitlines()
    assert head.startswith("version") and row.startswith("1")
    assert page.startswith("MLflow's page of them: mlflow ui ")
    assert list(folder.iterdir()) == [home]


# A server


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    port = str(free_port())
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/kept"]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
        *store,
    ]
    with (folder / "server.log").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            wait_for(lambda: client.get("/health").is_success, 120, process=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)


@pytest.mark.slow
def test_a_server_keeps_versions_and_aliases_over_http(
    server: str, model: Path, folder: Path, hourly_bars: pl.DataFrame
) -> None:
    registry, ledger = open_registry(folder, server)
    register(registry, model, count=2)
    promote(registry, 1, 2)
    version = registry.version("XAGUSD", "champion")
    assert version.number == 2
    assert registry.read_gate(version) == GATE
    ours, theirs = load_forecaster(model).forecast(hourly_bars), registry.load(version).forecast(hourly_bars)
    np.testing.assert_array_equal(ours.q_HQ, theirs.q_HQ)
    assert registry.rollback("XAGUSD", actor="a test", reason="").number == 1
    with pytest.raises(RegistryError, match=r"among \[1, 2\] .* got best"):
        registry.version("XAGUSD", "best")
    (kept,) = folder.glob(f"kept/**/{Path(version.source).parents[1].name}/**/manifest.json")
    alter(kept)
    with pytest.raises(RegistryError, match="the files of version 2 of XAGUSD"):
        registry.load(version)
    ledger.close()
