"""Silence, found from what a store and a ledger hold: late by session hours, never for a closed market."""

import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from commands import mistake, run
from conftest import random_hours
from processes import ROOT, free_port
from test_alerts import alerts
from webhook import open_webhook

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import typed_paths
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_rows import MONITOR, Heartbeat
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_tables import read_findings
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import name_model
from lstm_ts.monitoring.findings import Finding, Health, complete
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.watcher import Market, SilenceLimits, watch
from lstm_ts.store.bar_store import BarStore

LIMITS = SilenceLimits(ingest_hours=2, monitor_hours=2)
HOUR = timedelta(hours=1)
FRIDAY = datetime(2015, 3, 6, 18, 0, tzinfo=UTC)  # silver closes at 22:00 UTC (17:00 New York), reopens Sunday 23:00
SUNDAY_OPEN = datetime(2015, 3, 8, 22, 0, tzinfo=UTC)  # summer time has begun that morning


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def market(silver: Session, tmp_path: Path) -> Market:
    stores = BarStore(tmp_path / "raw", BAR_SCHEMA), BarStore(tmp_path / "processed", HOURLY_SCHEMA)
    return Market("XAGUSD", "XAGUSD", silver, *stores)


def ingest(market: Market, *stamps: datetime) -> None:
    with market.minutes.upsert("test minutes") as staging:
        staging.add(
            pl.DataFrame([(ts, 20.0, 30.0, 1.0, 20.0, 1.0, None) for ts in stamps], schema=BAR_SCHEMA, orient="row")
        )


def late(ledger: Ledger, market: Market, now: datetime) -> Finding:
    return next(finding for finding in watch(ledger, [market], LIMITS, now=now) if finding.rule == "pipeline_late")


def silent(ledger: Ledger, market: Market, now: datetime) -> Finding:
    return next(finding for finding in watch(ledger, [market], LIMITS, now=now) if finding.rule == "monitor_silent")


def test_nothing_ingested_for_two_session_hours_is_late(ledger: Ledger, market: Market) -> None:
    ingest(market, FRIDAY - 40 * 24 * HOUR, FRIDAY - timedelta(minutes=1))
    assert late(ledger, market, FRIDAY + timedelta(minutes=119)).health is Health.GOOD
    found = late(ledger, market, FRIDAY + 2 * HOUR)
    assert (found.health, found.subject) == (Health.BAD, "XAGUSD")
    assert found.sentence == (
        "No bar of XAGUSD has come for 2.0 session hours: the last one is of Fri 2015-03-06 17:59 UTC."
    )
    ingest(market, FRIDAY + HOUR)
    assert late(ledger, market, FRIDAY + 2 * HOUR).health is Health.GOOD


@pytest.mark.parametrize("minutes", [(), (FRIDAY - 9 * HOUR,), (FRIDAY - HOUR / 2,)])
def test_hours_that_come_without_minutes_are_late_by_their_end(
    ledger: Ledger, market: Market, silver: Session, minutes: tuple[datetime, ...]
) -> None:
    ingest(market, *minutes)
    with market.hours.upsert("test hours") as staging:
        staging.add(random_hours(silver, FRIDAY - 5 * HOUR, FRIDAY, missing=0))
    assert late(ledger, market, FRIDAY + timedelta(minutes=119)).health is Health.GOOD
    assert late(ledger, market, FRIDAY + 2 * HOUR).sentence.endswith("the last one is of Fri 2015-03-06 17:00 UTC.")


def test_a_weekend_is_no_time(ledger: Ledger, market: Market, silver: Session) -> None:
    friday_close = FRIDAY + 4 * HOUR
    ingest(market, friday_close - timedelta(minutes=61))
    for hours in range(48):
        assert late(ledger, market, friday_close + hours * HOUR).health is Health.GOOD
    assert late(ledger, market, SUNDAY_OPEN + timedelta(minutes=59)).health is Health.GOOD
    assert late(ledger, market, SUNDAY_OPEN + HOUR).health is Health.BAD
    assert silver.time_open(friday_close, SUNDAY_OPEN) == timedelta(0)
    assert silver.time_open(SUNDAY_OPEN, FRIDAY) == timedelta(0)


def test_what_was_late_before_the_weekend_is_told_to_nobody_until_it_opens(
    ledger: Ledger, market: Market, silver: Session
) -> None:
    ingest(market, FRIDAY - 8 * HOUR)
    with open_webhook() as hook:
        settings = alerts(hook.url, pipeline_late={"outside_sessions": False})
        for now in (FRIDAY + 5 * HOUR, FRIDAY + 24 * HOUR, SUNDAY_OPEN - HOUR, SUNDAY_OPEN + timedelta(minutes=1)):
            findings = [late(ledger, market, now)]
            assert findings[0].health is Health.BAD
            report(ledger, settings, findings, now=now, closed=() if silver.is_open(now) else {"XAGUSD"})
            assert len(hook.received) == (now > SUNDAY_OPEN)


