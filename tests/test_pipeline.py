"""The schedule on real instances of Dagster: SQLite in a temporary home."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from commands import mistake
from omegaconf import OmegaConf
from processes import ROOT, join, python, wait_for
from test_retrain import SETTINGS

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import MonitorState
from lstm_ts.ledger.monitor_tables import put_states
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.monitoring.versions import RETRAINING
from lstm_ts.pipeline import build_definitions, hold_stores, make_home
from lstm_ts.registry.registry import Registry
from lstm_ts.schedule.assets import AGAIN, SOURCE, TRAINING
from lstm_ts.schedule.plan import make_plan
from lstm_ts.store.bar_store import BarStore

RANGE = "dagster/asset_partition_range_"
SYNTHETIC = "ingest='source.start=2022-01-03 source.end=2022-03-07'"
QUICK = "retries.first_delay_s=0.2"
DAY = timedelta(days=1)
Start = Callable[..., "Pipeline"]


class Pipeline:
    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        self.overrides = [
            f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", "first_day=2022-01-01", *overrides
        ]  # fmt: skip
        self.cfg = compose("pipeline", self.overrides)
        self.definitions = build_definitions(self.overrides)
        home = make_home(folder / "dagster", OmegaConf.to_yaml(self.cfg.instance, resolve=True))
        self.instance = dg.DagsterInstance.from_config(str(home))

    def run(self, job: str, day: str | None = None, until: str | None = None) -> dg.ExecuteInProcessResult:
        """Of a day, or of the days to `until` in one run, as in a backfill."""
        span = {f"{RANGE}start": day, f"{RANGE}end": until} if until else {}
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=None if until else day, tags=span, raise_on_error=False
        )

    def tick(self, schedule: str, at: str) -> dg.RunRequest | str:
        """What it asks for at a time, or why nothing."""
        moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
        context = dg.build_schedule_context(
            self.instance, scheduled_execution_time=moment, repository_def=self.definitions.get_repository_def()
        )
        found = self.definitions.resolve_schedule_def(schedule).evaluate_tick(context)
        assert len(found.run_requests or []) + bool(found.skip_message) == 1
        return found.run_requests[0] if found.run_requests else str(found.skip_message)

    def minutes(self, symbol: str = "XAGUSD") -> pl.DataFrame:
        return BarStore(self.folder / "data/raw" / symbol, BAR_SCHEMA).read()

    def hours(self, symbol: str = "XAGUSD") -> pl.DataFrame:
        return BarStore(self.folder / "data/processed" / symbol, HOURLY_SCHEMA).read()

    def files(self) -> dict[str, int]:
        """Of the stores, with the time of their last change."""
        names = ("manifest.json", ".parquet")
        found = [path for path in (self.folder / "data").rglob("*") if path.name.endswith(names)]
        return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as opened:

        def begin(*overrides: str) -> Pipeline:
            pipeline = Pipeline(tmp_path, *overrides)
            opened.callback(pipeline.instance.dispose)
            return pipeline

        yield begin


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """By default, for two symbols of different sessions; it runs nothing."""
    pipeline = Pipeline(tmp_path_factory.mktemp("scheduled"), "symbols=[XAGUSD,SPY]")
    yield pipeline
    pipeline.instance.dispose()


def told(result: dg.ExecuteInProcessResult, asset: str, symbol: str = "XAGUSD") -> dict[str, Any]:
    """The metadata of an asset's last materialisation."""
    events = result.asset_materializations_for_node(f"{symbol}__{asset}")
    return {key: value.value for key, value in events[-1].metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_failure_data.error_display_string for event in result.get_step_failure_events()]


