"""What may be a symbol, and that no other text reaches the disk."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import Command, list_group
from conftest import REAL_DATA
from omegaconf import OmegaConf

from lstm_ts import ingest, process
from lstm_ts.api.hourly_bars import synthetic_bars
from lstm_ts.cli import compose, entry_point
from lstm_ts.configuration.parts import CONF, choose_symbols, construct, read_symbols
from lstm_ts.errors import ConfigError
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import Symbol, check_name, check_symbol
from lstm_ts.market.zone_check import check_zone
from lstm_ts.registry import __main__ as registry
from lstm_ts.store.manifest import stores_in

CONFIGS = ["ingest", "process", "train", "retrain", "evaluate", "predict", "backtest", "registry", "pipeline"]
CONFIGS += ["serve", "dashboard"]
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


def test_a_symbol_is_checked_in_optimised_python_too() -> None:
    wrong = (
        "from lstm_ts import Session, Symbol; s = Session(calendar='NYSE', zone='UTC'); Symbol(name='A', session=s, "
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", f"{wrong}currency='', decimals=3)"], capture_output=True, text=True
    )
    assert "ConfigError: Expected a currency" in done.stderr


@pytest.mark.parametrize("path", sorted((Path(CONF) / "symbol").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_symbol_of_the_folder_has_hours_a_currency_and_a_contract(path: Path) -> None:
    symbol: Symbol = construct(compose("project", [f"symbol={path.stem}"]).symbol)
    assert symbol.name == path.stem
    assert symbol.session.next_hours(datetime(2026, 3, 2, 12, tzinfo=UTC), 30)
    assert symbol.currency == symbol.contract["currency"]
    assert 0 <= symbol.decimals <= 5


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL_DATA / "h1").is_dir(), reason=f"the real hours are not at {REAL_DATA}/h1")
@pytest.mark.parametrize(("name", "most"), [("XAGUSD", 0.001), ("XAUUSD", 0.001), ("NZDUSD", 0.002), ("UKOIL", 0.02)])
def test_the_sessions_of_a_symbol_explain_real_hours_of_it(name: str, most: float) -> None:
    """UKOIL's broker stops an hour before ICE on Fridays: that is most of its 2 %."""
    hours = pl.read_parquet(REAL_DATA / f"h1/{name.lower()}_h1_2018_2022.parquet").select("ts", bars=pl.lit(1))
    symbol: Symbol = construct(compose("project", [f"symbol={name}"]).symbol)
    assert check_zone(symbol.session, hours, max_mismatch=0.02).total < most


@pytest.mark.parametrize("config", CONFIGS)
def test_every_command_takes_a_symbol_by_its_name_alone(config: str) -> None:
    model = ["model=somewhere"] if config in ("evaluate", "predict") else []
    cfg = compose(config, [*model, "symbol=XAUUSD"])
    assert (cfg.symbol.name, cfg.symbol.session.calendar) == ("XAUUSD", "CMEGlobex_Gold")
    assert cfg.get("name", "XAUUSD") == "XAUUSD"
    with pytest.raises(ConfigError, match=r"Expected a symbol .*, got '\.\./x'"):
        compose(config, [*model, "symbol=../x"])
    with pytest.raises(ConfigError, match=r"Expected a symbol .*, got none"):
        compose(config, [*model, "symbol=null"])


def test_an_unknown_symbol_is_told_with_those_that_exist_and_how_to_add_it() -> None:
    said = (
        f"Expected symbol= with one of {list_group('symbol')}, got FOO; choose one of them, "
        "or make FOO one: copy conf/symbol/XAGUSD.yaml to FOO.yaml beside it, or to symbol/FOO.yaml in a folder of "
        "your own that --config-dir names, and change what differs"
    )
    with pytest.raises(ConfigError) as told:
        compose("train", ["symbol=FOO"])
    assert str(told.value) == said


@pytest.mark.parametrize("way", ["--config-dir={}", "hydra.searchpath=['file://{}']"])
def test_a_symbol_of_ones_own_is_one_file_and_may_be_a_number(
    way: str, own_conf: Path, tmp_path: Path, command: Command
) -> None:
    where = (f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", "source.end=2019-01-08")
    done = command(ingest.main, way.format(own_conf), "symbol=7203", *where)
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "data/raw/7203/manifest.json").read_text())
    assert (manifest["calendar"], manifest["zone"]) == ("JPX", "Asia/Tokyo")


