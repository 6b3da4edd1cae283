"""Real servers on free loopback ports, with a real registry and models of a few weights."""

import gc
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import polars as pl
import pytest
from hydra.core.hydra_config import HydraConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from processes import WAIT_S, free_port, wait_for
from serving import (
    HORIZON,
    MAX_MISSING,
    TSTEPS,
    Body,
    Server,
    frame,
    make_servable,
    move_ledger,
    registry_of,
    running,
    save_model,
)
from test_configs import compose
from test_registry import alter, files_of, promote, register

from lstm_ts import http_schema
from lstm_ts.cli import compose as checked
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError, RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.model.flags import Flags
from lstm_ts.model.forecaster import Forecast, Forecaster
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.manifest import MANIFEST
from serve.api import ForecastApi
from serve.app import listen
from serve.keys import Keys
from serve.ledger.reader import LedgerAddress
from serve.loop import answer_by_arm, warm_up
from serve.metrics import PARTS
from serve.registry_process import SOCKET, RegistryProcess, RemoteRegistry, lacks_challenger
from serve.registry_watcher import AliasState, LoadedModels, LoadedVersion
from serve.settings import SymbolSettings, WorkerRequest
from serve.startup import check, check_challenger, read_settings
from serve.stored_bars import StoredBars
from serve.traffic import Arm

KEYS = ("correct-horse", "battery-staple")
NEW_YORK = ZoneInfo("America/New_York")
FLAGS = Flags(stale_hours=2, missing_share=0.1, volatility=(0.25, 4.0))