def retried(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def synthetic_minutes(*overrides: str) -> pl.DataFrame:
    source = construct(compose("ingest", overrides).source)
    return pl.concat([batch.bars for batch in source.read_batches()])


@pytest.mark.slow
def test_days_then_hours_then_a_model_and_all_again_changes_nothing(start: Start) -> None:
    pipeline = start(SYNTHETIC, f'retrain="{" ".join(SETTINGS)}"')
    first = pipeline.run("XAGUSD_bars", "2022-01-03", "2022-03-06")
    truth = synthetic_minutes("source.start=2022-01-03", "source.end=2022-03-07")
    assert pipeline.minutes().equals(truth)
    assert told(first, "minute_bars") == {
        "says": f"{truth.height:,} new and 0 revised bars", "days": "2022-01-03 to 2022-03-06",
        "new": truth.height, "same": 0, "revised": 0, "rejected": 0,
    }  # fmt: skip
    assert told(first, "hourly_bars")["new"] == pipeline.hours().height > 900
    trained = told(pipeline.run("XAGUSD_retraining"), "model")
    with closing(Ledger(pipeline.cfg.registry.ledger)) as ledger:
        (version,) = Registry(pipeline.cfg.registry.uri, ledger).versions("XAGUSD")
    assert trained["says"] == f"registered {version}"
    assert trained["verdict"] == version.tags["verdict"]

    files = pipeline.files()
    again = pipeline.run("XAGUSD_bars", "2022-01-03", "2022-03-06")
    assert told(again, "minute_bars")["says"] == "nothing new"
    assert (told(again, "minute_bars")["same"], told(again, "hourly_bars")["new"]) == (truth.height, 0)
    assert pipeline.files() == files
    assert told(pipeline.run("XAGUSD_retraining"), "model")["says"] == "nothing new, or too early to judge"


@pytest.mark.slow
def test_a_day_is_stored_by_itself(start: Start) -> None:
    pipeline = start(SYNTHETIC)
    assert pipeline.run("XAGUSD_bars", "2022-02-01").success
    truth = synthetic_minutes("source.start=2022-01-03", "source.end=2022-02-02")
    assert pipeline.minutes().equals(truth.filter(pl.col("ts") >= datetime(2022, 2, 1, tzinfo=UTC)))


@pytest.mark.slow
def test_today_ends_with_the_last_closed_minute(start: Start) -> None:
    always = "symbol.session.calendar=24/7"
    began = datetime.now(UTC)
    span = (f"source.start={(began - DAY).date()}", f"source.end={(began + 2 * DAY).date()}")
    pipeline = start(f"ingest='{' '.join(span)}'", always)
    assert pipeline.run("XAGUSD_bars", f"{began - timedelta(minutes=1):%Y-%m-%d}").success
    stored = pipeline.minutes()
    ended = datetime.now(UTC)
    last_closed = (began.replace(second=0, microsecond=0), ended.replace(second=0, microsecond=0))
    first = stored["ts"][0].replace(hour=0, minute=0)
    candidates = [
        synthetic_minutes(*span, always).filter(pl.col("ts").is_between(first, until, closed="left"))
        for until in last_closed
    ]
    assert any(stored.equals(candidate) for candidate in candidates)


@pytest.mark.slow
def test_a_day_without_a_session_asks_no_source_and_says_so(start: Start) -> None:
    pipeline = start("ingest='source=files source.paths=nowhere.csv'")
    result = pipeline.definitions.resolve_job_def("XAGUSD_bars").execute_in_process(
        instance=pipeline.instance, partition_key="2022-02-05", asset_selection=[dg.AssetKey(["XAGUSD", "minute_bars"])]
    )
    assert told(result, "minute_bars")["says"].startswith("CMEGlobex_Silver has no session from Sat 2022-02-05")


@pytest.mark.slow
def test_each_symbol_has_its_own_days(start: Start) -> None:
    pipeline = start(SYNTHETIC, "symbols=[XAGUSD,SPY]")
    assert pipeline.run("SPY_bars", "2022-02-01").success
    first, last = pipeline.minutes("SPY")["ts"][[0, -1]]
    assert (first, last) == (datetime(2022, 2, 1, 14, 30, tzinfo=UTC), datetime(2022, 2, 1, 20, 59, tzinfo=UTC))
    assert [ts.hour for ts in pipeline.hours("SPY")["ts"]] == [15, 16, 17, 18, 19, 20]  # that begin after 14:30
    assert not (pipeline.folder / "data/raw/XAGUSD").exists()
    days = {
        symbol: pipeline.instance.get_materialized_partitions(dg.AssetKey([symbol, "minute_bars"]))
        for symbol in ("XAGUSD", "SPY")
    }
    assert days == {"XAGUSD": set(), "SPY": {"2022-02-01"}}


@pytest.mark.slow
def test_a_source_that_comes_late_is_asked_again(start: Start, tmp_path: Path) -> None:
    late = tmp_path / "late.parquet"
    pipeline = start(f"ingest='source=files source.paths={late}'", QUICK)
    day = synthetic_minutes("source.start=2022-02-01", "source.end=2022-02-02")

    def arrive() -> None:
        run = wait_for(pipeline.instance.get_runs)[0]
        retry = dg.DagsterEventType.STEP_UP_FOR_RETRY
        wait_for(lambda: pipeline.instance.all_logs(run.run_id, of_type=retry))
        day.write_parquet(late.with_suffix(".part"))
        late.with_suffix(".part").rename(late)

    arrival = threading.Thread(target=arrive, daemon=True)
    arrival.start()
    result = pipeline.run("XAGUSD_bars", "2022-02-01")
    join(arrival)
    assert result.success
    assert retried(result) >= 1
    assert pipeline.minutes().equals(day)


@pytest.mark.slow
def test_a_source_that_does_not_come_fails_after_the_last_try(start: Start) -> None:
    pipeline = start("ingest='source=files source.paths=nowhere.csv'", "retries.first_delay_s=0", "retries.most=2")
    result = pipeline.run("XAGUSD_bars", "2022-02-01")
    assert retried(result) == 2
    assert "Expected a file, or a glob that matches one" in failures(result)[0]
    assert not pipeline.files()


@pytest.mark.slow
def test_a_mistake_in_the_configuration_is_not_tried_again(start: Start) -> None:
    pipeline = start("ingest='source.signal=nonsense'", QUICK)
    result = pipeline.run("XAGUSD_bars", "2022-02-01")
    assert retried(result) == 0
    assert "Expected source.signal one of" in failures(result)[0]


@pytest.mark.slow
def test_a_source_that_can_never_be_read_is_not_tried_again(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "no_zone.csv"
    file.write_text("2022.02.01,10:00,22.1,22.2,22.0,22.1,7\n" * 3)
    result = start(f"ingest='source=files source.paths={file}'", QUICK).run("XAGUSD_bars", "2022-02-01")
    assert retried(result) == 0
    assert "Expected source.zone for" in failures(result)[0]


@pytest.mark.slow
def test_hours_without_a_bar_are_named(start: Start) -> None:
    pipeline = start(SYNTHETIC)
    result = pipeline.run("XAGUSD_bars", "2022-02-01")
    (check,) = result.get_asset_check_evaluations()
    assert result.success  # bars are as good as they were
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    found = {key: value.value for key, value in check.metadata.items()}
    assert found["missing"] == found["session_hours"] > 50  # of the last seven days; the bars are years old
    assert len(found["hours"]) == 50


@pytest.mark.slow
def test_minutes_that_make_no_hour_yet_are_no_failure(start: Start, tmp_path: Path) -> None:
    """As in the first hour of the first day."""
    day = synthetic_minutes("source.start=2022-02-01", "source.end=2022-02-02")
    day.head(5).write_parquet(tmp_path / "few.parquet")
    result = start(f"ingest='source=files source.paths={tmp_path}/few.parquet'").run("XAGUSD_bars", "2022-02-01")
    (check,) = result.get_asset_check_evaluations()
    assert result.success
    assert check.metadata["missing"].value == check.metadata["session_hours"].value


def test_hours_that_are_all_there_pass(start: Start) -> None:
    now = datetime.now(UTC)
    days = [f"{now - age * DAY:%Y-%m-%d}" for age in (3, 0)]
    source = f"source.start={days[0]} source.end={(now + 2 * DAY).date()} source.signal=random_walk"
    pipeline = start(f"ingest='{source}'", "symbol.session.calendar=24/7", "look_back_days=2")
    (check,) = pipeline.run("XAGUSD_bars", *days).get_asset_check_evaluations()
    assert check.metadata["missing"].value <= 1  # an hour may close meanwhile, and its last minute have no bar
    assert check.metadata["session_hours"].value == 48
    assert check.passed == (check.metadata["missing"].value == 0)


# Clocks in New York went forward on Sunday 10 March 2024: the week opens at 23:00 UTC before, at 22:00 from then on.
@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2024-03-03T23:04", None),
        ("2024-03-04T00:04", "2024-03-03"),  # the hour that closed is of the day before
        ("2024-03-04T01:04", "2024-03-04"),
        ("2024-03-08T22:04", "2024-03-08"),
        ("2024-03-08T23:04", None),
        ("2024-03-09T12:04", None),
        ("2024-03-10T22:04", None),
        ("2024-03-10T23:04", "2024-03-10"),
        ("2024-03-12T22:04", None),  # the daily break
        ("2024-03-29T16:04", None),  # Good Friday
    ],
)
def test_hours_are_asked_for_once_closed_and_in_the_session_only(scheduled: Pipeline, at: str, day: str | None) -> None:
    found = scheduled.tick("XAGUSD_hourly", at)
    if day is None:
        assert str(found).startswith("CMEGlobex_Silver has no session from ")
    else:
        assert isinstance(found, dg.RunRequest)
        assert found.partition_key == day


