"""`python -m lstm_ts.monitor` over stored bars, hour after hour."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from commands import mistake, run, succeed
from conftest import random_hours
from processes import ROOT, WAIT_S
from test_ledger import DECISION
from test_retrain import LENIENT, SETTINGS
from webhook import open_webhook

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct, processed_store
from lstm_ts.ledger.alert_rows import MONITOR, Heartbeat
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import (
    DAILY_SCORES,
    FINDINGS,
    HOURLY_FORECASTS,
    MONITOR_STATES,
    OUTCOMES,
    SCORES,
    MonitorState,
)
from lstm_ts.ledger.monitor_tables import put_states, read_states
from lstm_ts.ledger.rows import FORECASTS, ForecastRow, ServedPath
from lstm_ts.ledger.served_days import SERVED_DAYS
from lstm_ts.ledger.traffic import TrafficRow, put_traffic
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.artifact import load_forecaster, save_forecasters
from lstm_ts.model.export import export
from lstm_ts.model.features import Bars
from lstm_ts.model.nets import build_net
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.monitor import ACTIONS, RunFindings, make_settings, open_run, report_findings, show
from lstm_ts.monitoring.challenge import Challenge
from lstm_ts.monitoring.checks import request_retraining
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.run import load_watched, watch_versions
from lstm_ts.monitoring.served import check_skew
from lstm_ts.monitoring.verdict import measure
from lstm_ts.registry.ledger_check import is_new
from lstm_ts.registry.promotion import promote_undecided
from lstm_ts.registry.registry import Registry
from lstm_ts.store.bar_store import BarStore

START, REGISTERED = datetime(2014, 1, 6, tzinfo=UTC), datetime(2014, 6, 2, tzinfo=UTC)
LATER = REGISTERED + timedelta(days=3, hours=12)


def at(ts: datetime) -> dict[str, str]:
    return {"LSTM_TS_CLOCK": ts.isoformat()}


def bars_until(folder: Path, hourly_bars: pl.DataFrame, end: datetime) -> None:
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("synthetic random hours") as staging:
        staging.add(hourly_bars.filter(pl.col("ts") < end))


def rows(folder: Path, table: sa.Table) -> list[Any]:
    """All but when they were written."""
    columns = [column for column in table.columns if column.name != "at"]
    with (
        closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger,
        ledger.transaction() as connection,
    ):
        return [
            tuple(value.tolist() if isinstance(value, np.ndarray) else value for value in row)
            for row in connection.execute(sa.select(*columns).order_by(*table.primary_key))
        ]


def everything(folder: Path) -> dict[str, list[Any]]:
    return {table.name: rows(folder, table) for table in (HOURLY_FORECASTS, OUTCOMES, SCORES, DAILY_SCORES)}


@pytest.fixture(scope="module")
def hourly_bars(silver: Session) -> pl.DataFrame:
    return random_hours(silver, START, START + timedelta(weeks=26))


@pytest.fixture(scope="module")
def trained(hourly_bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion that was registered on REGISTERED, of the bars until then."""
    folder = tmp_path_factory.mktemp("trained")
    bars_until(folder, hourly_bars, REGISTERED)
    done = run("retrain", folder, *SETTINGS, *LENIENT, **at(REGISTERED))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """MLflow keeps the paths of files, so the copy reads the models of `trained`."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def monitor(folder: Path, ts: datetime, *more: str) -> str:
    done = run("monitor", folder, *more, **at(ts))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_hour_by_hour_gives_what_one_go_gives_and_nothing_twice(
    folder: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    ts = REGISTERED
    while ts < LATER:
        ts = min(ts + timedelta(hours=17), LATER)
        bars_until(folder, hourly_bars, ts)
        monitor(folder, ts)
    bars_until(other, hourly_bars, LATER)
    monitor(other, LATER)
    once = everything(other)
    assert everything(folder) == once
    assert "0 hours forecast, 0 forecasts scored" in monitor(other, LATER)
    assert everything(other) == once
    hours, known = silver.hours(REGISTERED - HOUR, LATER)["ts"].to_list(), set(hourly_bars["ts"])
    assert len(once["hourly_forecasts"]) == sum(ts in known for ts in hours)
    pairs = [(ts, target) for step in (1, 6) for ts, target in zip(hours, hours[step:], strict=False)]
    assert len(once["scores"]) == sum(ts in known and target in known for ts, target in pairs)


def test_forecasts_are_those_of_the_one_path_and_see_nothing_later(folder: Path, hourly_bars: pl.DataFrame) -> None:
    seen = hourly_bars.filter(pl.col("ts") < LATER)
    twice = pl.col("ts") >= REGISTERED + timedelta(days=2)
    prices = pl.col("open", "high", "low", "close")
    bars_until(folder, seen.with_columns(pl.when(twice).then(prices * 2).otherwise(prices)), LATER)
    monitor(folder, LATER)
    forecaster = load_forecaster(next(folder.rglob("retrain/*/*/model")))
    with (
        closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger,
        ledger.transaction() as connection,
    ):
        kept = connection.execute(sa.select(HOURLY_FORECASTS).order_by(HOURLY_FORECASTS.c.origin_ts)).all()
    early = [row for row in kept if row.origin_ts <= REGISTERED + timedelta(days=2)]
    assert early[0].origin_ts >= REGISTERED
    for row in early[:: len(early) // 5]:
        bars = seen.filter(pl.col("ts") < row.origin_ts)
        states = forecaster.season_states(forecaster.grid(bars))
        one = forecaster.forecast(bars.tail(forecaster.spec.tsteps), states)
        np.testing.assert_allclose(row.q_HQ, one.q_HQ, atol=1e-6)


def test_a_late_hour_is_scored_once_it_is_there_and_a_revised_one_changes_no_score(
    folder: Path, hourly_bars: pl.DataFrame
) -> None:
    late = REGISTERED + timedelta(hours=30)
    bars_until(folder, hourly_bars.filter(pl.col("ts") != late), LATER)
    monitor(folder, LATER)
    before = everything(folder)
    assert late + HOUR not in {row[1] for row in before["outcomes"]}
    assert late + HOUR not in {row[2] for row in before["hourly_forecasts"]}
    again = hourly_bars.filter(pl.col("ts") < LATER)
    revised = REGISTERED + timedelta(hours=40)
    bars_until(
        folder,
        again.with_columns(close=pl.col("close") * pl.when(pl.col("ts") == revised).then(1.0001).otherwise(1)),
        LATER,
    )
    monitor(folder, LATER + timedelta(minutes=5))
    after = everything(folder)
    news = [row for row in after["scores"] if row not in before["scores"]]
    assert len(news) == len(after["scores"]) - len(before["scores"])
    assert {row[2:4] for row in news} >= {(late, 1), (late + HOUR, 1)}
    assert [row[2] for row in after["outcomes"] if row[1] == revised + HOUR] == [0, 1]
    assert len(after["scores"]) == len({row[:4] for row in after["scores"]})
    assert sum(row[4]["n"] for row in after["daily_scores"]) == len(after["scores"])


@pytest.mark.slow
def test_old_hours_are_folded_and_their_sums_stay(folder: Path, hourly_bars: pl.DataFrame) -> None:
    bars_until(folder, hourly_bars, REGISTERED + timedelta(days=30))
    served = [serve(REGISTERED + timedelta(days=day)) for day in (1, 29)]
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        ledger.record_forecasts(served)
    monitor(folder, REGISTERED + timedelta(days=10), "retention_days=14")
    assert len(rows(folder, FORECASTS)) == 2
    sums = rows(folder, DAILY_SCORES)
    assert len(rows(folder, SCORES)) == sum(row[4]["n"] for row in sums)
    monitor(folder, REGISTERED + timedelta(days=30), "retention_days=14")
    assert min(row[2] for row in rows(folder, SCORES)) >= REGISTERED + timedelta(days=16)
    assert [row[5] for row in rows(folder, FORECASTS)] == [served[1].origin_ts]
    assert [row[4:6] for row in rows(folder, SERVED_DAYS)] == [("2014-06-03", 1)]
    folded = rows(folder, DAILY_SCORES)
    assert [row for row in folded if row[2] < "2014-06-10"] == [row for row in sums if row[2] < "2014-06-10"]
    assert len(rows(folder, SCORES)) < sum(row[4]["n"] for row in folded)
    monitor(folder, REGISTERED + timedelta(days=30), "retention_days=14")
    assert rows(folder, DAILY_SCORES) == folded


def serve(ts: datetime) -> ForecastRow:
    path = ServedPath((ts + HOUR,), (15.0,), (14.0,), (16.0,))
    return ForecastRow("r", "champion", ts, "XAGUSD", "XAGUSD", 1, ts, 15.0, path, (), 2.0, "ab")


@pytest.mark.slow
def test_a_monitor_that_is_killed_loses_and_doubles_nothing(
    folder: Path, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    for each in (folder, other):
        bars_until(each, hourly_bars, LATER)
    started = time.monotonic()
    start_monitor(other).wait(WAIT_S)
    takes_s = time.monotonic() - started
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        process = start_monitor(folder)
        time.sleep(share * takes_s)
        process.kill()
        process.wait(WAIT_S)
    assert start_monitor(folder).wait(WAIT_S) == 0
    assert everything(folder) == everything(other)


def start_monitor(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "lstm_ts.monitor", f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | at(LATER), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def serve_from(folder: Path, bars: pl.DataFrame, now: datetime) -> ForecastRow:
    """Return the row of a request, as a service with these bars would give it."""
    forecaster = load_forecaster(next(folder.rglob("retrain/*/*/model")))
    states, window = forecaster.season_states(forecaster.grid(bars)), bars.tail(forecaster.spec.tsteps)
    forecast = forecaster.forecast(window, states)
    path = ServedPath(tuple(forecast.target_ts_H), *(tuple(row) for row in forecast.price_HL(0.5, 0.1, 0.9).T.tolist()))
    return ForecastRow(
        "r1", "champion", now, "XAGUSD", "XAGUSD", 1, forecast.origin_ts,
        forecast.last_close, path, (), 2.0, Bars.of(window).sha256,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minute", "by", "health", "forecasts"),
    [(2, 1.001, Health.GOOD, 2), (4, 1.001, Health.BAD, 1), (2, 1.003, Health.BAD, 1)],
)
def test_a_window_between_two_revisions_is_no_skew_while_the_store_had_it(
    folder: Path,
    hourly_bars: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    minute: int,
    by: float,
    health: Health,
    forecasts: int,
) -> None:
    bars = hourly_bars.filter(pl.col("ts") < LATER)
    bars_until(folder, bars, LATER)
    monitor(folder, LATER)

    def dearer(by: float) -> pl.DataFrame:
        return pl.concat([bars.head(-1), bars.tail(1).with_columns(pl.col("open", "high", "low", "close") * by)])

    for minutes, revised in ((1, dearer(1.001)), (3, dearer(1.002))):
        monkeypatch.setenv("LSTM_TS_CLOCK", (LATER + timedelta(minutes=minutes)).isoformat())
        bars_until(folder, revised, LATER)
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        ledger.record_forecasts([serve_from(folder, dearer(by), LATER + timedelta(minutes=minute))])
    done = run("monitor", folder, **at(LATER + timedelta(minutes=5)))
    assert f"{health:<8} skew of XAGUSD" in done.stdout
    assert done.stderr.count(" 1 windows; left out") == forecasts


@pytest.mark.slow
def test_served_forecasts_are_checked_and_those_of_hours_to_come_wait(folder: Path, hourly_bars: pl.DataFrame) -> None:
    bars_until(folder, hourly_bars, LATER)
    monitor(folder, LATER)
    row = serve_from(folder, hourly_bars.filter(pl.col("ts") < LATER), LATER + timedelta(minutes=1))
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        with ledger.transaction() as connection:
            assert row.input_sha256 == connection.scalar(
                sa.select(HOURLY_FORECASTS.c.input_sha256).where(HOURLY_FORECASTS.c.origin_ts == row.origin_ts)
            )
        to_come = replace(row, request_id="r2", origin_ts=LATER + HOUR, at=LATER + timedelta(minutes=2))
        ledger.record_forecasts([row, to_come])
    said = monitor(folder, LATER + timedelta(minutes=5))
    assert "good     skew of XAGUSD: 1 served forecasts of XAGUSD are what the stored bars give." in said
    bars_until(folder, hourly_bars, LATER + 2 * HOUR)
    cfg = compose("monitor", [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"])
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        this = open_run(cfg, ledger, construct(cfg.symbol), LATER + 2 * HOUR)
        watch_versions(this, load_watched(this), make_settings(cfg))
        found = {check_skew(this, processed_store(cfg))[0].health for _ in range(2)}
        assert found == {Health.BAD}  # a run that is killed before it tells
    said = monitor(folder, LATER + 2 * HOUR)
    assert "bad      skew of XAGUSD: Of 1 served forecasts" in said and "request r2" in said
    assert "unknown  skew of XAGUSD:" in monitor(folder, LATER + 2 * HOUR + timedelta(minutes=1))


def test_status_says_when_the_monitor_last_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = compose("monitor", [f"paths.data={tmp_path}", f"paths.outputs={tmp_path}"])
    stale = Finding("data_stale", "XAGUSD", Health.GOOD, "Bars come.", "python -m lstm_ts.ingest")
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        ledger.record_heartbeat(Heartbeat(MONITOR, "XAGUSD", LATER, "1 findings"))
        watched = replace(stale, rule="monitor_silent", sentence="It looked an hour ago.")
        found = [stale, watched, replace(stale, rule="regime", sentence="Of its other model.")]
        report_findings(cfg, ledger, RunFindings(found, found), LATER)
        capsys.readouterr()
        show(cfg, ledger, LATER + timedelta(days=90))
        said = capsys.readouterr().out
        cfg.name = "second"
        show(cfg, ledger, LATER)
    second = capsys.readouterr().out
    assert "Bars come." in second and "Of its other model." not in second
    assert re.search(r"^bad      monitor_silent of XAGUSD: .* 14\d\d\.\d session hours, since", said, re.MULTILINE)
    assert "Bars come." in said and "an hour ago" not in said


def test_without_an_hour_the_feed_is_unknown(tmp_path: Path) -> None:
    assert succeed("monitor", tmp_path)[-1] == "unknown  data_stale of XAGUSD: No bar of XAGUSD is stored."


def test_a_clock_before_all_hours_is_named(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    bars_until(tmp_path, hourly_bars, REGISTERED)
    said = monitor(tmp_path, START - timedelta(days=9))
    assert "unknown  data_stale of XAGUSD: By this clock it is 2013-12-28 00:00 UTC, and no stored hour" in said


def test_hours_without_minutes_are_watched_and_have_a_status(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    bars_until(tmp_path, hourly_bars, REGISTERED)
    done = run("monitor", tmp_path, "action=watch", **at(REGISTERED))
    assert re.search(r"^good     pipeline_late of XAGUSD: No bar of XAGUSD has come for", done.stdout, re.MULTILINE)
    lines = succeed("ingest", tmp_path, "action=status")
    stored = 60 * hourly_bars.filter(pl.col("ts") < REGISTERED).height
    assert lines[0] == "Only hours are stored: each is shown as its minutes"
    assert f"Stored: {stored:,} minutes, 0 of them in closed hours, which the table leaves out" in lines


@pytest.mark.parametrize(
    ("command", "action"),
    [("ingest", "ingest"), ("process", ""), ("alerts", "list"), *(("monitor", each) for each in ACTIONS)],
)
def test_a_lost_ledger_is_not_made_again(trained: Path, tmp_path: Path, command: str, action: str) -> None:
    (tmp_path / "outputs/registry").mkdir(parents=True)
    shutil.copy(trained / "outputs/registry/mlflow.db", tmp_path / "outputs/registry")
    with open_webhook() as webhook:
        options = [f"action={action}"] * bool(action) + ["job=a"] * (action == "ended")
        done = run(command, tmp_path, *options, LSTM_TS_ALERT_URLS=webhook.url)
    assert "ledger.db, got no file there; put it back" in mistake(done)
    assert webhook.titles == ["[critical] the ledger is unreachable"] * (action == "watch")
    assert not (tmp_path / "outputs/registry/ledger.db").exists()


def test_a_ledger_is_lost_only_beside_a_sqlite_registry_with_a_version(
    trained: Path, empty: Path, tmp_path: Path
) -> None:
    used, ledger_url = trained / "outputs/registry/mlflow.db", f"sqlite:///{tmp_path}/ledger.db"
    begun, damaged = tmp_path / "begun.db", tmp_path / "damaged.db"
    begun.touch()
    damaged.write_text("none")
    expected = {used: False, damaged: False, empty / "mlflow.db": True, begun: True, tmp_path / "none.db": True}
    assert {path: is_new(ledger_url, f"sqlite:///{path}") for path in expected} == expected
    assert is_new("postgresql+psycopg://lstm@127.0.0.1/lstm", f"sqlite:///{used}")
    assert is_new(ledger_url, "http://127.0.0.1:5000")


def test_without_a_version_there_is_nothing_to_watch(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    bars_until(tmp_path, hourly_bars, REGISTERED)
    lines = succeed("monitor", tmp_path)
    command = f"python -m lstm_ts.retrain symbol=XAGUSD paths.data={tmp_path}/data paths.outputs={tmp_path}/outputs"
    assert lines[0] == f"No version of XAGUSD to watch: {command} makes one"
    assert any(line.startswith("bad      data_stale of XAGUSD") for line in lines)


def test_a_lost_registry_is_not_made_again(empty: Path, hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    bars_until(tmp_path, hourly_bars, REGISTERED)
    (tmp_path / "outputs/registry").mkdir(parents=True)
    shutil.copy(empty / "ledger.db", tmp_path / "outputs/registry")
    with closing(Ledger(f"sqlite:///{tmp_path}/outputs/registry/ledger.db")) as ledger:
        ledger.record_decision(DECISION)
    assert "mlflow.db, got none; python -m lstm_ts.retrain makes it, or if there was one, put" in mistake(
        run("monitor", tmp_path)
    )
    assert not (tmp_path / "outputs/registry/mlflow.db").exists()


def test_a_name_that_is_not_registered_is_refused(tmp_path: Path, hourly_bars: pl.DataFrame) -> None:
    bars_until(tmp_path, hourly_bars, LATER)
    said = mistake(run("monitor", tmp_path, "name=GOLD"))
    assert said == "Expected name to be one that is registered, got GOLD; correct or leave out name"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("alerts.rules.performance_drop.good=-1", "alerts.rules.performance_drop"),
        ("alerts._target_=abc", "class or function that exists, got abc; correct it"),
        ("feed.stale_hours=-1", "stale_hours"),
    ],
)
def test_a_wrong_alert_or_limit_is_told_before_the_ledger_is_opened(tmp_path: Path, typed: str, words: str) -> None:
    assert words in mistake(run("monitor", tmp_path, typed))
    assert not list(tmp_path.rglob("ledger.db"))


@pytest.mark.parametrize("days", ["13", "0", "1.5", "x", "99999999999"])
def test_a_retention_that_cannot_be_is_refused(tmp_path: Path, days: str) -> None:
    assert "retention_days" in mistake(run("monitor", tmp_path, f"retention_days={days}"))


def add_challenger(folder: Path, monkeypatch: pytest.MonkeyPatch, *, wider: float) -> None:
    """What the champion's training began at, all quantiles as many times as far from the close."""
    monkeypatch.setenv("LSTM_TS_CLOCK", REGISTERED.isoformat())
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        registry = Registry(f"sqlite:///{folder}/outputs/registry/mlflow.db", ledger)
        champion = registry.version("XAGUSD", "champion")
        forecaster = registry.load(champion)
        network, start_HQ = forecaster.network, forecaster.reference.start_HQ
        settings = {key: value for key, value in network.config.items() if key != "name"}
        net = build_net(LSTMConfig(**settings), wider * start_HQ, volatilities=network.volatilities)
        exported = export(net, network.config, forecaster.spec, volatilities=network.volatilities)
        save_forecasters([replace(forecaster, network=exported)], folder / "challenger")
        gate, tags = registry.read_gate(champion), {**champion.tags, "verdict": "reject", "judged_against": "1"}
        gate = {**gate, "verdict": "reject"}
        added = registry.register("XAGUSD", folder / "challenger", gate=gate, tags=tags, metrics={}, params={})
        promote_undecided(registry, ledger, "XAGUSD")
        registry.promote("XAGUSD", added.number, alias="challenger", actor="tester", reason="try it")
    monkeypatch.delenv("LSTM_TS_CLOCK")


