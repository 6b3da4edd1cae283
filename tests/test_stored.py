"""What all visitors share of the stores."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from test_configs import compose

from dashboard.data import bar_cache as stored
from dashboard.data.bar_cache import HOURS, MINUTES, BarCache
from dashboard.server import read_settings
from lstm_ts.errors import NoRows
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA, PRICES
from lstm_ts.market.completeness import State
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import HOUR, Session
from lstm_ts.store.bar_store import BarStore


@pytest.fixture
def shared(tmp_path: Path) -> BarCache:
    return BarCache(read_settings(compose("dashboard", f"paths.data={tmp_path}"), tmp_path))


def store(folder: Path, symbol: str, rows: int) -> None:
    ts = pl.datetime_range(start := datetime(2015, 3, 3, tzinfo=UTC), start + (rows - 1) * HOUR, "1h", eager=True)
    bars = pl.DataFrame({"ts": ts} | {name: [1.0] * rows for name in HOURLY_SCHEMA if name != "ts"})
    with BarStore(folder / "processed" / symbol, HOURLY_SCHEMA).upsert("test hours") as staging:
        staging.add(bars.cast(HOURLY_SCHEMA))


def test_everybody_is_given_the_same_bars_until_the_store_changes(shared: BarCache, tmp_path: Path) -> None:
    store(tmp_path, "XAGUSD", 3)
    bars = shared.bars("XAGUSD", HOURS)
    assert bars.bars.columns == ["ts", *PRICES, "volume", "spread", "day"]
    assert shared.bars("XAGUSD", HOURS) is bars
    store(tmp_path, "XAGUSD", 4)
    assert shared.bars("XAGUSD", HOURS).bars.height == 4


def test_bars_that_nobody_asked_for_lately_are_let_go(
    shared: BarCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "HELD_ROWS", 5)
    for symbol in ("XAGUSD", "XAUUSD"):
        store(tmp_path, symbol, 2)
    silver, gold = shared.bars("XAGUSD", HOURS), shared.bars("XAUUSD", HOURS)
    assert shared.bars("XAGUSD", HOURS) is silver
    store(tmp_path, "XPTUSD", 3)
    shared.bars("XPTUSD", HOURS)
    assert shared.bars("XAUUSD", HOURS) is not gold
    assert shared.symbols() == ["XAGUSD", "XAUUSD", "XPTUSD"]


def minutes(folder: Path, symbol: str, session: Session) -> None:
    """Of Tuesday 3 March 2015, all that the session has of it."""
    day = datetime(2015, 3, 3, tzinfo=UTC)
    ts = pl.concat(
        pl.datetime_range(opens, closes, "1m", closed="left", eager=True)
        for opens, closes in session.spans(day, day + 24 * HOUR).iter_rows()
    )
    bars = pl.DataFrame({"ts": ts} | {name: [1.0] * len(ts) for name in BAR_SCHEMA if name != "ts"})
    with BarStore(folder / "raw" / symbol, BAR_SCHEMA).upsert("test minutes", session) as staging:
        staging.add(bars.cast(BAR_SCHEMA))


def test_each_symbol_is_known_by_the_sessions_it_was_stored_with(tmp_path: Path) -> None:
    overrides = (f"paths.data={tmp_path}", f"registry.ledger=sqlite:///{tmp_path}/ledger.db")
    Ledger(f"sqlite:///{tmp_path}/ledger.db").close()
    settings = read_settings(compose("dashboard", *overrides), tmp_path)
    spy, tokyo = settings.symbols["SPY"].session, Session(calendar="JPX", zone="Asia/Tokyo")
    minutes(tmp_path, "SPY", spy)
    minutes(tmp_path, "7203", tokyo)  # of a folder that this dashboard knows nothing of
    minutes(tmp_path, "XAGUSD", Session(calendar="24/7", zone="UTC"))  # as someone wanted it
    shared = BarCache(settings)
    assert shared.symbols() == ["XAGUSD", "7203", "SPY"]
    known = {symbol: shared.known(symbol) for symbol in shared.symbols()}
    assert {symbol: int(status.status.coverage[State.PRESENT].sum()) for symbol, status in known.items()} == {
        "XAGUSD": 1440, "7203": 300, "SPY": 390,
    }  # fmt: skip
    assert all(status.unknown.is_empty() for status in known.values())


def test_a_symbol_has_the_sessions_and_the_quote_of_its_file(tmp_path: Path, own_conf: Path) -> None:
    settings = read_settings(compose("dashboard", f"paths.data={tmp_path}", "symbol=BTCUSD"), tmp_path)
    assert settings.session_of("BTCUSD").calendar == "24/7"
    assert settings.session_of("SPY").calendar == "NYSE"
    assert settings.session_of("7203").calendar == "24/7"  # without a store and a file: the first symbol's
    assert (settings.quote_of("EURUSD"), settings.quote_of("EURGBP")) == (Quote("USD", 5), Quote("GBP", 2))
    assert settings.quote_of("7203") is None
    searched = f"hydra.searchpath=['file://{own_conf}']"
    own = read_settings(compose("dashboard", searched, "symbol.session.zone=UTC"), tmp_path)
    assert own.session_of("XAGUSD").zone == "UTC"  # as the command line says


def test_an_empty_store_is_a_sentence(shared: BarCache) -> None:
    assert shared.kinds("XAGUSD") == []
    assert shared.symbols() == ["XAGUSD"]
    with pytest.raises(NoRows, match=r"run python -m lstm_ts\.ingest"):
        shared.bars("XAGUSD", MINUTES)