def test_each_symbol_is_asked_for_in_the_hours_of_its_own_session(scheduled: Pipeline) -> None:
    night, noon = "2024-03-06T04:04", "2024-03-06T17:04"  # an hour after 22:00 and 11:00 in New York
    assert isinstance(scheduled.tick("XAGUSD_hourly", night), dg.RunRequest)
    assert str(scheduled.tick("SPY_hourly", night)).startswith("NYSE has no session from Wed 2024-03-06 03:00")
    asked = [scheduled.tick(f"{symbol}_hourly", noon) for symbol in ("XAGUSD", "SPY")]
    assert all(isinstance(found, dg.RunRequest) and found.partition_key == "2024-03-06" for found in asked)


def test_each_night_the_last_days_are_asked_for_again_in_one_run(scheduled: Pipeline) -> None:
    found = scheduled.tick("XAGUSD_nightly", "2024-03-12T00:30")
    assert isinstance(found, dg.RunRequest)
    span = {key: value for key, value in found.tags.items() if key.startswith(RANGE)}
    assert span == {f"{RANGE}start": "2024-03-05", f"{RANGE}end": "2024-03-11"}


def test_no_night_asks_for_days_before_the_first(scheduled: Pipeline) -> None:
    found = scheduled.tick("XAGUSD_nightly", "2022-01-05T00:30")
    assert isinstance(found, dg.RunRequest)
    assert found.tags[f"{RANGE}start"] == "2022-01-01"
    assert scheduled.tick("XAGUSD_nightly", "2022-01-01T00:30") == "2022-01-01 is not over"
    assert "no session from Sat 2022-01-01 00:00" in str(scheduled.tick("XAGUSD_nightly", "2022-01-02T00:30"))