@pytest.mark.slow
def test_a_challenger_that_does_harm_is_stopped_with_its_numbers_and_told_once(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=2)
    end = REGISTERED + timedelta(days=20)
    bars_until(folder, hourly_bars, end + HOUR)
    with open_webhook() as webhook:
        alerts = {"LSTM_TS_ALERT_URLS": webhook.url}
        first, second = (run("monitor", folder, **at(ts), **alerts) for ts in (end, end + HOUR))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "bad      challenger_stopped of XAGUSD challenger: The challenger of XAGUSD, version 2" in first.stdout
    assert "against version 1: Stop: the challenger is worse" in first.stdout
    assert "good     challenger_stopped of XAGUSD challenger: XAGUSD has no challenger." in second.stdout
    history = " ".join(" ".join(succeed("registry", folder, "action=history", "alias=challenger")).split())
    assert "release monitor Stop: the challenger is worse" in history
    stopped = [
        message["message"] for message in webhook.received if "Stop: the challenger is worse" in message["message"]
    ]
    assert ["for 60 min" in text for text in stopped] == [False, True]  # told, and an hour later that it is over
    left = [row[0] for row in rows(folder, FINDINGS) if row[1] == "XAGUSD challenger"]
    assert left == ["challenger_stopped"]


@pytest.mark.slow
def test_what_was_found_of_a_version_is_over_once_another_one_has_its_alias_or_none(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=1)
    bars_until(folder, hourly_bars, LATER + 3 * HOUR)
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        drop, drift = (Finding(rule, "", Health.BAD, "Bad.", "") for rule in ("performance_drop", "concept_drift"))
        bad = [replace(drop, subject="XAGUSD champion"), replace(drift, subject="XAGUSD challenger")]
        alerts = construct(compose("alerts", []).alerts)
        report(ledger, alerts, bad, now=LATER)
        monitor(folder, LATER + timedelta(minutes=1))  # nothing is known of its skill, and so nothing is over
        assert open_rules(ledger) == {"performance_drop", "concept_drift"}
        monkeypatch.setenv("LSTM_TS_CLOCK", (LATER + timedelta(minutes=3)).isoformat())
        registry = Registry(f"sqlite:///{folder}/outputs/registry/mlflow.db", ledger)
        registry.promote("XAGUSD", 2, alias="champion", actor="tester", reason="it is as good")
        monkeypatch.delenv("LSTM_TS_CLOCK")
        monitor(folder, LATER + HOUR)
        assert open_rules(ledger) == {"performance_drop"}  # good once, and its rule asks for two
        said = monitor(folder, LATER + HOUR, "action=status").splitlines()
        assert [line.split()[1] for line in said if " of XAGUSD challenger" in line] == ["challenger_stopped"]
        assert "unknown  performance_drop of XAGUSD champion" in monitor(folder, LATER + 2 * HOUR)
        assert open_rules(ledger) == set()