@pytest.fixture(scope="module")
def folder(
    empty: Path,
    models: list[Path],
    hourly_bars: pl.DataFrame,
    silver: Session,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two versions, the first of them champion, and a store of bars."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "keys").write_text("from-a-file\n")
    return make_servable(folder, empty, hourly_bars, silver, *models, source="synthetic test hours")


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[Server]:
    """Two workers."""
    options = ("workers_per_device=2", f"api_keys.file={folder}/keys")
    with running(Server(folder, *options, keys=",".join(KEYS))) as server:
        wait_for(lambda: server.health().ready)
        yield server


@pytest.fixture
def server(started: Server, folder: Path) -> Server:
    """With version 1 as champion, whatever the test before did."""
    with registry_of(folder) as registry:
        promote(registry, 1)
    wait_for(lambda: started.health().ready)
    started.reload()
    return started


# What is answered


def forecast_beside(stored: pl.DataFrame, model: Path, bars: pl.DataFrame) -> Forecast:
    """What a model says of a window, its profile as the stored bars have changed it."""
    forecaster = load_forecaster(model)
    return forecaster.forecast(bars, forecaster.season_states(forecaster.grid(stored)))


@pytest.mark.parametrize("count", [TSTEPS, 60])
def test_the_reply_is_the_forecasters(
    server: Server, models: list[Path], now_bars: list[Body], hourly_bars: pl.DataFrame, count: int
) -> None:
    reply = server.ask(now_bars[-count:])
    ours = forecast_beside(hourly_bars, models[0], frame(now_bars))
    assert reply.season_day == ours.season_day == hourly_bars["ts"][-1] + HOUR
    assert [step.target_ts for step in reply.path] == ours.target_ts_H
    prices = [[step.lower_80, step.price, step.upper_80] for step in reply.path]
    np.testing.assert_allclose(prices, ours.price_HL(0.1, 0.5, 0.9), rtol=1e-6)
    np.testing.assert_allclose([list(step.quantiles.values()) for step in reply.path], prices)
    assert {step.persistence for step in reply.path} == {reply.last_close} == {now_bars[-1]["close"]}
    assert reply.origin_ts == ours.origin_ts
    assert reply.predicted_price == reply.path[-1].price
    assert (reply.currency, reply.decimals) == ("USD", 3)
    assert (reply.model.name, reply.model.version, reply.model.alias) == ("XAGUSD", 1, "champion")
    assert (reply.arm, reply.skill) == ("champion", None)


def test_age_hash_and_id_are_told(server: Server, models: list[Path], now_bars: list[Body]) -> None:
    response = server.predict({"symbol": "XAGUSD", "bars": now_bars})
    reply = http_schema.ForecastReply.model_validate_json(response.content)
    assert reply.request_id == response.headers["X-Request-ID"]
    age_s = (datetime.now(UTC) - reply.origin_ts).total_seconds()
    assert reply.data_age_s == pytest.approx(age_s, abs=30)
    summed = subprocess.check_output(["sha256sum", models[0] / "SHA256SUMS"], timeout=60)
    assert reply.model.artifact_sha256 == summed.decode()[:64]
    assert reply.model.trained_until == "2014-04-01T00:00:00+00:00"


def test_offsets_whole_numbers_and_volume_are_accepted(server: Server, now_bars: list[Body]) -> None:
    local = [
        bar | {"ts": datetime.fromisoformat(bar["ts"]).astimezone(NEW_YORK).isoformat(), "volume": 3, "spread": 0.02}
        for bar in now_bars
    ]
    assert server.ask(local).path == server.ask(now_bars).path
    flat = [bar | dict.fromkeys(("open", "high", "low", "close"), 20) for bar in now_bars]
    assert server.ask(flat).last_close == 20


def test_the_latest_bars_of_the_store_are_forecast(
    server: Server, models: list[Path], hourly_bars: pl.DataFrame
) -> None:
    response = server.client.get("/forecast", params={"symbol": "XAGUSD"})
    reply = http_schema.ForecastReply.model_validate_json(response.raise_for_status().content)
    ours = forecast_beside(hourly_bars, models[0], hourly_bars)
    np.testing.assert_allclose([step.price for step in reply.path], ours.price_HL(0.5)[:, 0], rtol=1e-6)
    days = (datetime.now(UTC) - ours.origin_ts).days
    assert f"stale input: the last bar is {days} days old" in reply.flags


def test_flags_say_what_is_unusual(server: Server, now_bars: list[Body]) -> None:
    gappy = now_bars[:-10] + now_bars[-7:]
    assert "unusually many missing hours: 3 of the window's 24" in server.ask(gappy).flags
    assert "missing hours: 1 of the window's 24" in server.ask(now_bars[:-5] + now_bars[-4:]).flags
    wild = [bar | {"high": bar["high"] * 1.1} for bar in now_bars]
    assert any(flag.startswith("out of the training range: the window is ") for flag in server.ask(wild).flags)
    assert any(flag.startswith("stale input: 3 session hours") for flag in server.ask(now_bars[:-3]).flags)
    for factor, words in ((100, "times as much as their highest"), (0.01, "times as little as their lowest")):
        moved = [bar | {name: bar[name] * factor for name in ("open", "high", "low", "close")} for bar in now_bars]
        (flag,) = (flag for flag in server.ask(moved).flags if "level" in flag)
        assert flag.startswith("another price level than that of the training hours: a close of ") and words in flag
    assert not any("level" in flag for flag in server.ask(now_bars).flags)


CHANGES: dict[str, tuple[Callable[[list[Body]], object], str, str]] = {
    "high below low": (lambda bars: bars[3].update(high=1.0), "bars[3].high", "high at or above low"),
    "open outside": (lambda bars: bars[3].update(open=99.0), "bars[3].open", "open within low and high"),
    "close outside": (lambda bars: bars[3].update(close=1.0), "bars[3].close", "close within low and high"),
    "zero": (lambda bars: bars[3].update(low=0), "bars[3].low", "a positive price"),
    "negative": (lambda bars: bars[3].update(low=-1.5), "bars[3].low", "a positive price"),
    "not a number": (lambda bars: bars[3].update(close=float("nan")), "bars[3].close", "a positive price"),
    "infinite": (lambda bars: bars[3].update(high=float("inf")), "bars[3].high", "a positive price"),
    "beyond a float": (lambda bars: bars[3].update(high=10**400), "bars[3].high", "Expected a"),
    "text": (lambda bars: bars[3].update(high="20"), "bars[3].high", "Expected a number, got '20'"),
    "truth": (lambda bars: bars[3].update(high=True), "bars[3].high", "Expected a number, got True"),
    "no close": (lambda bars: bars[3].pop("close"), "bars[3].close", "a value for close, got none"),
    "a fifth price": (lambda bars: bars[3].update(mid=20.0), "bars[3].mid", "only ts, open, high, low, close, volume"),
    "negative volume": (lambda bars: bars[3].update(volume=-1), "bars[3].volume", "volume of 0 or more"),
    "negative spread": (lambda bars: bars[3].update(spread=-1), "bars[3].spread", "spread of 0 or more"),
    "no bar": (lambda bars: bars.__setitem__(3, 7), "bars[3]", "Expected a bar with ts, open"),  # type: ignore[call-overload]
    "naive": (lambda bars: bars[3].update(ts=bars[3]["ts"][:-1]), "bars[3].ts", "a time with its offset"),
    "no time": (lambda bars: bars[3].update(ts="soon"), "bars[3].ts", "an ISO 8601 time"),
    "a number for a time": (lambda bars: bars[3].update(ts=1767225600), "bars[3].ts", "an ISO 8601 time"),
    "long ago": (lambda bars: bars[0].update(ts="1820-01-01T00:00:00Z"), "bars[0].ts", "from 1980 on"),
    "not ascending": (lambda bars: bars.insert(4, bars.pop(3)), "bars[4].ts", "ascending hours"),
    "twice": (lambda bars: bars.insert(4, bars[3]), "bars[4].ts", "each hour once"),
    "half past": (lambda bars: bars[3].update(ts=bars[3]["ts"].replace(":00:00", ":30:00")), "bars[3].ts", "full hour"),
    "half a second": (lambda bars: bars[3].update(ts=bars[3]["ts"].replace("Z", ".5Z")), "bars[3].ts", "00.500000Z;"),
    "the end of time": (lambda bars: bars[59].update(ts="9999-12-31T23:00:00Z"), "bars[59].ts", "closed hours, got"),
    "closed": (lambda bars: bars.insert(0, bars[0] | {"ts": saturday(bars)}), "bars[0].ts", "an open hour of"),
    "unclosed": (lambda bars: bars.append(bars[-1] | {"ts": this_hour()}), "bars[60].ts", "closed hours, got"),
    "years apart": (lambda bars: bars.insert(0, bars[0] | {"ts": "2015-01-05T10:00:00Z"}), "bars[0].ts", "366 days"),
    "too few": (lambda bars: bars.__delitem__(slice(0, 50)), "bars", "at least 24 session hours for one window, got 1"),
    "none": (list.clear, "bars", "at least 24 session hours for one window, got 0"),
    "too many missing": (lambda bars: bars.__delitem__(slice(-20, -10)), "bars", "at most 6 of the last 24"),
}  # fmt: skip


def saturday(bars: list[Body]) -> str:
    ts = datetime.fromisoformat(bars[0]["ts"])
    return (ts - timedelta(days=(ts.weekday() - 5) % 7 or 7)).strftime("%Y-%m-%dT12:00:00Z")


def this_hour() -> str:
    return (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:00:00Z")


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_field_is_named_in_one_sentence(started: Server, now_bars: list[Body], change: str) -> None:
    alteration, path, words = CHANGES[change]
    bars = [dict(bar) for bar in now_bars]
    alteration(bars)
    problems = started.problems({"symbol": "XAGUSD", "bars": bars})
    assert list(problems) == [path]
    assert words in problems[path]


def test_every_problem_is_listed_in_order(started: Server, now_bars: list[Body]) -> None:
    bars = [dict(bar) for bar in now_bars]
    bars[1] |= {"ts": "soon", "open": -1}
    bars[2] |= {"ts": "soon", "high": 1.0}
    bars[5] |= {"high": 1.0}
    bars[7] |= {"ts": bars[6]["ts"], "close": 999.0}
    problems = started.problems({"symbol": "XAUUSD", "bars": bars, "tsteps": 24})
    paths = ["symbol", "tsteps", "bars[1].ts", "bars[1].open", "bars[2].ts", "bars[2].high", "bars[5].high"]
    paths += ["bars[7].close", "bars[7].ts"]
    assert list(problems) == paths
    assert problems["symbol"] == "Expected a symbol that is served here, XAGUSD, got 'XAUUSD'; ask for that one"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", "body"), (b"{", "body"), (b"\xff\xfe", "body"), (b"[" * 5000, "body"), (b'"\\ud800"', "body"),
        (b"null", "body"), (b"[]", "body"), (b"{}", "symbol"), (b'{"symbol": "XAGUSD"}', "bars"),
        (b'{"symbol": "XAGUSD", "bars": {"0": 1}}', "bars"), (b'{"symbol": ["XAGUSD"], "bars": []}', "symbol"),
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused(started: Server, body: bytes, path: str) -> None:
    assert path in started.problems(body)


def test_prices_beyond_any_market_are_refused_and_not_an_error(started: Server, now_bars: list[Body]) -> None:
    jumps = [
        bar | {"open": 1e-6, "low": 1e-6, "high": 1e9, "close": 1e9 if number % 2 else 1e-6}
        for number, bar in enumerate(now_bars)
    ]
    assert started.predict({"symbol": "XAGUSD", "bars": jumps}).status_code in (200, 422)


@pytest.mark.parametrize("rows", ["{}", "1", '{"ts":"2026-01-05T14:00:00Z"}', '{"x":[[]]}'])
def test_problems_beyond_a_hundred_are_not_told(started: Server, rows: str) -> None:
    """A small body would have a large reply, and keep a worker for seconds."""
    count = 19_000 // (len(rows) + 1)
    bodies = [f'{{"symbol":"XAGUSD","bars":[{",".join([rows] * count)}]}}']
    bodies.append(json.dumps({"symbol": "XAGUSD", "bars": [], **dict.fromkeys(map(str, range(1000)))}))
    for body in bodies:
        response = started.predict(body.encode())
        assert response.status_code == 422
        problems = http_schema.Problems.model_validate_json(response.content).problems
        assert len(problems) == 101
        assert (problems[-1].path, problems[-1].problem[:33]) == ("body", "Expected fewer than 100 problems,")


@pytest.mark.parametrize("query", ["symbol=XAGUSD&symbol=XAGUSD", "symbol=XAGUSD&arm=challenger"])
@pytest.mark.parametrize("path", ["/forecast", "/info"])
def test_a_query_holds_a_symbol_and_nothing_else(started: Server, path: str, query: str) -> None:
    answer = started.client.get(f"{path}?{query}")
    assert answer.status_code == 422
    (problem,) = http_schema.Problems.model_validate_json(answer.content).problems
    assert problem.problem.startswith("Expected symbol once in the query, got 'symbol, ")


def test_a_path_with_a_slash_at_its_end_is_no_redirect(started: Server) -> None:
    assert started.client.get("/forecast/?symbol=XAGUSD", headers={"Host": "evil.example"}).status_code == 404


@pytest.mark.parametrize(("close", "advice"), [("16.2", "send it without quotes"), ("abc", "correct it")])
def test_a_text_in_the_place_of_a_price_is_told_what_to_do(started: Server, close: str, advice: str) -> None:
    bar = {"ts": "2019-06-03T10:00:00Z", "open": 16.1, "high": 16.3, "low": 16.0, "close": close}
    response = started.predict(json.dumps({"symbol": "XAGUSD", "bars": [bar]}).encode())
    (problem,) = http_schema.Problems.model_validate_json(response.content).problems
    assert problem.problem == f"Expected a number, got '{close}'; {advice}"


def test_an_unknown_symbol_of_the_store_is_refused(started: Server) -> None:
    for params in ({"symbol": "XAUUSD"}, {}):
        response = started.client.get("/forecast", params=params)
        assert response.status_code == 422
        (problem,) = http_schema.Problems.model_validate_json(response.content).problems
        assert problem.path == "symbol"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_not_read(started: Server, chunked: bool) -> None:
    content = iter([b" " * 10_001] * 2) if chunked else b" " * 20_001
    response = started.client.post("/predict", content=content)
    assert response.status_code == 413
    assert "at most 20000 bytes" in response.json()["reason"]


def test_what_was_answered_is_in_the_ledger(server: Server, folder: Path, now_bars: list[Body]) -> None:
    first, again = server.ask(now_bars[-TSTEPS:]), server.ask(now_bars)
    server.predict({"symbol": "XAGUSD", "bars": []})

    def logged() -> dict[str, ForecastRow]:
        with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
            since = datetime.now(UTC) - timedelta(minutes=5)
            return {row.request_id: row for row in ledger.forecasts("XAGUSD", since=since, until=since + HOUR)}

    wait_for(lambda: {first.request_id, again.request_id} <= logged().keys())
    row, other = logged()[first.request_id], logged()[again.request_id]
    assert (row.version, row.arm, row.symbol) == (1, "champion", "XAGUSD")
    assert (row.origin_ts, row.last_close, row.flags) == (first.origin_ts, first.last_close, tuple(first.flags))
    path = row.path
    logged_path = list(zip(path.target_ts_H, path.median_H, path.lower_80_H, path.upper_80_H, strict=True))
    assert logged_path == [(s.target_ts, s.price, s.lower_80, s.upper_80) for s in first.path]
    assert 0 < row.latency_ms < 2000
    assert row.input_sha256 == other.input_sha256  # the window is the same, however much was sent before it
    wait_for(lambda: server.metric('lstm_ts_forecast_log_total{outcome="written"}') >= 2)
    assert server.metric('lstm_ts_forecast_log_total{outcome="dropped"}') == 0


def test_a_ledger_that_is_removed_while_the_service_runs_is_said_and_gets_its_forecasts_later(
    server: Server, folder: Path, now_bars: list[Body]
) -> None:
    file, away = folder / "ledger.db", folder / "ledger.away"
    assert (server.health().reason, server.metric("lstm_ts_ledger_away")) == (None, 0)
    move_ledger(file, away)
    wait_for(lambda: "ledger.db, got no file there; put it back" in str(server.health().reason), 5)
    wait_for(lambda: server.metric("lstm_ts_ledger_away") == 1, 5)
    assert server.health().ready
    asked = [server.ask(now_bars).request_id for _ in range(3)]
    wait_for(lambda: server.metric("lstm_ts_forecast_log_depth") == 3, 5)
    assert not file.exists()
    away.rename(file)
    wait_for(lambda: server.health().reason is None and server.metric("lstm_ts_ledger_away") == 0, 5)
    with closing(Ledger(f"sqlite:///{file}")) as ledger:
        since = datetime.now(UTC) - timedelta(minutes=5)
        logged = [row.request_id for row in ledger.forecasts("XAGUSD", since=since, until=since + HOUR)]
    assert [logged.count(request_id) for request_id in asked] == [1, 1, 1]
    assert "got no file there; put it back" in server.log.read_text()


# Who may ask


@pytest.mark.parametrize("key", [*KEYS, "from-a-file"])
def test_each_key_is_accepted(started: Server, key: str) -> None:
    assert started.client.get("/info", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("key", ["", "wrong", "correct-hors", "correct-horse,battery-staple", "é"])
@pytest.mark.parametrize("call", ["POST /predict", "GET /forecast?symbol=XAGUSD", "GET /info", "POST /reload"])
def test_no_other_key_is(started: Server, call: str, key: str) -> None:
    method, path = call.split()
    response = started.client.request(method, path, headers={"X-API-Key": key.encode()})
    assert response.status_code == 401
    assert "a valid key in the header X-API-Key" in response.json()["reason"]


REFUSED = 'lstm_ts_requests_total{arm="",route="/info",status="401"'


def test_a_flood_of_wrong_keys_is_refused_and_stops_nobody(started: Server) -> None:
    before = started.metric(REFUSED)

    def guess(turn: int) -> int:
        with httpx.Client(base_url=started.client.base_url, timeout=WAIT_S, trust_env=False) as client:
            return sum(client.get("/info", headers={"X-API-Key": f"{turn}-{n}"}).status_code == 401 for n in range(40))

    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(guess, turn) for turn in range(8)]
        waits = []
        while not all(guess.done() for guess in guesses):
            begun = time.monotonic()
            assert started.client.get("/info").status_code == 200
            waits.append(time.monotonic() - begun)
        assert sum(guess.result() for guess in guesses) == 320
    assert max(waits) < 1
    assert started.metric(REFUSED) - before == 320


def test_keys_of_the_file_are_changed_without_a_restart(started: Server, folder: Path) -> None:
    (folder / "keys.new").write_text("fresh\n\nand-another\n")
    (folder / "keys.new").replace(folder / "keys")
    codes = [
        started.client.get("/info", headers={"X-API-Key": key}).status_code
        for key in ("fresh", "and-another", "from-a-file", KEYS[1])
    ]
    (folder / "keys").write_text("from-a-file\n")
    assert codes == [200, 200, 401, 200]


def test_a_change_of_the_file_is_seen_without_a_request(started: Server, folder: Path) -> None:
    """Or else each HTTP process would go on with the keys that it had last needed, once the file is away."""
    (folder / "keys").write_text("fresh\n")
    time.sleep(1)
    (folder / "keys").unlink()
    codes = [started.client.get("/info", headers={"X-API-Key": key}).status_code for key in ("fresh", "from-a-file")]
    (folder / "keys").write_text("from-a-file\n")
    assert codes == [200, 401]


def test_keys_in_utf_16_are_refused_at_the_start_and_later_leave_the_last_ones(tmp_path: Path, caplog: Any) -> None:
    file = tmp_path / "keys"
    file.write_text("first\n")
    assert not Keys(None, None).are_set
    keys = Keys("", str(file))
    file.write_text("second\n", encoding="utf-16")
    assert keys.accept("first") and keys.accept("first")
    assert caplog.messages == [
        f"Keeping the previous API keys: Expected API keys in UTF-8 in {file}, got NUL as in UTF-16; save it as UTF-8"
    ]
    with pytest.raises(ConfigError, match="API keys in UTF-8"):
        Keys("", str(file))


def test_keys_are_bytes(started: Server, folder: Path) -> None:
    """A file that begins with a mark of its encoding, and holds what no text is."""
    (folder / "keys.new").write_bytes(b"\xef\xbb\xbffirst\r\n gr\xc3\xbcn \n\xff\n")
    (folder / "keys.new").replace(folder / "keys")
    offered = (b"first", "grün".encode(), b"\xff", b"", "grün".encode("latin-1"))
    codes = [started.client.get("/info", headers={"X-API-Key": key}).status_code for key in offered]
    (folder / "keys").write_text("from-a-file\n")
    assert codes == [200, 200, 200, 401, 401]


def test_probes_and_documentation_need_no_key(started: Server) -> None:
    for path in ("/health", "/metrics", "/docs", "/openapi.json"):
        assert started.client.get(path, headers={"X-API-Key": ""}).status_code == 200


def test_info_says_what_a_window_must_hold_and_what_is_loaded(server: Server) -> None:
    info = http_schema.Info.model_validate_json(server.client.get("/info").content)
    assert info.input is not None
    assert (info.input.tsteps, info.input.horizon, info.input.max_missing) == (TSTEPS, HORIZON, MAX_MISSING)
    assert [worker.model and worker.model.version for worker in info.workers] == [1, 1]
    assert set(info.input_schema["properties"]) == {"symbol", "bars"}


def test_the_documented_example_is_true(server: Server) -> None:
    operation = server.client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["example"]
    told = operation["responses"]["200"]["content"]["application/json"]["example"]
    reply = server.predict(asked).raise_for_status().json()
    told_path = [step["price"] for step in told["path"]]
    assert [step["price"] for step in reply["path"]] == told_path
    assert reply.keys() == told.keys()


# Versions that come and go


def test_promoting_and_rolling_back_under_load_fails_no_request_and_mixes_none(
    server: Server, folder: Path, models: list[Path], now_bars: list[Body], hourly_bars: pl.DataFrame
) -> None:
    forecasts = [forecast_beside(hourly_bars, model, frame(now_bars)) for model in models]
    expected = {n + 1: forecast.price_HL(0.5)[:, 0] for n, forecast in enumerate(forecasts)}
    assert not np.allclose(expected[1], expected[2], rtol=1e-5)
    seen, stop = set(), False

    def keep_asking() -> None:
        while not stop:
            reply = server.ask(now_bars)
            np.testing.assert_allclose([s.price for s in reply.path], expected[reply.model.version], rtol=1e-6)
            seen.add(reply.model.version)

    with ThreadPoolExecutor(4) as pool, registry_of(folder) as registry:
        clients = [pool.submit(keep_asking) for _ in range(4)]
        try:
            for change in (
                lambda: promote(registry, 2),
                lambda: registry.rollback("XAGUSD", actor="a test", reason=""),
            ):
                change()
                server.reload()
                time.sleep(0.3)
        finally:
            stop = True
        for client in clients:
            client.result()
    assert seen == {1, 2}
    assert [worker.model and worker.model.version for worker in server.health().workers] == [1, 1]


def test_the_alias_is_followed_without_being_told(server: Server, folder: Path) -> None:
    with registry_of(folder) as registry:
        promote(registry, 2)
    wait_for(lambda: [w.model and w.model.version for w in server.health().workers] == [2, 2])


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    server: Server, folder: Path, now_bars: list[Body]
) -> None:
    weights = files_of(folder, 2) / "model" / "weights.safetensors"
    whole, before = weights.read_bytes(), server.metric('lstm_ts_load_failures_total{at="load"}')
    with registry_of(folder) as registry:
        alter(weights)
        registry.store.set_alias("XAGUSD", "champion", 2)
        health = server.reload()
        assert health.ready
        for worker in health.workers:
            assert worker.model is not None
            assert worker.model.version == 1
            assert str(worker.reason).startswith("version 2 of XAGUSD does not serve: Expected the files of version 2")
        assert server.ask(now_bars).model.version == 1
        assert server.metric('lstm_ts_load_failures_total{at="load"}') > before
        assert "version 2 of XAGUSD does not serve" in server.log.read_text()
        weights.write_bytes(whole)
        assert [worker.model and worker.model.version for worker in server.reload().workers] == [2, 2]


def test_a_version_that_gives_no_finite_forecast_leaves_the_old_one_serving(
    server: Server, folder: Path, hourly_bars: pl.DataFrame, silver: Session, now_bars: list[Body], tmp_path: Path
) -> None:
    save_model(tmp_path / "model", hourly_bars, silver, seed=2, drift=1e38, max_drift=math.inf)
    with registry_of(folder) as registry:
        register(registry, tmp_path / "model")
        registry.store.set_alias("XAGUSD", "champion", registry.versions("XAGUSD")[-1].number)
    reasons = [str(worker.reason) for worker in server.reload().workers]
    assert all("Expected" in reason for reason in reasons), reasons
    assert server.ask(now_bars).model.version == 1


@pytest.mark.slow
def test_a_version_is_tried_out_while_another_thread_answers(
    models: list[Path], now_bars: list[Body], silver: Session
) -> None:
    old, new = (compile_version(load_forecaster(model)) for model in models)
    api = make_api(Path("nowhere"), silver)
    body = json.dumps({"symbol": "XAGUSD", "bars": now_bars}).encode()
    seconds: dict[str, float] = {}
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 20)  # threads take turns as often as in many more tries
    with ThreadPoolExecutor(1) as pool, ExitStack() as afterwards:
        afterwards.callback(sys.setswitchinterval, before)
        trying = pool.submit(lambda: [warm_up(api, "XAGUSD", new) for _ in range(60)])
        while not trying.done():
            ask = WorkerRequest("r", Arm.CHAMPION, time.monotonic(), body)
            assert answer_by_arm(api, ask, "XAGUSD", LoadedModels(AliasState(old)), seconds).status == 200
            assert seconds.keys() == set(PARTS) - {"queue"}
        assert len(trying.result(WAIT_S)) == 60


def test_a_store_too_short_for_a_window_is_not_its_clients_fault(
    models: list[Path], hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    with BarStore(tmp_path / "store", HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(hourly_bars.head(5))
    ask = WorkerRequest("r", Arm.CHAMPION, time.monotonic(), None)
    loaded = LoadedModels(AliasState(compile_version(load_forecaster(models[0]))))
    answer = answer_by_arm(make_api(tmp_path / "store", silver), ask, "XAGUSD", loaded, {})
    assert (answer.status, b"session hours for one window, got 5" in answer.body) == (503, True)


def test_bars_of_hours_to_come_are_flagged(
    models: list[Path], now_bars: list[Body], silver: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    hours = silver.hours(now, now + timedelta(days=20))["ts"].tail(len(now_bars))
    coming = [bar | {"ts": ts.isoformat()} for bar, ts in zip(now_bars, hours, strict=True)]
    monkeypatch.setenv("LSTM_TS_CLOCK", (hours[-1] + HOUR).isoformat())  # of a machine whose clock was ahead
    with BarStore(tmp_path / "store", HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(frame(coming))
    monkeypatch.delenv("LSTM_TS_CLOCK")
    loaded = LoadedModels(AliasState(compile_version(load_forecaster(models[0]))))
    ask = WorkerRequest("r", Arm.CHAMPION, 0.0, None)
    answer = answer_by_arm(make_api(tmp_path / "store", silver), ask, "XAGUSD", loaded, {})
    flags = http_schema.ForecastReply.model_validate_json(answer.body).flags
    assert f"bars in the future: the last one closes at {hours[-1] + HOUR:%Y-%m-%dT%H:%M:%SZ}" in flags


def make_api(store: Path, session: Session) -> ForecastApi:
    """Of one symbol, without a registry and without what runs beside it."""
    settings = SymbolSettings(
        symbol="XAGUSD",
        name="XAGUSD",
        registry_uri="",
        typed="",
        session=session,
        bars=store,
        poll_s=60,
        answer_s=WAIT_S,
        health_s=60,
        challenger=False,
        flags=FLAGS,
        logging={},
    )
    api = ForecastApi([settings], store, LedgerAddress("", None, 60))
    api.stored = {"XAGUSD": StoredBars(store)}
    api.find_skill = lambda model, symbol: (None, "the test has none")
    return api


def compile_version(forecaster: Forecaster) -> LoadedVersion:
    model = http_schema.Model(name="XAGUSD", version=1, alias="champion", artifact_sha256="ab", trained_until="")
    return LoadedVersion(forecaster, model)


def test_serving_goes_on_while_the_registry_is_away(server: Server, folder: Path, now_bars: list[Body]) -> None:
    (folder / "mlflow.db").rename(folder / "away.db")
    health = server.reload()
    assert health.ready
    assert all("The registry does not answer: Expected a registry at" in str(w.reason) for w in health.workers)
    followed = server.metric("lstm_ts_followed_timestamp_seconds")
    assert server.ask(now_bars).model.version == 1
    server.reload()
    assert not (folder / "mlflow.db").exists()
    assert server.metric("lstm_ts_followed_timestamp_seconds") == followed
    (folder / "away.db").rename(folder / "mlflow.db")
    assert [worker.reason for worker in server.reload().workers] == [None, None]
    assert followed < server.metric("lstm_ts_followed_timestamp_seconds") <= time.time()


@pytest.mark.slow
def test_a_killed_registry_process_is_replaced_and_costs_no_request(server: Server, now_bars: list[Body]) -> None:
    before, workers = server.registry_process(), server.workers()
    assert before
    os.kill(before, signal.SIGKILL)
    assert {server.ask(now_bars).model.version for _ in range(20)} == {1}
    wait_for(lambda: server.registry_process() not in (None, before))
    wait_for(lambda: [worker.reason for worker in server.reload().workers] == [None, None])  # once it listens
    assert server.workers() == workers
    assert "The registry process exited with -9; restarting it" in server.log.read_text()


def end_registry(process: RegistryProcess) -> None:
    os.kill(process.process.pid or 0, signal.SIGKILL)
    wait_for(lambda: not process.process.is_alive())


def settings_of(cfg: DictConfig, folder: Path) -> SymbolSettings:
    cfg.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    (settings,) = read_settings(cfg, construct(cfg.traffic))
    return settings


def test_the_registry_process_imports_mlflow_before_it_is_told_where_to_listen(empty: Path, tmp_path: Path) -> None:
    settings = settings_of(compose("serve", f"registry.uri=sqlite:///{empty}/mlflow.db"), tmp_path)
    process = RegistryProcess()
    try:
        os.kill(process.process.pid or 0, signal.SIGINT)  # Ctrl-C reaches every process; the first one ends this
        wait_for(lambda: "/pandas/" in Path(f"/proc/{process.process.pid}/maps").read_text())  # which MLflow imports
        process.listen(tmp_path, settings)
        assert RemoteRegistry(tmp_path / SOCKET, settings.registry_uri).find("XAGUSD", "champion") is None
    finally:
        end_registry(process)
    (tmp_path / SOCKET).unlink()  # as if it had died while it imported
    began = time.monotonic()
    with pytest.raises(RegistryError, match="Expected an answer of the service's registry process"):
        RemoteRegistry(tmp_path / SOCKET, settings.registry_uri, is_alive=process.process.is_alive).find(
            "XAGUSD", "champion"
        )
    assert time.monotonic() - began < 10  # not as long as workers wait for the one that replaces it


def test_no_worker_imports_mlflow_or_pandas_or_pytorch() -> None:
    """Each has a copy of what it imports."""
    heavy = "mlflow", "pandas", "scipy", "torch", "hydra"
    code = (
        "import sys, serve.server, serve.api, serve.monitoring.live_skill, serve.monitoring.market_figures, "
        f"serve.registry_watcher, serve.stored_bars; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_killed_worker_is_replaced_and_health_says_so_meanwhile(server: Server, now_bars: list[Body]) -> None:
    first, second = server.workers()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not server.health().ready)
    codes = [server.predict({"symbol": "XAGUSD", "bars": now_bars}).status_code for _ in range(5)]
    assert codes.count(200) >= 4  # one may have been in its hands
    assert set(codes) <= {200, 503}
    wait_for(lambda: server.health().ready)
    assert second in server.workers()
    assert first not in server.workers()


@pytest.mark.slow
def test_a_worker_without_a_model_is_not_asked(server: Server, folder: Path, now_bars: list[Body]) -> None:
    before = server.workers()
    (folder / "mlflow.db").rename(folder / "away.db")
    try:
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: any("Expected a registry" in str(w.reason) and not w.model for w in server.health().workers))
        assert {server.ask(now_bars).model.version for _ in range(50)} == {1}
        assert server.metric("lstm_ts_followed_timestamp_seconds") == 0  # the new worker's
    finally:
        (folder / "away.db").rename(folder / "mlflow.db")
    wait_for(lambda: server.health().ready)
    assert server.metric("lstm_ts_followed_timestamp_seconds") > 0


def test_a_registry_in_the_place_of_another_is_told(server: Server, folder: Path, now_bars: list[Body]) -> None:
    (folder / "mlflow.db").rename(folder / "away.db")
    shutil.copy(folder / "away.db", folder / "mlflow.db")
    wait_for(lambda: all("got another file; restart" in str(w.reason) for w in server.health().workers))
    assert server.ask(now_bars).model.version == 1
    (folder / "away.db").replace(folder / "mlflow.db")
    wait_for(lambda: not any(worker.reason for worker in server.health().workers))


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(bare: Path, now_bars: list[Body]) -> None:
    """In a store that does not answer."""
    (bare / "away.db").rename(bare / "mlflow.db")
    with registry_of(bare) as registry:
        promote(registry, 1)
    store = bare / "data/processed/XAGUSD"
    store.mkdir(parents=True)
    (store / "reader.lock").touch()
    with running(Server(bare, "answer_s=2", "max_waiting=1")) as server, ThreadPoolExecutor(4) as pool:
        wait_for(lambda: server.health().ready)
        os.mkfifo(store / MANIFEST)
        before = server.workers()
        server.ask(now_bars)
        time.sleep(2.5)
        assert server.workers() == before, "a worker that has answered is left alone"
        hanging = [pool.submit(server.client.get, "/forecast", params={"symbol": "XAGUSD"}) for _ in range(4)]
        refused = [answer.result() for answer in hanging]  # the worker has two, one waits, one is too many
        assert {(reply.status_code, reply.headers["Retry-After"]) for reply in refused} == {(503, "2")}
        reasons = sorted(reply.json()["reason"] for reply in refused)
        assert all(reason.startswith("Expected an answer") for reason in reasons[:3])
        assert reasons[3] == "Expected at most 1 requests to wait for a worker, got more; retry later"
        wait_for(lambda: server.workers() not in ([], before) and server.health().ready)
        assert server.ask(now_bars).model.version == 1
        assert "Worker 0 exited, which took longer than answer_s=2" in server.log.read_text()


def test_a_version_that_is_asked_no_more_is_forgotten_when_the_store_changes(
    models: list[Path], hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    with BarStore(tmp_path, HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(hourly_bars)
    stored, forecaster = StoredBars(tmp_path), load_forecaster(models[0])
    held = weakref.ref(forecaster)
    stored.latest(1)
    assert stored.season_states(1, forecaster).day_at(np.datetime64("2014-05-27")) is not None
    del forecaster
    for kept in (True, False):
        changed = (tmp_path / MANIFEST).stat().st_mtime_ns + 1
        os.utime(tmp_path / MANIFEST, ns=(changed, changed))
        stored.latest(1)
        gc.collect()
        assert (held() is not None) is kept


# What is counted


def test_metrics_add_up_over_the_workers(server: Server, now_bars: list[Body]) -> None:
    counted = 'lstm_ts_requests_total{arm="champion",route="/predict",status="200",symbol="XAGUSD",version="1"}'
    parts = [f'lstm_ts_part_seconds_count{{part="{part}"}}' for part in PARTS]
    before = [server.metric(name) for name in (counted, *parts)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: server.ask(now_bars), range(20)))
    assert [server.metric(name) for name in (counted, *parts)] == [count + 20 for count in before]
    assert server.metric('lstm_ts_loaded_workers{alias="champion",name="XAGUSD",version="1"}') == 2
    age_s = (datetime.now(UTC) - datetime(2014, 4, 1, tzinfo=UTC)).total_seconds()
    assert server.metric("lstm_ts_model_age_seconds{") == pytest.approx(age_s, abs=60)
    assert 0 < time.time() - server.metric("lstm_ts_started_timestamp_seconds ") < 600


# From the first process to the last


@pytest.fixture
def bare(empty: Path, models: list[Path], tmp_path: Path) -> Path:
    """A registry with a version that is not champion yet, and kept away."""
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    with registry_of(tmp_path) as registry:
        register(registry, models[0])
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    return tmp_path


@pytest.mark.slow
def test_a_server_without_a_model_says_why_until_there_is_one_and_ends_in_order(
    bare: Path, now_bars: list[Body]
) -> None:
    with running(Server(bare, "health_s=80")) as server:
        wait_for(lambda: "got none; python -m lstm_ts.retrain" in str(server.health().reason))
        assert not server.health().ready
        refusals = [server.predict({}), server.client.get("/forecast", params={"symbol": "XAGUSD"})]
        for response in refusals:
            assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
            assert "Expected a registry at" in response.json()["reason"]
        assert not (bare / "mlflow.db").exists()
        assert server.client.post("/reload").status_code == 401  # no keys: nobody is known
        (bare / "away.db").rename(bare / "mlflow.db")
        wait_for(lambda: "Expected a champion of XAGUSD, got none yet" in str(server.health().reason))
        with registry_of(bare) as registry:
            promote(registry, 1)
        wait_for(lambda: server.health().ready)
        assert server.ask(now_bars).model.version == 1
        empty_store = server.client.get("/forecast", params={"symbol": "XAGUSD"})
        assert (empty_store.status_code, "an empty store" in empty_store.json()["reason"]) == (503, True)
        children, (worker,) = server.children(), server.workers()
        os.kill(worker, signal.SIGSTOP)
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(server.predict, {"symbol": "XAGUSD", "bars": now_bars}) for _ in range(8)]
            wait_for(lambda: server.metric("lstm_ts_requests_waiting") == 8)  # what has not arrived may be refused
            for pid in (*children, server.process.pid):  # as systemd does
                os.kill(pid, signal.SIGTERM)
            os.kill(worker, signal.SIGCONT)
            replies = [answer.result() for answer in answers]
        assert [reply.status_code for reply in replies] == [200] * 8
        assert server.process.wait(WAIT_S) == 0
    wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])
    with closing(Ledger(f"sqlite:///{bare}/ledger.db")) as ledger:
        since = datetime.now(UTC) - timedelta(minutes=5)
        logged = {row.request_id for row in ledger.forecasts("XAGUSD", since=since, until=since + HOUR)}
    assert {reply.headers["X-Request-ID"] for reply in replies} <= logged
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_body_that_does_not_come_does_not_hold_the_server(bare: Path) -> None:
    with running(Server(bare, "answer_s=1")) as server:
        wait_for(lambda: not server.health().ready)
        url = server.client.base_url
        with socket.create_connection((url.host, url.port)) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
            time.sleep(0.2)
            server.process.terminate()
            assert server.process.wait(WAIT_S) == 0
        assert "Forcibly" not in server.log.read_text()
        with pytest.raises(httpx.ConnectError):
            server.health()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is needed")
def test_a_killed_server_leaves_no_process(bare: Path) -> None:
    with running(Server(bare)) as server:
        wait_for(lambda: not server.health().ready)
        children = server.children()
        server.process.kill()
        wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])


@pytest.mark.slow
def test_forecasts_that_ended_with_a_killed_service_are_counted_by_the_next_one(
    folder: Path, now_bars: list[Body]
) -> None:
    port = free_port()

    def serve_and_kill(before: int, asked: int) -> None:
        with running(Server(folder, "forecast_log.interval_s=60", port=port)) as server:
            wait_for(lambda: server.health().ready)
            assert server.metric('lstm_ts_forecast_log_total{outcome="lost"}') == before
            for _ in range(asked):
                server.ask(now_bars)
            children = server.children()
            server.process.kill()
            wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])

    serve_and_kill(before=0, asked=3)
    serve_and_kill(before=3, asked=2)
    with running(Server(folder, port=port)) as server:
        wait_for(lambda: server.health().ready)
        assert server.metric('lstm_ts_forecast_log_total{outcome="lost"}') == 5
        assert "2 forecasts are not in the ledger" in server.log.read_text()
        server.ask(now_bars)
        wait_for(lambda: server.metric('lstm_ts_forecast_log_total{outcome="written"}') == 1)