def test_a_model_is_trained_each_week(scheduled: Pipeline) -> None:
    assert isinstance(scheduled.tick("XAGUSD_weekly", "2024-03-09T06:00"), dg.RunRequest)
    weekly = scheduled.definitions.resolve_schedule_def("XAGUSD_weekly")
    assert (weekly.job_name, weekly.cron_schedule) == ("XAGUSD_retraining", "0 6 * * 6")


def test_schedules_run_from_the_start(scheduled: Pipeline) -> None:
    schedules = list(scheduled.definitions.schedules or [])
    assert len(schedules) == 6
    assert {schedule.default_status for schedule in schedules} == {dg.DefaultScheduleStatus.RUNNING}


def test_one_source_is_asked_and_one_model_trained_at_a_time_from_the_first_run_on(scheduled: Pipeline) -> None:
    storage = scheduled.instance.event_log_storage
    assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {SOURCE: 1, TRAINING: 1}


def test_a_failed_night_is_an_incident_until_a_night_succeeds(scheduled: Pipeline) -> None:
    def end(kind: str, tags: dict[str, str]) -> list[str]:
        run = dg.DagsterRun(job_name="XAGUSD_bars", tags=tags)
        event = dg.DagsterEvent(f"PIPELINE_{kind}", run.job_name, message="of a test")
        sensor = f"XAGUSD_{'failed' if kind == 'FAILURE' else 'succeeded'}"
        context = dg.build_run_status_sensor_context(sensor, event, scheduled.instance, run)
        scheduled.definitions.resolve_sensor_def(sensor)(context.for_run_failure() if kind == "FAILURE" else context)
        with closing(Ledger(scheduled.cfg.registry.ledger)) as ledger, ledger.transaction() as connection:
            return [incident.subject for incident in read_active(connection)]

    assert end("FAILURE", {AGAIN: "true"}) == end("SUCCESS", {}) == ["XAGUSD_nightly"]
    assert end("SUCCESS", {AGAIN: "true"}) == []