def test_an_empty_store_and_a_damaged_one_are_unknown(ledger: Ledger, market: Market) -> None:
    assert late(ledger, market, FRIDAY).health is Health.UNKNOWN
    ingest(market, FRIDAY)
    next(market.minutes.folder.glob("2015-*.parquet")).write_bytes(b"")
    found = late(ledger, market, FRIDAY)
    assert (found.health, found.sentence[:9]) == (Health.UNKNOWN, "Expected ")


def test_a_monitor_that_never_ran_is_unknown_and_one_that_stopped_silent(ledger: Ledger, market: Market) -> None:
    assert silent(ledger, market, FRIDAY).health is Health.UNKNOWN
    for subject, at in (("XAGUSD", FRIDAY), ("XAUUSD", FRIDAY + 9 * HOUR)):
        ledger.record_heartbeat(Heartbeat(MONITOR, subject, at, ""))
    ledger.record_heartbeat(Heartbeat("ingest", "XAGUSD", FRIDAY + 9 * HOUR, ""))
    assert silent(ledger, market, FRIDAY + timedelta(minutes=119)).health is Health.GOOD
    found = silent(ledger, market, FRIDAY + 3 * HOUR)
    assert (found.health, found.subject) == (Health.BAD, "XAGUSD")
    assert found.sentence == (
        "The monitor has not checked XAGUSD for 3.0 session hours, since Fri 2015-03-06 18:00 UTC."
    )
    ledger.record_heartbeat(Heartbeat(MONITOR, "XAGUSD", FRIDAY + 3 * HOUR, ""))
    assert silent(ledger, market, FRIDAY + 3 * HOUR).health is Health.GOOD


def test_of_two_models_of_one_symbol_the_silent_one_is_found(ledger: Ledger, market: Market) -> None:
    ledger.record_heartbeat(Heartbeat(MONITOR, "XAGUSD", FRIDAY, ""))
    ledger.record_heartbeat(Heartbeat(MONITOR, "wide", FRIDAY - 3 * HOUR, ""))
    found = silent(ledger, replace(market, name="wide"), FRIDAY)
    assert (silent(ledger, market, FRIDAY).health, found.health, found.subject) == (Health.GOOD, Health.BAD, "wide")
    assert found.command == "python -m lstm_ts.monitor symbol=XAGUSD name=wide"


def test_a_command_of_a_finding_works_as_typed() -> None:
    typed = ["symbol=SPY", "name=wide", "paths.outputs='/srv/my outputs, of ${symbol.name}'", "paths.data=data/real"]
    paths = typed_paths(compose("monitor", typed).paths)
    commands = "", "python -m lstm_ts.ingest action=status symbol=SPY", "df -h /"
    found = complete([Finding("", "", Health.GOOD, "", each) for each in commands], name_model("SPY", "wide"), paths)
    status, ingest, other = (shlex.split(each.command)[2:] for each in found)
    assert (status[:2], ingest[:2], other) == (
        ["lstm_ts.monitor", "action=status"],
        ["lstm_ts.ingest", "action=status"],
        ["/"],
    )
    for module, *overrides in (status, ingest):
        cfg = compose(module.removeprefix("lstm_ts."), overrides)
        assert (cfg.symbol.name, cfg.paths.data, cfg.paths.outputs) == ("SPY", "data/real", "/srv/my outputs, of SPY")
    assert "name=wide" in status and "paths.data=data/real" in ingest


def test_a_heartbeat_is_of_the_model_that_was_looked_at(ledger: Ledger, tmp_path: Path) -> None:
    database = f"registry.ledger=sqlite:///{tmp_path}/ledger.db"
    assert run("monitor", tmp_path, database, "name=wide").returncode == 0
    assert [(beat.component, beat.subject) for beat in ledger.heartbeats()] == [(MONITOR, "wide")]


def test_what_is_to_come_is_no_sign_of_work(ledger: Ledger, market: Market) -> None:
    ingest(market, FRIDAY + timedelta(minutes=5))
    ledger.record_heartbeat(Heartbeat(MONITOR, "XAGUSD", FRIDAY + timedelta(minutes=5), ""))
    assert {finding.health for finding in watch(ledger, [market], LIMITS, now=FRIDAY)} == {Health.GOOD}
    early = watch(ledger, [market], LIMITS, now=FRIDAY - timedelta(minutes=1))
    assert {finding.health for finding in early} == {Health.UNKNOWN}
    assert all("which is in the future: a clock" in finding.sentence for finding in early)