def open_rules(ledger: Ledger) -> set[str]:
    with ledger.transaction() as connection:
        return {row.rule for row in read_active(connection)} & {"performance_drop", "concept_drift"}


@pytest.mark.slow
def test_a_challenger_that_is_its_champion_is_not_stopped(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=1)
    end = REGISTERED + timedelta(days=20)
    bars_until(folder, hourly_bars, end)
    said = monitor(folder, end)
    assert (
        "good     challenger_stopped of XAGUSD challenger: The challenger of XAGUSD, version 2, against version 1:"
        in said
    )
    monitor(folder, end + timedelta(minutes=1))
    (state,) = [row[3] for row in rows(folder, MONITOR_STATES) if row[2] == "challenge"]
    kept = Challenge.from_json(state)
    assert kept.evidence == measure(kept.state, construct(compose("monitor", []).verdict))
    assert Challenge.from_json({**state, "evidence": None}).evidence is None
    assert state["state"]["live"]["n"] == sum(row[1] == 2 and row[3] == 1 for row in rows(folder, SCORES))


@pytest.mark.slow
def test_a_challenger_that_is_better_takes_the_champions_place_where_that_is_configured(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=2)
    monkeypatch.setenv("LSTM_TS_CLOCK", REGISTERED.isoformat())
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        registry = Registry(f"sqlite:///{folder}/outputs/registry/mlflow.db", ledger)
        for number, alias in ((2, "champion"), (1, "challenger")):
            registry.promote("XAGUSD", number, alias=alias, actor="tester", reason="the other way round")
    monkeypatch.delenv("LSTM_TS_CLOCK")
    end = REGISTERED + timedelta(days=20)
    bars_until(folder, hourly_bars, end + 3 * HOUR)
    better = "The challenger of XAGUSD, version 1, against version 2: The challenger is better than the champion."
    assert f"good     challenger_stopped of XAGUSD challenger: {better}" in monitor(folder, end)
    assert better in monitor(folder, end + HOUR, "on_no_worse=promote")  # told, and no more
    assert better in monitor(folder, end + 2 * HOUR, "on_better=promote")
    moved = " ".join(" ".join(succeed("registry", folder, "action=history", "alias=champion")).split())
    assert "2 → 1 promote monitor The challenger is better than the champion. Its loss beside" in moved
    assert "1 → - release monitor version 1 becomes champion" in history(folder)
    said = monitor(folder, end + 3 * HOUR, "on_better=promote")
    assert "The champion of XAGUSD, version 1" in said and "XAGUSD has no challenger." in said
    assert "Expected on_better=tell or promote, got yes" in mistake(run("monitor", folder, "on_better='yes'"))


