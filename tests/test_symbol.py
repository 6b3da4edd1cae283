"""What may be a symbol, and that no other text reaches the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

from lstm_ts import ingest, process, registry
from lstm_ts.cli import compose
from lstm_ts.errors import ConfigError
from lstm_ts.manifest import stores_in
from lstm_ts.symbol import check_name, check_symbol

REFUSED = ["", " ", ".", "..", "../x", "../../x", "/abs", "a/b", "a\\b", "a b", "XAGUSD\n", "X\0", "é", "-x", "_x"]


@pytest.mark.parametrize("symbol", ["XAGUSD", "BRK.B", "EUR-USD", "ES_F", "US30.cash", "7203", "x", "A" * 32])
def test_symbols_as_brokers_write_them_are_taken(symbol: str) -> None:
    assert check_symbol(symbol) == symbol


@pytest.mark.parametrize("value", [*REFUSED, "A" * 33, None, True, 1.5, ["XAGUSD"]])
def test_other_values_are_refused_in_one_line(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"^Expected a symbol of 1 to 32 characters .*; set symbol to one such"
    ) as told:
        check_symbol(value)
    assert "\n" not in str(told.value)


def test_a_refused_value_is_shown_in_part() -> None:
    with pytest.raises(ConfigError, match=r"got 'A{59}…; set"):
        check_symbol("A" * 10_000)


def test_a_number_is_the_text_it_was_typed_as() -> None:
    assert check_symbol(7203) == "7203"
    assert check_name(7203) == "7203"


def test_a_name_may_be_longer_than_a_symbol() -> None:
    assert check_name("XAGUSD-24h." + "x" * 53) == "XAGUSD-24h." + "x" * 53
    for name in (*REFUSED, "x" * 65, None):
        with pytest.raises(ConfigError, match=r"^Expected a name of 1 to 64 characters"):
            check_name(name)


@pytest.mark.parametrize(
    "config", ["ingest", "process", "retrain", "evaluate", "predict", "backtest", "dashboard", "serve"]
)
def test_every_configuration_checks_its_symbol(config: str) -> None:
    model = ["model=somewhere"] if config in ("evaluate", "predict") else []
    assert compose(config, [*model, "symbol=7203"]).symbol == "7203"
    with pytest.raises(ConfigError, match=r"Expected a symbol .*, got '\.\./x'"):
        compose(config, [*model, "symbol=../x"])
    with pytest.raises(ConfigError, match="Expected text for symbol, got symbol=null"):
        compose(config, [*model, "symbol=null"])


@pytest.mark.parametrize("config", ["registry", "retrain", "dashboard", "serve"])
def test_every_configuration_checks_its_name(config: str) -> None:
    assert compose(config, ["name=7203"]).name == "7203"
    with pytest.raises(ConfigError, match=r"Expected a name .*, got '\.\./x'"):
        compose(config, ["name=../x"])


@pytest.mark.parametrize("path", ["paths.data=", "paths.outputs=null"])
def test_a_folder_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=f"^Expected (a folder|text) for {path.split('=')[0]}, got "):
        compose("ingest", [path])


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (ingest.main, ("symbol=../../x",)),
        (process.main, ("symbol=a/b",)),
        (registry.main, ("name=../x", "action=list")),
        (ingest.main, ("-m", "symbol=../x", "source.seed=1,2")),
    ],
)
def test_a_refused_symbol_leaves_no_folder(
    main: Callable[[], None],
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert command(main, *arguments).mistake.startswith("Expected a ")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a", "a/b"]


def test_a_folder_that_no_symbol_names_is_no_store(tmp_path: Path) -> None:
    for name in ("XAGUSD", "a copy of XAGUSD", ".trash"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    assert stores_in(tmp_path) == ["XAGUSD"]
