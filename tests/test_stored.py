"""What all visitors share of the stores."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from test_configs import compose

from dashboard import stored
from dashboard.server import read_settings
from dashboard.stored import HOURS, MINUTES, Stored
from lstm_ts.bars import HOURLY_SCHEMA, PRICES
from lstm_ts.errors import NoRows
from lstm_ts.session import HOUR
from lstm_ts.store import BarStore


@pytest.fixture
def shared(tmp_path: Path) -> Stored:
    return Stored(read_settings(compose("dashboard", f"paths.data={tmp_path}"), tmp_path))


def store(folder: Path, symbol: str, rows: int) -> None:
    ts = pl.datetime_range(start := datetime(2015, 3, 3, tzinfo=UTC), start + (rows - 1) * HOUR, "1h", eager=True)
    bars = pl.DataFrame({"ts": ts} | {name: [1.0] * rows for name in HOURLY_SCHEMA if name != "ts"})
    with BarStore(folder / "processed" / symbol, HOURLY_SCHEMA).upsert("test hours") as staging:
        staging.add(bars.cast(HOURLY_SCHEMA))


def test_everybody_is_given_the_same_bars_until_the_store_changes(shared: Stored, tmp_path: Path) -> None:
    store(tmp_path, "XAGUSD", 3)
    bars = shared.bars("XAGUSD", HOURS)
    assert bars.columns == ["ts", *PRICES]
    assert shared.bars("XAGUSD", HOURS) is bars
    store(tmp_path, "XAGUSD", 4)
    assert shared.bars("XAGUSD", HOURS).height == 4


def test_bars_that_nobody_asked_for_lately_are_let_go(
    shared: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_an_empty_store_is_a_sentence(shared: Stored) -> None:
    assert shared.kinds("XAGUSD") == []
    assert shared.symbols() == ["XAGUSD"]
    with pytest.raises(NoRows, match=r"run python -m lstm_ts\.ingest"):
        shared.bars("XAGUSD", MINUTES)