@pytest.mark.slow
def test_a_challenger_that_is_no_worse_than_a_champion_that_has_drifted_stays_challenger(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=1)
    end = REGISTERED + timedelta(days=20)
    bars_until(folder, hourly_bars, end)
    assert "is no worse than the champion" in monitor(folder, end, "verdict.margin=0.2", "drift.min_origins=100")
    with (
        closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger,
        ledger.transaction() as connection,
    ):
        state = read_states(connection, "XAGUSD", 1)["drift"]
        drifted = {**state, "sums": [1e5] * len(state["sums"]), "drift_since": LATER.isoformat()}
        put_states(connection, [MonitorState("XAGUSD", 1, "drift", end, drifted)])
    done = run(
        "monitor",
        folder,
        "verdict.margin=0.2",
        "drift.min_origins=100",
        "on_no_worse=promote",
        **at(end + timedelta(minutes=1)),
    )
    assert (done.returncode, "1 → 2" in history(folder)) == (3, False)
    with (
        closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger,
        ledger.transaction() as connection,
    ):
        put_states(connection, [MonitorState("XAGUSD", 1, "drift", end, dict(state))])
    monitor(folder, end + timedelta(minutes=2), "verdict.margin=0.2", "drift.min_origins=100", "on_no_worse=promote")
    assert "2 → - release monitor version 2 becomes champion" in history(folder)


