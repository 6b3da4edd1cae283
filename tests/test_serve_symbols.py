"""Symbols of different sessions in one service."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from processes import wait_for
from serving import Server, make_bars, registry_of, running, save_model
from test_registry import register

from lstm_ts import http_schema
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.store.bar_store import BarStore

SPY = Session(calendar="NYSE", zone="America/New_York")
BITCOIN = Session(calendar="24/7", zone="UTC")


def hours_of(session: Session, hourly_bars: pl.DataFrame) -> pl.DataFrame:
    """The same prices, in the latest hours of another session."""
    now = datetime.now(UTC)
    count = hourly_bars.height
    hours = session.hours(now - timedelta(days=count), now - timedelta(hours=1)).tail(count)["ts"]
    return hourly_bars.tail(len(hours)).with_columns(ts=hours)


@pytest.fixture(scope="module")
def models(hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    sessions = {"XAGUSD": silver, "SPY": SPY, "BTCUSD": BITCOIN}
    return {
        symbol: save_model(folder / symbol, hours_of(session, hourly_bars), session, seed=seed, symbol=symbol)
        for seed, (symbol, session) in enumerate(sessions.items())
    }


@pytest.fixture(scope="module")
def folder(
    empty: Path, models: dict[str, Path], hourly_bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Stores of XAGUSD and SPY, and a champion of each."""
    folder = shutil.copytree(empty, tmp_path_factory.mktemp("symbols"), dirs_exist_ok=True)
    for symbol in ("XAGUSD", "SPY"):
        session = load_forecaster(models[symbol]).session
        with BarStore(folder / "data/processed" / symbol, HOURLY_SCHEMA).upsert("test hours", session) as staging:
            staging.add(hours_of(session, hourly_bars))
        crown(folder, models, symbol)
    return folder


def crown(folder: Path, models: dict[str, Path], symbol: str) -> None:
    with registry_of(folder) as registry:
        register(registry, models[symbol], symbol)
        registry.promote(symbol, 1, alias="champion", actor="a test", reason="the first")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Of a symbol more than there are models."""
    with running(Server(folder, "symbols=[XAGUSD,SPY,BTCUSD]")) as server:
        wait_for(lambda: [worker.model is not None for worker in server.health().workers] == [True, True, False])
        yield server


@pytest.mark.parametrize("symbol", ["XAGUSD", "SPY"])
def test_each_symbol_is_answered_by_its_own_model_in_its_own_sessions(
    server: Server, models: dict[str, Path], symbol: str
) -> None:
    model = load_forecaster(models[symbol])
    bars = make_bars(model.session)
    response = server.predict({"bars": bars, "symbol": symbol})
    reply = http_schema.ForecastReply.model_validate_json(response.raise_for_status().content)
    assert (reply.symbol, reply.model.name, reply.currency) == (symbol, symbol, "USD")
    last = datetime.fromisoformat(bars[-1]["ts"])
    hours = model.session.next_hours(last, len(reply.path))
    assert [step.target_ts for step in reply.path] == [ts + timedelta(hours=1) for ts in hours]
    counted = f'lstm_ts_requests_total{{arm="champion",route="/predict",status="200",symbol="{symbol}",version="1"}}'
    assert server.metric(counted) == 1


@pytest.mark.parametrize("symbol", ["XAGUSD", "SPY"])
def test_each_symbol_is_forecast_from_its_own_store(server: Server, folder: Path, symbol: str) -> None:
    response = server.client.get("/forecast", params={"symbol": symbol})
    reply = http_schema.ForecastReply.model_validate_json(response.raise_for_status().content)
    last = BarStore(folder / "data/processed" / symbol, HOURLY_SCHEMA).read()["ts"][-1]
    assert (reply.model.name, reply.origin_ts) == (symbol, last + timedelta(hours=1))


def test_what_a_symbol_needs_is_told_and_without_a_name_it_is_the_first_ones(server: Server) -> None:
    def info(**params: str) -> http_schema.Info:
        return http_schema.Info.model_validate_json(
            server.client.get("/info", params=params).raise_for_status().content
        )

    spy, first, bitcoin = info(symbol="SPY"), info(), info(symbol="BTCUSD")
    assert spy.symbols == ["XAGUSD", "SPY", "BTCUSD"]
    assert spy.input and (spy.input.symbol, spy.input.calendar) == ("SPY", "NYSE")
    assert first.input and first.input.symbol == "XAGUSD"
    assert bitcoin.input is None


def test_a_symbol_that_is_not_served_is_told_with_those_that_are(server: Server) -> None:
    said = "Expected a symbol that is served here, XAGUSD, SPY, BTCUSD, got 'EURUSD'; ask for one of those"
    bars = make_bars(SPY)
    assert server.problems({"symbol": "EURUSD", "bars": bars})["symbol"] == said
    for path in ("/forecast", "/info"):
        response = server.client.get(path, params={"symbol": "EURUSD"})
        assert response.status_code == 422
        assert http_schema.Problems.model_validate_json(response.content).problems[0].problem == said
    for body in (b"{", b"[]", b'{"symbol": ["SPY"], "bars": []}', b'{"bars": []}'):
        assert server.predict(body).status_code == 422


def test_a_symbol_without_a_model_waits_for_one_while_others_are_answered(
    server: Server, folder: Path, models: dict[str, Path]
) -> None:
    health = server.health()
    assert [worker.symbol for worker in health.workers] == ["XAGUSD", "SPY", "BTCUSD"]
    missing = "Expected a champion of BTCUSD, got none yet; python -m lstm_ts.retrain symbol=BTCUSD makes one"
    assert (health.ready, health.reason) == (False, missing)
    refused = server.predict({"symbol": "BTCUSD", "bars": make_bars(BITCOIN)})
    assert refused.status_code == 503 and "a champion of BTCUSD" in refused.text
    assert server.predict({"symbol": "SPY", "bars": make_bars(SPY)}).status_code == 200
    crown(folder, models, "BTCUSD")
    wait_for(lambda: server.health().ready)
    assert server.predict({"symbol": "BTCUSD", "bars": make_bars(BITCOIN)}).status_code == 200
    loaded = [server.metric(f'lstm_ts_loaded_workers{{alias="champion",name="{name}"') for name in models]
    assert loaded == [1, 1, 1]