def test_the_last_bar_is_read_from_the_newest_month_only(market: Market) -> None:
    assert market.minutes.last_ts() is None
    ingest(market, FRIDAY, FRIDAY - 70 * 24 * HOUR, FRIDAY - HOUR)
    next(market.minutes.folder.glob("2014-*.parquet")).unlink()
    assert market.minutes.last_ts() == FRIDAY


def test_limits_that_are_none_are_said() -> None:
    with pytest.raises(ConfigError, match=r"checks\.silence\.monitor_hours > 0, got 0"):
        SilenceLimits(ingest_hours=2, monitor_hours=0)


@pytest.mark.slow
def test_pods_that_come_and_go_are_one_machine_and_what_nobody_looks_at_is_forgotten(
    ledger: Ledger, tmp_path: Path
) -> None:
    full = ("action=watch", f"registry.ledger=sqlite:///{tmp_path}/ledger.db", "checks.machine.min_disk_free=0.999999")
    full += ("checks.machine.min_memory_free=0.999999",)

    def look(pod: str, at: datetime, **environment: str) -> set[str]:
        with mock.patch("socket.gethostname", return_value=pod):
            run("monitor", tmp_path, *full, LSTM_TS_CLOCK=at.isoformat(), **environment)
        with ledger.transaction() as connection:
            return {row.subject for row in read_findings(connection) if row.rule in ("disk", "memory")}

    for number in range(2):
        at = FRIDAY + number * timedelta(minutes=10)
        assert look(f"pod-{number}", at, LSTM_TS_MACHINE="cluster") == {"cluster", f"cluster:{tmp_path}/data"}
    with ledger.transaction() as connection:
        opened = [(row.rule, row.bad) for row in read_active(connection) if row.opened_at and "cluster" in row.subject]
    assert sorted(opened) == [("disk", 2), ("memory", 2)]
    assert "cluster" in look("pod-2", FRIDAY + timedelta(days=119))
    assert look("pod-3", FRIDAY + timedelta(days=122)) == {"pod-2", "pod-3"} | {
        f"{pod}:{tmp_path}/data" for pod in ("pod-2", "pod-3")
    }


def test_no_run_leaves_a_file_but_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, here = f"registry.ledger=sqlite:///{tmp_path}/ledger.db", set(ROOT.iterdir())
    for action in ("run", "watch", "status"):
        assert run("monitor", tmp_path, database, f"action={action}").returncode == 0
    for command in ("monitor", "alerts"):
        assert run(command, tmp_path, database, "-m", "symbol=XAGUSD,SPY").returncode == 0
    assert all(path.name.startswith(("ledger.db", "outputs")) for path in tmp_path.rglob("*"))
    assert set(ROOT.iterdir()) == here


def test_a_ledger_that_does_not_answer_is_told_by_the_watch_itself(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://lstm:hunter2@127.0.0.1:{free_port()}/ledger"
    with open_webhook() as hook:
        for _ in range(2):
            done = run(
                "monitor", tmp_path, "action=watch", f"registry.ledger={url}", LSTM_TS_ALERT_URLS=hook.url
            )  # fmt: skip
            assert "onnection refused" in mistake(done)
    assert hook.titles == ["[critical] the ledger is unreachable"]
    assert "onnection refused" in hook.received[0]["message"]
    assert "hunter2" not in hook.received[0]["message"]


@pytest.mark.parametrize("job", ["[a]", "true", "''", "' '"])
def test_a_job_that_is_none_does_not_end(tmp_path: Path, job: str) -> None:
    assert "Expected job=nightly" in mistake(run("monitor", tmp_path, "action=ended", f"job={job}", "code=1"))


@pytest.mark.slow
def test_the_failed_end_of_a_job_is_told_until_one_ends_well(tmp_path: Path) -> None:
    def end(*arguments: str) -> list[str]:
        done = run("monitor", tmp_path, "action=ended", *arguments, LSTM_TS_ALERT_URLS=hook.url)
        assert done.returncode == 0, done.stderr
        return hook.titles

    with open_webhook() as hook:
        for _ in range(2):
            assert len(end("job=nightly", "code=2")) == 1
        assert "The run of XAGUSD_nightly has failed with exit code 2" in hook.received[0]["message"]
        assert len(end("job=retraining", "code=0")) == 1, "another job's end changes nothing"
        assert len(end("job=nightly", "code=0")) == 2
    assert "Expected job=nightly" in mistake(run("monitor", tmp_path, "action=ended"))