def say_traffic(folder: Path, **changes: Any) -> None:
    row = TrafficRow("XAGUSD", "127.0.0.1:8000", REGISTERED - timedelta(days=9), True, None, "")
    with (
        closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger,
        ledger.transaction() as connection,
    ):
        put_traffic(connection, [replace(row, **changes)])


def history(folder: Path) -> str:
    return " ".join(" ".join(succeed("registry", folder, "action=history", "alias=challenger")).split())


@pytest.mark.slow
def test_a_challenger_that_no_request_reaches_is_halted_and_goes_on_once_it_is_challenger_again(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=1)
    say_traffic(folder)
    end = REGISTERED + timedelta(days=3)  # 72 hours, of which the session has 69, the last of them just over
    bars_until(folder, hourly_bars, end)
    assert "good     challenger_stopped" in monitor(folder, REGISTERED + timedelta(days=2))
    said = monitor(folder, end)
    assert "bad      challenger_stopped of XAGUSD challenger: The challenger of XAGUSD, version 2" in said
    assert "Halted: no request has reached the challenger for 68 session hours. Its loss" in said
    assert "release monitor Halted: no request has reached the challenger for 68 session hours. Its" in history(folder)
    challenge_again(folder, monkeypatch, end)
    (state,) = [row[3] for row in rows(folder, MONITOR_STATES) if row[2] == "challenge"]
    said = monitor(folder, end + HOUR)
    assert "good     challenger_stopped of XAGUSD challenger: The challenger of XAGUSD, version 2" in said
    assert state["state"]["live"]["n"] > 40 and f"over {state['state']['live']['n']:,} live" in said