@pytest.mark.slow
def test_a_server_that_has_lost_what_its_processes_share_ends(bare: Path) -> None:
    with running(Server(bare)) as server:
        wait_for(lambda: not server.health().ready)
        children = server.children()
        keeper = next(pid for pid in children if b"serve.server" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(keeper, signal.SIGKILL)
        assert server.process.wait(WAIT_S) == 1
        wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])
        assert "An essential process exited" in server.log.read_text()


@pytest.mark.slow
def test_a_server_ends_though_processes_that_it_needs_hang(bare: Path) -> None:
    with running(Server(bare)) as server:
        wait_for(lambda: not server.health().ready)
        children, registry = server.children(), server.registry_process()
        keeper = next(pid for pid in children if b"serve.server" in Path(f"/proc/{pid}/cmdline").read_bytes())
        for pid in (keeper, registry or 0):
            os.kill(pid, signal.SIGSTOP)
        server.process.terminate()
        assert server.process.wait(WAIT_S) == 0
        wait_for(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])


@pytest.mark.slow
def test_a_server_that_is_stopped_while_it_starts_waits_for_no_process_that_hangs(bare: Path) -> None:
    with running(Server(bare, "traffic=canary")) as server:
        wait_for(server.registry_process)
        registry = server.registry_process()
        assert registry
        os.kill(registry, signal.SIGSTOP)
        wait_for(lambda: [*Path(gettempdir()).glob(f"lstm_ts_{server.client.base_url.port}_*")])
        server.process.terminate()
        assert server.process.wait(WAIT_S) == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("port=80", "port in 1024..65535"),
        ("poll_s=0", "poll_s above 0"),
        ("workers_per_device=0", "workers_per_device to be a whole number above 0, got 0"),
        ("max_waiting=1.5", "max_waiting to be a whole number above 0, got 1.5"),
        ("answer_s=inf", "answer_s above 0 and at most 3600, got inf"),
        ("flags.volatility=[4,1]", "two ascending borders"),
        ("flags.volatility=3", "values that lstm_ts.model.flags.Flags accepts"),
        ('api_keys.given=" , "', "at least one key in api_keys.given"),
        ("api_keys.file=nowhere", "one API key a line"),
        ("api_keys.file=", "one API key a line, without comments, got ''"),
        ("api_keys.file=false", "one API key a line, without comments, got False"),
        ("api_keys.file=5", "one API key a line, without comments, got 5"),
    ],
)
def test_a_value_out_of_range_is_named(override: str, words: str, tmp_path: Path) -> None:
    cfg = compose("serve", override)
    cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    with pytest.raises(ConfigError, match=words):
        check(cfg), read_settings(cfg, construct(cfg.traffic)), Keys(cfg.api_keys.given, cfg.api_keys.file)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("symbols=[XAGUSD,SPY]", "traffic=canary"), "traffic=champion with several symbols, got XAGUSD, SPY and"),
        (("symbols=[XAGUSD,FOO]",), "got FOO; choose one of them, or make FOO one"),
        (("symbols=[XAGUSD,XAGUSD]",), "Expected symbols, each once"),
        (("symbols=[]",), "Expected symbols, each once"),
        (("symbols=[../x]",), "Expected a symbol of 1 to 32 characters"),
        (("symbols=XAGUSD",), "Expected a list for symbols"),
    ],
)
def test_symbols_that_cannot_be_served_are_named(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        cfg = checked("serve", overrides)
        read_settings(cfg, construct(cfg.traffic))


def test_of_two_services_that_start_at_once_one_listens() -> None:
    with socket.socket() as first, socket.socket() as second:
        for bound in (first, second):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn binds
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        listen(first, "here", 1)
        with pytest.raises(ConfigError, match="Expected a free port, got there: Address already in use"):
            listen(second, "there", 1)


def test_the_name_of_a_model_is_the_chosen_symbols_and_others_are_named_as_they_are(tmp_path: Path) -> None:
    cfg = checked("serve", ["symbols=[XAUUSD,SPY]", "symbol=XAUUSD", "name=gold-24h", f"paths.data={tmp_path}"])
    hydras = compose("serve")
    hydras.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(hydras)
    settings, stores = read_settings(cfg, construct(cfg.traffic)), tmp_path / "processed"
    found = [(each.symbol, each.name, each.bars) for each in settings]
    assert found == [("XAUUSD", "gold-24h", stores / "XAUUSD"), ("SPY", "SPY", stores / "SPY")]
    for each in settings:
        typed = compose("retrain", *shlex.split(each.typed))
        assert (typed.symbol.name, typed.name) == (each.symbol, each.name)
        assert str(tmp_path) not in each.typed  # a client reads it


def test_a_folder_too_deep_for_sockets_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 70)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(ConfigError, match=r"temporary files of at most 70 bytes, .* got .*d; set TMPDIR to a shorter"):
        check(compose("serve", f"port={free_port()}"))