def test_a_sweep_over_symbols_stores_each_in_its_own_sessions(own_conf: Path, tmp_path: Path, command: Command) -> None:
    where = (f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", "source.end=2019-01-08")
    searched = f"hydra.searchpath=['file://{own_conf}']"
    assert command(ingest.main, "-m", searched, "symbol=7203,XAUUSD", *where).code == 0
    calendars = {name: json.loads((tmp_path / f"data/raw/{name}/manifest.json").read_text())["calendar"]
                 for name in stores_in(tmp_path / "data/raw")}  # fmt: skip
    assert calendars == {"7203": "JPX", "XAUUSD": "CMEGlobex_Gold"}


def test_a_copied_file_that_kept_the_other_symbols_name_is_refused(
    own_conf: Path, tmp_path: Path, command: Command
) -> None:
    path = own_conf / "symbol/7203.yaml"
    path.write_text(path.read_text().replace("name: 7203", "name: XAGUSD"))
    said = command(ingest.main, f"--config-dir={own_conf}", "symbol=7203", f"paths.data={tmp_path}/data").mistake
    assert said == "Expected name: 7203 in the file 7203.yaml of symbol=7203, got XAGUSD; correct it"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("session.calendar=NYSE", "did you mean symbol.session.calendar=CMEGlobex_Silver (conf/symbol/XAGUSD.yaml)?"),
        ("session.zone=UTC", "did you mean symbol.session.zone=America/New_York (conf/symbol/XAGUSD.yaml)?"),
        ("session=silver", "did you mean symbol.session.calendar=CMEGlobex_Silver"),
        ("source.contract.exchange=LME", "did you mean symbol.contract.exchange=SMART"),
        ("source=files source.paths=bars/${symbol}/*.csv", "Expected ${symbol.name} for the symbol's name"),
    ],
)
def test_a_key_of_before_symbols_had_files_is_told_with_the_one_that_took_its_place(old: str, new: str) -> None:
    with pytest.raises(ConfigError) as told:
        compose("ingest", old.split())
    assert new in str(told.value)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("symbol=XAGUSD,XAUUSD", "Expected one symbol, got symbol=XAGUSD,XAUUSD; add -m to run once with each"),
        ("+symbol=XAUUSD", "without the +"),
        ("~symbol", f"Expected symbol= with one of {list_group('symbol')}"),
        ("symbol.name=FOO", "Expected name: XAGUSD in the file XAGUSD.yaml"),
        ("symbol.currency=usd", "Expected a currency in capital letters"),
        ("symbol.decimals=-1", "Expected decimals within 0..12, got -1"),
        ("symbol.session.zone=Mars/Base", "Mars/Base"),
    ],
)
def test_what_no_symbol_can_be_is_told(typed: str, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        compose("process", [typed])
    assert words in str(told.value)


def test_a_run_remembers_all_of_its_symbol(tmp_path: Path, command: Command) -> None:
    command(
        ingest.main,
        "symbol=XAUUSD",
        f"paths.data={tmp_path}/data",
        f"paths.outputs={tmp_path}",
        "source.end=2019-01-03",
    )
    (path,) = tmp_path.glob("ingest/*/*/.hydra/config.yaml")
    assert OmegaConf.load(path).symbol.session.calendar == "CMEGlobex_Gold"


def test_all_symbols_with_a_file_are_read_once_those_of_ones_own_folder_too(
    own_conf: Path, tmp_path: Path, command: Command
) -> None:
    known: list[dict[str, Symbol]] = []
    main = entry_point("process")(lambda cfg: known.append(read_symbols(cfg)))
    spy, tokyo = own_conf / "symbol/SPY.yaml", own_conf / "symbol/7203.yaml"
    spy.write_text((Path(CONF) / "symbol/SPY.yaml").read_text().replace("NYSE", "LSE"))
    where = (f"--config-dir={own_conf}", f"paths.outputs={tmp_path}")
    assert command(main, *where, "symbol=XAUUSD", "symbol.session.zone=UTC").code == 0
    (symbols,) = known
    assert ", ".join(sorted(symbols)) == f"7203, {list_group('symbol')}"
    assert all(name == symbol.name for name, symbol in symbols.items())
    assert symbols["SPY"].session.calendar == "NYSE"  # as Hydra chooses, where two folders have one
    assert symbols["XAUUSD"].session.zone == "UTC"  # as the command line says
    tokyo.write_text("name: [1")
    assert f"Expected YAML in {tokyo}, got in line 1: while parsing" in command(main, *where).mistake
    assert command(entry_point("train")(choose_symbols), *where, "symbols=[SPY]").code == 0
    tokyo.write_text((Path(CONF) / "symbol/SPY.yaml").read_text().replace("name: SPY", "name: XAGUSD"))
    said = command(main, *where).mistake
    assert said == "Expected name: 7203 in the file 7203.yaml of symbol=7203, got XAGUSD; correct it"


def test_symbols_can_be_compared_and_kept_in_sets() -> None:
    session = Session(calendar="NYSE", zone="America/New_York")
    made = [Symbol(name="SPY", session=session, currency="USD", decimals=2, contract={}, feed_code=None) for _ in "ab"]
    assert len(set(made)) == 1


@pytest.mark.parametrize("session", [None, "JPX"])
def test_a_symbol_needs_a_session_and_a_session_a_calendar(session: Any) -> None:
    with pytest.raises(ConfigError, match=r"Expected session=Session\(calendar=…, zone=…\), got"):
        Symbol(name="SPY", session=session, currency="USD", decimals=2)
    with pytest.raises(ConfigError, match=r"Expected a calendar's name such as NYSE, got .*=None"):
        Session(calendar=None, zone="UTC")  # type: ignore[arg-type]
    own = Symbol(name="SPY", session=Session(calendar="NYSE", zone="UTC"), currency="USD", decimals=2)
    with pytest.raises(ConfigError, match="Expected a name of conf/symbol such as XAGUSD, got a Symbol"):
        synthetic_bars(own)  # type: ignore[arg-type]


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
