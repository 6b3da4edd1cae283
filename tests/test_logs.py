"""What every process writes to stderr: text for people, or one JSON object a line."""

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from commands import Done, run_process
from processes import ROOT, WAIT_S, python, wait_for
from serving import Body, Server, make_servable, running

from lstm_ts import clock
from lstm_ts.cli import _log_fields, compose
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import JsonLines, RateLimit, TextLines, audit, log_context
from lstm_ts.market.session import Session
from serve.middleware import log_refusal

REQUIRED = {"time", "level", "logger", "message", "command", "run", "pid"}
DOCUMENTED = set(re.findall(r"`(\w+)`", (ROOT / "docs/LOGS.md").read_text()))
Line = dict[str, Any]


def read(stderr: str, *, command: str) -> list[Line]:
    """The objects, of one run of the command and with no field that is not documented."""
    found = [json.loads(line) for line in stderr.splitlines()]
    for line in found:
        assert line.keys() >= REQUIRED, line
        assert line.keys() <= DOCUMENTED, line.keys() - DOCUMENTED
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["command"] == command
    assert len({line["run"] for line in found}) <= 1
    return found


def of(event: str, lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.get("event") == event]


# Commands


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("ingested")
    return folder, run_process("ingest", folder, "log=json", "source.start=2019-01-01", "source.end=2019-01-05")


def test_a_bar_is_followed_from_its_source_to_its_hour(ingested: tuple[Path, Done]) -> None:
    folder, ingest = ingested
    assert ingest.returncode == 0
    (minutes,) = of("bars_stored", read(ingest.stderr, command="ingest"))
    assert (minutes["symbol"], minutes["source"]) == ("XAGUSD", "synthetic silver, seed 7")
    assert (minutes["store"], minutes["revised"]) == (f"{folder}/data/raw/XAGUSD", 0)
    assert minutes["first_ts"] <= "2019-01-03T14:00" <= minutes["last_ts"]
    process = run_process("process", folder, "log=json", LSTM_TS_RUN="nightly-7")
    (hours,) = of("bars_stored", read(process.stderr, command="process"))
    assert (hours["store"], hours["run"]) == (f"{folder}/data/processed/XAGUSD", "nightly-7")
    assert hours["first_ts"] <= "2019-01-03T14:00" <= hours["last_ts"]
    (log,) = (folder / "outputs/process").rglob("process.log")
    assert log.read_text() == process.stderr


