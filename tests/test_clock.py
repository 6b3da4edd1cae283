"""One clock for all processes, which can be set, and run fast."""

import importlib
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from commands import Command, run
from processes import ROOT, WAIT_S, python, wait_for
from serving import Server, make_servable, running

from dashboard.ui.text import year_of
from lstm_ts import clock
from lstm_ts.clock import CLOCK, Clock
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.sources.dukascopy.json_client import _retry_after_s
from lstm_ts.store.bar_store import BarStore

START = datetime(2015, 3, 2, tzinfo=UTC)
ENTRY_POINTS = (
    *(f"lstm_ts.{name}" for name in ("ingest", "process", "train", "evaluate", "predict", "backtest", "retrain")),
    *(f"lstm_ts.{name}" for name in ("monitor", "alerts", "backup", "cronjobs", "pipeline", "registry.__main__")),
    *("serve.startup", "dashboard.server"),
)
SetClock = Callable[[str], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    return lambda text: monkeypatch.setenv(CLOCK, text)


def test_where_nothing_is_said_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLOCK, raising=False)
    before = datetime.now(UTC)
    assert before <= clock.now() <= datetime.now(UTC)
    assert clock.speed() == 1
    monkeypatch.setenv(CLOCK, "")
    assert clock.now() >= before


def test_a_moment_alone_stands_still(set_clock: SetClock) -> None:
    set_clock("2015-03-02T01:00:00+01:00")
    assert clock.now() == START
    assert clock.now().tzinfo is UTC
    assert clock.speed() == 1  # of waits and limits


def test_it_runs_as_fast_as_it_is_told(set_clock: SetClock) -> None:
    set_clock("2015-03-02T00:00:00Z 3600 2026-11-28T21:00:00Z")
    set_to = clock.read_clock()
    assert set_to is not None and set_to.at(datetime(2026, 11, 28, 21, 0, 2, tzinfo=UTC)) == START + timedelta(hours=2)
    assert set_to.at(datetime(2026, 11, 28, 20, 59, tzinfo=UTC)) == START - timedelta(hours=60)
    assert clock.speed() == 3600
    set_clock(str(Clock(START, 3600.0, since=datetime.now(UTC))))
    first = clock.now()
    time.sleep(0.05)
    assert timedelta(minutes=3) <= clock.now() - first < timedelta(hours=3600 * WAIT_S)


def test_a_file_moves_it_in_processes_that_run(set_clock: SetClock, tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_clock(str(file))
    with pytest.raises(ConfigError, match="No such file"):
        clock.now()
    for moment in (START, START + HOUR):
        file.write_text(f"{moment.isoformat()}\n")
        assert clock.now() == moment
    for text, problem in (("noon", "got 'noon'"), ("", "clock: it is empty; correct it")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=problem):
            clock.now()


def test_its_text_is_what_the_environment_takes(set_clock: SetClock) -> None:
    since = datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    for set_to in (Clock(START, 0.5, since), Clock(START, 1000.0, since)):
        set_clock(str(set_to))
        assert clock.read_clock() == set_to
    set_clock(str(Clock(START, 0.0, START)))
    assert clock.now() == START


def test_processes_agree_whenever_they_start(set_clock: SetClock) -> None:
    set_clock(f"2015-03-02T00:00:00Z 1000 {datetime.now(UTC).isoformat()}")
    for _ in range(2):
        before = clock.now()
        told = subprocess.check_output(
            python("-c", "from lstm_ts import clock; print(clock.now())"), cwd=ROOT, text=True, timeout=WAIT_S
        )
        assert before <= datetime.fromisoformat(told.strip()) <= clock.now()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yesterday", "Invalid isoformat string: 'yesterday'"),
        ("./clock", "Invalid isoformat string: './clock'"),
        ("2015-03-02T00:00:00", "2015-03-02T00:00:00 has no zone, such as Z"),
        ("2015-03-02T00:00:00Z 60", "it has 2 words, where one says the time, and three how it runs"),
        ("2015-03-02T00:00:00Z 60 2026-11-28", "2026-11-28 has no zone, such as Z"),
        ("2015-03-02T00:00:00Z -1 2026-11-28T21:00:00Z", "a speed is above 0 and at most 10000"),
        ("2015-03-02T00:00:00Z nan 2026-11-28T21:00:00Z", "a speed is above 0 and at most 10000"),
        ("2015-03-02T00:00:00Z fast 2026-11-28T21:00:00Z", "could not convert string to float: 'fast'"),
        ("9999-12-31T23:00:00Z", "a year is one of 1900 to 2200"),
        ("9000-03-02T00:00:00Z 9000 2000-01-01T00:00:00Z", "date value out of range"),
    ],
)
def test_a_wrong_setting_is_a_sentence(set_clock: SetClock, text: str, why: str) -> None:
    set_clock(text)
    with pytest.raises(ConfigError) as refused:
        clock.now()
    said = str(refused.value)
    assert said.startswith('Expected LSTM_TS_CLOCK as "TIME", which stands still, or "TIME SPEED SINCE", such as "20')
    assert said.endswith(f"a file with one of them, from / on, got {text!r}: {why}; correct it, or unset it")