def challenge_again(folder: Path, monkeypatch: pytest.MonkeyPatch, ts: datetime) -> None:
    monkeypatch.setenv("LSTM_TS_CLOCK", ts.isoformat())
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:
        registry = Registry(f"sqlite:///{folder}/outputs/registry/mlflow.db", ledger)
        registry.promote("XAGUSD", 2, alias="challenger", actor="tester", reason="once more")
    monkeypatch.delenv("LSTM_TS_CLOCK")


@pytest.mark.slow
def test_a_challenger_without_outcomes_or_that_its_service_has_stopped_is_halted(
    folder: Path, hourly_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_challenger(folder, monkeypatch, wider=1)
    say_traffic(folder, to_challenger=False)
    monitor(folder, REGISTERED + timedelta(days=2))
    monitor(folder, REGISTERED + timedelta(days=3))
    assert "Halted: no outcome of both models for 68 session hours. Its loss" in history(folder)
    challenge_again(folder, monkeypatch, LATER)
    say_traffic(folder, stopped=2, reason="4 of the challenger's 10 requests failed", since=LATER + HOUR)
    said = monitor(folder, LATER + 2 * HOUR)
    assert "Halted: its service has stopped its requests: 4 of the challenger's 10 requests failed." in said
    assert "has stopped its requests: 4 of the challenger's 10 requests failed." in history(folder)


@pytest.mark.slow
def test_status_repeats_what_the_last_run_found(folder: Path, hourly_bars: pl.DataFrame) -> None:
    assert "has not checked XAGUSD yet" in monitor(folder, REGISTERED, "action=status")
    bars_until(folder, hourly_bars, LATER)
    monitor(folder, LATER - HOUR)
    monitor(folder, LATER)
    said = monitor(folder, LATER + HOUR, "action=status")
    assert f"good     data_stale of XAGUSD, since {LATER - HOUR:%Y-%m-%d %H:%M} UTC: The last hourly bar" in said
    assert "action" in mistake(run("monitor", folder, "action=look"))


def test_drift_asks_for_a_retraining_once_a_day(folder: Path, hourly_bars: pl.DataFrame) -> None:
    bad = Finding("concept_drift", "XAGUSD champion", Health.BAD, "Drift.", "")
    with closing(Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db")) as ledger:

        def asked(ts: datetime, *findings: Finding) -> bool:
            return request_retraining(ledger, "XAGUSD", findings, ts)

        assert not asked(LATER, replace(bad, health=Health.GOOD), replace(bad, subject="XAGUSD challenger"))
        assert [asked(LATER + hours * HOUR, bad) for hours in (0, 1, 23, 24, 25)] == [True, False, False, True, False]
        assert asked(LATER - HOUR, bad)  # the clock was ahead when it was asked for