def test_a_text_log_has_the_same_facts_and_no_json(ingested: tuple[Path, Done]) -> None:
    done = run_process("process", ingested[0])
    (line,) = [line for line in done.stderr.splitlines() if "Stored bars" in line]
    assert re.match(r"\[\d{4}-\d\d-\d\d .*\]\[lstm_ts.store.bar_store\]\[INFO\] Stored bars store=/", line)
    assert "revised=0" in line and "event" not in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("log=json", "sourcee=files"), {}, "Expected a key of ingest, got sourcee=files; did you mean"),
        (("log=json", "source=files", "source.paths=none.csv"), {}, "none.csv"),
        (('++log="json"', "sourcee=files"), {}, "got sourcee=files; did you mean"),
        (("symbol=NONE",), {"LSTM_TS_LOG": "json"}, "Expected symbol= with one of"),
        (("log=json",), {"LSTM_TS_CLOCK": "noon"}, "Expected LSTM_TS_CLOCK as"),
    ],
)
def test_a_mistake_is_one_object(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = run_process("ingest", tmp_path, *arguments, **environment)
    assert done.returncode == 2
    (line,) = [line for line in read(done.stderr, command="ingest") if line["level"] == "ERROR"]
    assert said in line["message"]
    assert (line["event"], line["exit_code"]) == ("refused", 2)


def test_a_traceback_is_one_object(tmp_path: Path) -> None:
    done = run_process("ingest", tmp_path, "log=json", "action=nothing", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    (line,) = [line for line in read(done.stderr, command="ingest") if line["level"] == "CRITICAL"]
    assert (line["logger"], line["error"]) == ("lstm_ts.uncaught", "ConfigError")
    assert line["message"].startswith("ConfigError: Expected action=ingest or status")
    assert "\n" in line["traceback"]


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run_process("ingest", tmp_path, "log=xml")
    assert (done.returncode, done.stderr) == (2, "Error: Expected log=text or log=json, got xml; choose one of them\n")


FOREIGN = """
import logging, sys, threading, traceback, warnings
from lstm_ts import logs
logs.begin("json", "ingest")
warnings.warn("an old way")
print("plain\\nt\xe4xt", file=sys.stderr)
logging.getLogger("foreign").error("a path: %s", "C:\\\\")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Broken:
    def __del__(self):
        raise ValueError("too late")
Broken()
raise KeyError("nobody catches it")
"""


def test_what_others_print_warn_of_and_raise_is_json_too() -> None:
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        python("-c", FOREIGN), capture_output=True, text=True, cwd=ROOT, env=ascii_only, timeout=WAIT_S
    )
    assert done.returncode == 1
    lines = read(done.stderr, command="ingest")
    said = [(line["logger"], line["message"]) for line in lines]
    assert said[1:4] == [("stderr", "plain"), ("stderr", "t\xe4xt"), ("foreign", "a path: C:\\")]
    assert said[0][0] == "py.warnings" and "UserWarning: an old way" in said[0][1]
    assert [(line["logger"], line["error"]) for line in lines[4:]] == [
        ("lstm_ts.uncaught", name) for name in ("ZeroDivisionError", "ValueError", "KeyError")
    ]


# Predict, the registry and the service


@pytest.fixture(scope="module")
def folder(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_servable(tmp_path_factory.mktemp("logs"), empty, hourly_bars, silver)


@pytest.mark.slow
def test_predict_and_registry_tell_their_lines_as_json(folder: Path) -> None:
    predict = run_process("predict", folder, f"model={folder}/model", "log=json")
    assert predict.returncode == 0
    read(predict.stderr, command="predict")
    silence = run_process("alerts", folder, "action=silence", "rule=disk", "until=2d", "reason=moved", "log=json")
    (line,) = of("alert_silenced", read(silence.stderr, command="alerts"))
    assert (line["logger"], line["rule"], line["reason"]) == ("lstm_ts.audit", "disk", "moved")
    databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
    arguments = ("action=promote", "version=1", "name=XAGUSD", "reason=again", "log=json")
    for alias, events in (("champion", []), ("challenger", [])):
        done = run_process("registry", folder, *databases, *arguments, f"alias={alias}")
        assert [line["event"] for line in read(done.stderr, command="registry") if "alias" in line] == events


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(Server(folder, keys="right")) as server:
        wait_for(lambda: server.health().ready)
        yield server


def lines_of(server: Server) -> list[Line]:
    text = server.log.read_text()
    return read(text[: text.rfind("\n") + 1], command="serve")


def test_a_request_is_followed_from_http_to_the_ledger(server: Server, window: Body, folder: Path) -> None:
    reply = server.client.post("/predict", json=window, headers={"X-Request-ID": "followed-1"}).raise_for_status()
    assert reply.json()["request_id"] == "followed-1"
    wait_for(lambda: any(line.get("request_id") == "followed-1" for line in lines_of(server)))
    (line,) = [line for line in lines_of(server) if line.get("request_id") == "followed-1"]
    assert (line["event"], line["symbol"], line["version"], line["status"]) == ("answered", "XAGUSD", "1", 200)
    assert (line["message"], line["route"], line["arm"]) == ("answered", "/predict", "champion")
    assert "bars" not in str(line)
    with closing(Ledger(f"sqlite:///{folder}/ledger.db", make=False)) as ledger:
        now = clock.now()
        wait_for(lambda: ledger.forecasts("XAGUSD", since=now - timedelta(hours=1), until=now + timedelta(hours=1)))
        rows = ledger.forecasts("XAGUSD", since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    assert "followed-1" in {row.request_id for row in rows}
    refused = server.client.post("/predict", content=b" " * 100_000, headers={"X-Request-ID": "too-large-1"})
    assert (refused.status_code, refused.headers["X-Request-ID"]) == (413, "too-large-1")
    wait_for(lambda: "too-large-1" in {line.get("request_id") for line in of("request_refused", lines_of(server))})


def test_who_is_refused_again_and_again_fills_no_disk(server: Server) -> None:
    forged = {"X-Forwarded-For": "no address"}
    with httpx.Client(base_url=server.client.base_url, trust_env=False, headers=forged) as stranger:
        for _ in range(40):
            assert stranger.get("/forecast", params={"symbol": "XAGUSD"}).status_code == 401
    wait_for(lambda: of("request_refused", lines_of(server)))
    refused = [line for line in of("request_refused", lines_of(server)) if line["status"] == 401]
    assert len(refused) == 10
    assert {line["logger"] for line in refused} == {"lstm_ts.audit"}
    assert {line["address"] for line in refused} == {"127.0.0.1"}
    assert refused[0]["message"].startswith("Expected a valid key in the header X-API-Key")
    assert server.metric('lstm_ts_requests_total{arm="",route="/forecast",status="401"') == 40


@pytest.mark.slow
def test_the_services_end_is_json_too_whoever_tells_it(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    with running(Server(make_servable(tmp_path, empty, hourly_bars, silver), "log=json")) as server:
        wait_for(lambda: server.health().ready)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "; restarting it" in server.log.read_text())
        for pid in (*server.children(), server.process.pid):  # as systemd does
            os.kill(pid, signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
        lines = lines_of(server)
    loggers = {line["logger"] for line in lines}
    assert loggers >= {"litserve.server", "serve.app", "serve.registry_watcher"}
    assert len({line["pid"] for line in lines}) >= 3


# Formatters and limits


def record(message: Any, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("a.module").makeRecord("a.module", logging.INFO, "", 0, message, (), None, extra=extra)


def test_a_context_reaches_every_record_and_ends() -> None:
    with log_context(symbol="XAGUSD", version=""), log_context(request_id="r-1"):
        told = json.loads(JsonLines("serve").format(record("here", status=200)))
    assert (told["symbol"], told["request_id"], told["status"]) == ("XAGUSD", "r-1", 200)
    assert "version" not in told
    assert "symbol" not in json.loads(JsonLines("serve").format(record("after")))


def test_lines_hold_what_json_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_TS_CLOCK", "2015-03-02T00:00:00Z")
    text = JsonLines("serve").format(record("a\nb", ms=float("nan"), store=Path("/data")))
    told = json.loads(text, parse_constant=pytest.fail)
    assert "\n" not in text
    assert (told["message"], told["ms"], told["store"]) == ("a\nb", "nan", "/data")
    assert told["clock"] == "2015-03-02T00:00:00+00:00"


def test_what_libraries_log_keeps_our_fields_and_loses_none_of_its_own() -> None:
    told = [
        json.loads(JsonLines("serve").format(record(message, **extra)), parse_constant=pytest.fail)
        for message, extra in (
            ("nested", {"m": {"loss": float("nan")}, "status": 7}),
            ("array", {"m": np.zeros(2)}),
            ("ours", {"level": "loud", "run": "theirs"}),
            ({"loss": 0.5}, {}),
            ({"message": "hello", "loss": 1}, {}),
            ("", {}),
        )
    ]
    assert [line.get("m") for line in told] == ["{'loss': nan}", "[0. 0.]", *4 * [None]]
    assert {line["level"] for line in told} == {"INFO"} and "theirs" not in {line["run"] for line in told}
    assert (told[0]["status"], told[3]["loss"], told[3]["message"]) == (7, 0.5, "{'loss': 0.5}")
    assert [line["message"] for line in told[4:]] == ["hello", "nothing"]
    empty = logging.LogRecord("a.module", logging.INFO, "", 0, "%s", ("",), None)
    assert json.loads(JsonLines("serve").format(empty))["message"] == "nothing"
    assert TextLines().format(record("array", m=np.zeros(2))).endswith(" m=[0. 0.]")


@pytest.mark.parametrize(
    ("config_name", "overrides", "symbol"),
    [
        ("serve", ["symbols=[XAUUSD]"], "XAUUSD"),
        ("serve", ["symbols=[XAUUSD,SPY]"], None),
        ("monitor", ["symbol=SPY"], "SPY"),
        ("registry", ["name=SPY"], None),
        ("backup", ["folder=x"], None),
    ],
)
def test_a_commands_lines_have_its_symbol_if_they_are_about_one(
    config_name: str, overrides: list[str], symbol: str | None
) -> None:
    assert _log_fields(compose(config_name, overrides), config_name).get("symbol") == symbol


def test_text_tells_a_records_own_fields_after_its_message() -> None:
    assert (
        TextLines().format(record("answered", event="answered", status=200, arm="")).endswith("] answered status=200")
    )


def test_so_many_lines_of_a_kind_and_how_many_were_left_out() -> None:
    limit = RateLimit(2, per_s=0.2)
    assert [limit.admit(401) for _ in range(5)] == [0, 0, None, None, None]
    assert limit.admit(404) == 0
    wait_for(lambda: (left_out := limit.admit(401)) is not None and left_out >= 3, 5)


def test_connections_that_are_refused_leave_out_no_line_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lstm_ts.audit"):
        for route in (*11 * ["other"], "/predict"):
            log_refusal({"status": 599, "route": route}, "busy", "")
    assert [record.__dict__["route"] for record in caplog.records] == [*10 * ["other"], "/predict"]


def test_an_audit_line_has_a_logger_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lstm_ts.audit"):
        audit("alert_silenced", "100 % silent", rule="drift", until="2026-12-01", actor="ann", reason="known")
    (found,) = caplog.records
    assert (found.name, found.getMessage(), vars(found)["event"]) == ("lstm_ts.audit", "100 % silent", "alert_silenced")