def test_a_retraining_is_started_for_a_request_of_the_last_day_only(scheduled: Pipeline) -> None:
    for hours, started in ((23, True), (25, False)):
        asked_at = datetime.now(UTC) - timedelta(hours=hours)
        with closing(Ledger(scheduled.cfg.registry.ledger)) as ledger, ledger.transaction() as connection:
            put_states(
                connection, [MonitorState("XAGUSD", 0, RETRAINING, asked_at, {"asked_at": asked_at.isoformat()})]
            )
        found = scheduled.definitions.resolve_sensor_def("XAGUSD_drift")()
        assert isinstance(found, dg.RunRequest) == started


@pytest.mark.parametrize(
    ("override", "words"),
    [("cron.hourly=often", "often"), ("ingest='source=files'", r"source\.paths"), ("symbols=[XAG/USD]", "XAG/USD")],
)
def test_a_schedule_that_cannot_be_is_a_mistake_of_the_configuration(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_definitions([override])


def test_each_store_is_locked_where_it_lies(tmp_path: Path) -> None:
    overrides = ["symbols=[XAGUSD,XAUUSD]", f"paths.data={tmp_path}/${{symbol.name}}"]
    hold_stores(make_plan(compose("pipeline", overrides), overrides), "http://127.0.0.1:3000")
    assert {path.parent.name for path in tmp_path.glob("*/*.lock")} == {"XAGUSD", "XAUUSD"}


@pytest.mark.slow
def test_the_command_says_a_mistake_in_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lstm_ts.pipeline", f"paths.outputs={tmp_path}", "retrain='+experiment=nope'"],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert "nope" in mistake(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["lstm_ts.pipeline", "serve.server", "dashboard.server"])
def test_a_port_that_another_has_is_said_before_anything_starts(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", command, f"paths.outputs={tmp_path}", f"port={port}"],
            capture_output=True, text=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
    assert mistake(done).startswith(f"Expected a free port, got 127.0.0.1:{port}: Address already in use")
    assert not list(tmp_path.iterdir())


LEAVES = """
import subprocess, sys
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE).stdout.readline()
"""
ENDS = """
import sys
from lstm_ts.schedule import dagster_process
dagster_process.END_S = 0.3
sys.exit(dagster_process.run_to_its_end(sys.argv[1:], "127.0.0.1", 1))
"""


def test_what_dagster_leaves_ends_with_it_though_it_ignores_sigterm() -> None:
    """What is left would hold the pipe of stderr."""
    command = python("-c", ENDS, sys.executable, "-c", LEAVES)
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30).returncode == 0


ADOPTS = """
import subprocess, sys, time
from ctypes import CDLL
from lstm_ts.schedule import dagster_process
CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
child = subprocess.Popen(["sh", "-c", "sleep 60 &"], process_group=0)
child.wait()
began = time.monotonic()
dagster_process.end_group(child.pid)
sys.exit(time.monotonic() - began > dagster_process.END_S / 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a call of the Linux kernel")
def test_orphans_of_process_1_are_not_waited_for_once_they_have_ended() -> None:
    assert subprocess.run(python("-c", ADOPTS), cwd=ROOT, timeout=30).returncode == 0


@pytest.mark.slow
def test_the_schedule_alone_loads_no_network_library() -> None:
    code = (
        "import sys, lstm_ts.pipeline as p; p.definitions(); print({'torch', 'mlflow', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=60
    )
    assert done.stdout == "set()\n", done.stderr