@pytest.mark.slow
def test_traffic_for_a_challenger_that_there_never_was_is_refused_and_for_one_that_was_it_is_not(
    empty: Path, models: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    uris = f"registry.uri=sqlite:///{tmp_path}/mlflow.db", f"registry.ledger=sqlite:///{tmp_path}/ledger.db"
    cfg = compose("serve", "traffic=canary", *uris)
    process, reader = RegistryProcess(), RemoteRegistry(tmp_path / SOCKET, cfg.registry.uri)
    try:
        process.listen(tmp_path, settings_of(cfg, tmp_path))
        check_challenger(cfg, construct(cfg.traffic), reader)  # nor a champion: the service says what it waits for
        with registry_of(tmp_path) as registry:
            register(registry, models[0])
            promote(registry, 1)
            with pytest.raises(ConfigError, match="a challenger of XAGUSD for this traffic, got none; name one"):
                check_challenger(cfg, construct(cfg.traffic), reader)
            register(registry, models[1])
            registry.promote("XAGUSD", 2, alias="challenger", actor="a test", reason="to be tried")
            promote(registry, 2)
        check_challenger(cfg, construct(cfg.traffic), reader)
        nowhere = RemoteRegistry(tmp_path / SOCKET, f"sqlite:///{tmp_path}/nowhere.db")
        assert not lacks_challenger(nowhere, "XAGUSD")
    finally:
        end_registry(process)


# Slow: whatever is sent, no error of the server's own


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["ts", "open", "high", "low", "close", "volume", "more"])
VALUES = (
    JSON
    | st.floats(min_value=1e-6, max_value=1e9)
    | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.sampled_from(["2026-06-01T10:00:00Z", "9999-12-31T23:00:00Z", "0001-01-01T00:00:00+14:00"])
)


@pytest.mark.slow
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 59), FIELDS, VALUES), max_size=6), drop=st.integers(0, 59))
def test_no_change_of_a_window_is_an_error(
    started: Server, now_bars: list[Body], changes: list[tuple[int, str, Any]], drop: int
) -> None:
    bars = [dict(bar) for bar in now_bars]
    for number, field, value in changes:
        bars[number][field] = value
    del bars[drop]
    response = started.predict({"symbol": "XAGUSD", "bars": bars})
    assert response.status_code in (200, 422), response.text
    model = http_schema.ForecastReply if response.status_code == 200 else http_schema.Problems
    model.model_validate_json(response.content)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_is_an_error(started: Server, body: bytes) -> None:
    assert started.predict(body).status_code == 422


@pytest.mark.slow
def test_the_documented_interface_has_no_server_error(started: Server) -> None:
    """schemathesis makes requests of the OpenAPI schema; its own workers and reports stay out of the tree."""
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{started.client.base_url}/openapi.json",
        "--header", f"X-API-Key: {KEYS[0]}", "--checks", "not_a_server_error", "--max-examples", "100",
        "--exclude-path", "/health", "--seed", "1", "--generation-database", "none",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=started.log.parent, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout[-4000:]