def test_a_time_before_the_stored_bars_is_refused(set_clock: SetClock) -> None:
    set_clock(START.isoformat())
    clock.check_after(START + timedelta(minutes=5))
    with pytest.raises(ConfigError, match=r"a time after the last stored bar, .*; unset LSTM_TS_CLOCK"):
        clock.check_after(START + timedelta(minutes=6))


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_every_command_says_a_wrong_setting(module: str, command: Command, set_clock: SetClock) -> None:
    set_clock("noon")
    ended = command(importlib.import_module(module).main)
    assert ended.mistake.startswith("Expected LSTM_TS_CLOCK as ")
    assert ended.out == ""


def test_limits_and_waits_of_others_stay_real(set_clock: SetClock) -> None:
    set_clock(f"2015-03-02T00:00:00Z 60 {datetime.now(UTC).isoformat()}")
    at = clock.now() + timedelta(minutes=60)
    assert _retry_after_s(f"{at:%a, %d %b %Y %H:%M:%S GMT}") == pytest.approx(60, abs=10)


def test_the_dashboard_leaves_out_the_year_that_it_is(set_clock: SetClock) -> None:
    set_clock("2014-12-31T23:30:00Z")
    assert year_of(datetime(2014, 6, 1, tzinfo=UTC)) == ""
    assert year_of(datetime(2026, 6, 1, tzinfo=UTC)) == " %Y"


def test_a_revision_is_stamped_by_it(set_clock: SetClock, hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    set_clock("2015-03-02T00:00:00Z")
    store = BarStore(tmp_path, HOURLY_SCHEMA)
    for bars in (hourly_bars.head(5), hourly_bars.head(5).with_columns(volume=pl.lit(7.0))):
        with store.upsert("test hours") as staging:
            staging.add(bars)
    assert set(store.read_revisions()["revised_at"]) == {START}


# Predict and the service, on a store whose last bar is of May 2014


@pytest.fixture(scope="module")
def folder(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_servable(tmp_path_factory.mktemp("clock"), empty, hourly_bars, silver)


@pytest.fixture(scope="module")
def origin(hourly_bars: pl.DataFrame) -> datetime:
    last: datetime = hourly_bars["ts"][-1]
    return last + HOUR


def stale(flags: list[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("stale input")]


def test_predict_tells_the_age_of_its_bars_by_it(folder: Path, origin: datetime) -> None:
    def flags(**environment: str) -> list[str]:
        done = run("predict", folder, f"model={folder}/model", "format=json", **environment)
        assert done.returncode == 0, done.stderr
        return stale(json.loads(done.stdout)["flags"])

    assert flags(**{CLOCK: (origin + timedelta(minutes=5)).isoformat()}) == []
    assert flags(**{CLOCK: (origin + timedelta(days=3)).isoformat()}) == ["stale input: the last bar is 3 days old"]
    (flag,) = flags()
    assert int(flag.split()[-3]) > 365 * 10


@pytest.mark.slow
def test_the_service_lives_in_it_and_outlives_a_wrong_one(
    folder: Path, origin: datetime, set_clock: SetClock, tmp_path: Path
) -> None:
    set_to, file = Clock(origin + timedelta(minutes=5), 600.0, since=datetime.now(UTC)), tmp_path / "clock"
    file.write_text(str(set_to))
    set_clock(str(file))
    with running(Server(folder, "health_s=1")) as server:
        wait_for(lambda: server.health().ready)
        before = clock.now()
        reply = server.client.get("/forecast", params={"symbol": "XAGUSD"}).raise_for_status().json()
        ages = [(moment - origin).total_seconds() for moment in (before, clock.now())]
        assert ages[0] <= reply["data_age_s"] <= ages[1]

        def look() -> list[str]:
            return stale(server.client.get("/forecast", params={"symbol": "XAGUSD"}).json()["flags"])

        wait_for(look)
        assert look()[0].endswith(("session hours have closed since the last bar", "hours old"))
        with closing(Ledger(f"sqlite:///{folder}/ledger.db", make=False)) as ledger:
            wait_for(lambda: ledger.forecasts("XAGUSD", since=before, until=clock.now()))
        for text in ("noon", str(set_to)):
            file.write_text(text)
            time.sleep(1)
        wait_for(lambda: server.health().ready)
