"""What the monitor wrote into the ledger, in a real service's replies and metrics."""

import math
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from processes import wait_for
from serving import Body, Server, make_servable, move_ledger, registry_of, running
from test_alerts import DRIFT as DRIFTED
from test_alerts import alerts, good
from test_configs import compose
from test_ledger import DECISION
from test_registry import promote, register

from lstm_ts.configuration.parts import construct
from lstm_ts.http_schema import Skill
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import MonitorState, Score
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.challenge import CHALLENGE, Challenge
from lstm_ts.monitoring.checks import measure_skill
from lstm_ts.monitoring.concept_drift import Detector, DriftReference
from lstm_ts.monitoring.daily import sum_days
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.live_skill import compute_live_skill, describe, to_json
from lstm_ts.monitoring.run import MonitorRun
from lstm_ts.monitoring.verdict import ChallengeVerdict, Evidence, Record, VerdictState
from lstm_ts.monitoring.versions import DRIFT, WatchedVersion
from lstm_ts.registry.registry import Registry

NOW = datetime.now(UTC).replace(microsecond=0)
SOON_S = 10  # a busy machine's, for what takes poll_s, half a second for the servers of tests
SETTINGS = construct(compose("train", "+live_skill=default").live_skill)


@pytest.fixture(scope="module")
def folder(
    empty: Path,
    models: list[Path],
    hourly_bars: pl.DataFrame,
    silver: Session,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two versions, the first of them champion, and bars of long ago."""
    served = tmp_path_factory.mktemp("served")
    return make_servable(served, empty, hourly_bars, silver, *models, source="synthetic test hours")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(Server(folder)) as server:
        wait_for(lambda: server.health().ready)
        yield server


def make_scores(version: int, *, days: int, model_loss: float, steps: tuple[int, ...] = (1, 6)) -> list[Score]:
    """One for each hour of the last days; persistence loses 2 bps, har 1, and 9 of 10 outcomes lie inside."""
    rng, found = np.random.default_rng(version), []
    for i in range(days * 24):
        origin_ts = (NOW - timedelta(days=days)).replace(hour=0, minute=0, second=0) + i * HOUR
        loss = 1e-4 * math.exp(rng.normal(0, 0.1))
        losses = {"model": model_loss * loss, "persistence": 2 * loss, "har": loss}
        y = 0.02 if i % 10 == 0 else 0.0
        for step in steps:
            numbers = {"y": y, "low": -0.01, "high": 0.01, "levels_below": 5, "hour_of_day": i % 24}
            found.append(Score("XAGUSD", version, origin_ts, step, NOW, losses=losses, volatility="low", **numbers))
    return found


def make_run(folder: Path, ledger: Ledger, registry: Registry, now: datetime = NOW) -> MonitorRun:
    symbol = construct(compose("monitor").symbol)
    return MonitorRun(ledger, registry, symbol, "XAGUSD", pl.DataFrame(schema=HOURLY_SCHEMA), now, now, "")


def measure(folder: Path, version: int, scores: list[Score], now: datetime = NOW) -> None:
    """As the monitor does after it has scored."""
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        with ledger.transaction() as connection:
            tables.put_daily_scores(connection, sum_days(scores))
        run = make_run(folder, ledger, Registry(f"sqlite:///{folder}/mlflow.db", ledger), now)
        measure_skill(run, WatchedVersion("champion", replace(DECISION, version=version)), SETTINGS, None)


def ask(server: Server, bars: list[Body]) -> tuple[int, Skill | None, str | None]:
    reply = server.ask(bars)
    return reply.model.version, reply.skill, reply.skill_reason


def series(server: Server, start: str) -> dict[str, float]:
    """By labels, without the process that has them."""
    lines = server.client.get("/metrics").text.splitlines()
    found = [line.rsplit(" ", 1) for line in lines if line.startswith(start)]
    return {re.sub(r'pid="\d+",', "", labels): float(value) for labels, value in found}


def test_a_reply_tells_the_skill_of_its_version_once_outcomes_are_scored_and_of_no_other(
    server: Server, folder: Path, now_bars: list[Body]
) -> None:
    wait_for(lambda: "no outcome of version 1" in str(ask(server, now_bars)[2]))
    assert ask(server, now_bars) == (
        1,
        None,
        "no outcome of version 1 is scored yet; python -m lstm_ts.monitor symbol=XAGUSD does so after each session "
        "hour",
    )
    assert not series(server, "lstm_ts_live_skill{")
    scores = make_scores(1, days=25, model_loss=0.99)
    measure(folder, 1, scores)
    wait_for(lambda: ask(server, now_bars)[1], SOON_S)
    version, skill, reason = ask(server, now_bars)
    assert (version, reason) == (1, None)
    assert skill and (skill.measured_at, skill.confidence) == (NOW, 0.95)
    assert [step.step for step in skill.steps] == [1, 6]
    first = skill.steps[0]
    assert (first.outcomes, first.best, first.since) == (25 * 24, "har", (NOW - timedelta(days=25)).date())
    assert (first.over_best.skill, first.over_persistence.skill) == pytest.approx((0.01, 0.505))
    assert first.over_best.lower is not None and first.over_best.upper is not None
    assert first.over_best.lower <= first.over_best.skill <= first.over_best.upper
    assert first.over_persistence.lower and first.over_persistence.lower <= 0.505
    best = 'lstm_ts_live_skill{name="XAGUSD",over="best",step="6",version="1"}'
    wait_for(lambda: best in series(server, "lstm_ts_live_skill{"), SOON_S)
    assert series(server, "lstm_ts_live_skill{")[best] == pytest.approx(0.01)
    assert len(series(server, "lstm_ts_live_skill_lower{")) == len(series(server, "lstm_ts_live_skill_upper{")) == 4
    assert set(series(server, "lstm_ts_outcomes{").values()) == {600}
    assert list(series(server, "lstm_ts_coverage_80{").values()) == pytest.approx([0.9, 0.9])
    with registry_of(folder) as registry:
        promote(registry, 2)
    seen = []
    wait_for(lambda: seen.append(ask(server, now_bars)) or seen[-1][0] == 2)
    assert all(skill is None for version, skill, _ in seen if version == 2)
    assert all(skill for version, skill, _ in seen if version == 1)
    wait_for(lambda: not series(server, "lstm_ts_live_skill{"), SOON_S)
    assert not series(server, "lstm_ts_coverage_80{")
    with registry_of(folder) as registry:
        promote(registry, 1)
    wait_for(lambda: ask(server, now_bars)[:2] == (1, skill))


def test_few_days_have_a_skill_without_an_interval(server: Server, folder: Path, now_bars: list[Body]) -> None:
    with registry_of(folder) as registry:
        promote(registry, 2)
    measure(folder, 2, make_scores(2, days=3, model_loss=1.1, steps=(1,)), NOW + HOUR)
    wait_for(lambda: ask(server, now_bars)[0] == 2 and ask(server, now_bars)[1])
    _, skill, _ = ask(server, now_bars)
    assert skill and skill.steps[0].over_best.skill == pytest.approx(-0.1)
    assert (skill.steps[0].over_best.lower, skill.steps[0].over_best.upper) == (None, None)
    wait_for(lambda: any('version="2"' in name for name in series(server, "lstm_ts_live_skill{")), SOON_S)
    assert not series(server, "lstm_ts_live_skill_lower{")
    with registry_of(folder) as registry:
        promote(registry, 1)
    wait_for(lambda: ask(server, now_bars)[0] == 1)


def test_a_ledger_that_is_away_leaves_what_was_read_and_the_reply_says_so(
    server: Server, folder: Path, now_bars: list[Body]
) -> None:
    measure(folder, 1, make_scores(1, days=25, model_loss=0.99))
    of_1 = 'lstm_ts_live_skill{name="XAGUSD",over="best",step="1",version="1"}'  # HTTP process and worker each read it
    wait_for(lambda: ask(server, now_bars)[1] and round(series(server, of_1).get(of_1, 0), 3) == 0.01)
    before, file, away = ask(server, now_bars)[1], folder / "ledger.db", folder / "ledger.away"
    skills = series(server, "lstm_ts_live_skill{")
    move_ledger(file, away)
    wait_for(lambda: ask(server, now_bars)[2], SOON_S)
    _, skill, reason = ask(server, now_bars)
    assert skill == before
    assert reason and reason.startswith("it may not be the newest: Expected the ledger sqlite:///")
    wait_for(lambda: series(server, "lstm_ts_ledger_read_age_seconds")["lstm_ts_ledger_read_age_seconds"] > 1)
    assert series(server, "lstm_ts_live_skill{") == skills
    shutil.copy(away, file)
    with closing(Ledger(f"sqlite:///{file}")):  # a copy is the same ledger
        wait_for(lambda: ask(server, now_bars)[2] is None, SOON_S)
    move_ledger(file, folder / "ledger.copy")
    Ledger(f"sqlite:///{file}").close()
    wait_for(lambda: "as it was opened, got another one" in str(ask(server, now_bars)[2]), SOON_S)
    assert ask(server, now_bars)[1] == before
    move_ledger(file, folder / "ledger.other")
    away.rename(file)
    wait_for(lambda: ask(server, now_bars)[2] is None, SOON_S)


def test_a_worker_that_starts_without_the_ledger_says_why_there_is_no_skill(
    folder: Path, server: Server, now_bars: list[Body]
) -> None:
    move_ledger(folder / "ledger.db", folder / "ledger.away")
    try:
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: not server.health().ready)
        wait_for(lambda: server.health().ready)
        wait_for(lambda: "got no file there" in str(ask(server, now_bars)[2]))
        assert ask(server, now_bars)[1] is None
    finally:
        (folder / "ledger.away").rename(folder / "ledger.db")
    wait_for(lambda: ask(server, now_bars)[1], SOON_S)


def test_evidence_of_drift_alerts_and_heartbeats_are_shown(server: Server, folder: Path) -> None:
    detector = Detector(
        DriftReference("har", 1, 500, 0.0, 0.1, 0.01), construct(compose("train", "+drift=default").drift)
    )
    state = detector.start()
    for d in (0.05, 0.04, math.nan, 0.06):
        state = detector.update(state, d)
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        with ledger.transaction() as connection:
            tables.put_states(connection, [MonitorState("XAGUSD", 1, DRIFT, NOW, asdict(state))])
            tables.put_states(connection, [MonitorState("XAGUSD", 7, DRIFT, NOW, asdict(state))])
        report(ledger, alerts(), [DRIFTED], now=NOW - HOUR)
        ledger.record_heartbeat(Heartbeat("monitor", "XAGUSD", NOW - HOUR, "9 findings"))
    shown = ("lstm_ts_heartbeat_age_seconds", "lstm_ts_drift_", "lstm_ts_alerts_open")
    wait_for(lambda: all(series(server, name) for name in shown), SOON_S)
    version = '{name="XAGUSD",version="1"}'
    evidence, threshold = state.evidence
    assert series(server, "lstm_ts_drift_") == {
        f"lstm_ts_drift_evidence{version}": pytest.approx(evidence),
        f"lstm_ts_drift_threshold{version}": pytest.approx(threshold),
    }
    opened = 'lstm_ts_alerts_open{rule="concept_drift",severity="warning",subject="XAGUSD"}'
    assert series(server, "lstm_ts_alerts_open") == {opened: 1}
    (age_s,) = series(server, 'lstm_ts_heartbeat_age_seconds{component="monitor",subject="XAGUSD"}').values()
    assert 3600 <= age_s < 7200
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        report(ledger, alerts(), [good(DRIFTED)], now=NOW)
    wait_for(lambda: not series(server, "lstm_ts_alerts_open"), SOON_S)


def test_where_the_challenger_stands_is_shown_whatever_the_traffic(server: Server, folder: Path) -> None:
    challenge = Challenge(
        champion=1,
        since=NOW,
        last_pair=NOW,
        state=VerdictState(0.1, Record(9, 0.1, (0.2,), (0.3,)), Record(5, 0.1, (0.2,), (0.3,)), (1.0,)),
        verdict=ChallengeVerdict.RUNNING,
        sentence="Undecided.",
        evidence=Evidence(0.5, 0.6, 0.7, 0.8, -0.9, needed=1.3, needed_live=1.0),
    )
    measure(folder, 2, make_scores(2, days=3, model_loss=1.1, steps=(1,)), NOW + HOUR)
    assert not series(server, "lstm_ts_challenge_")
    with registry_of(folder) as registry, closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        registry.promote("XAGUSD", 2, alias="challenger", actor="a test", reason="it may be better")
        with ledger.transaction() as connection:
            tables.put_states(connection, [MonitorState("XAGUSD", 2, CHALLENGE, NOW, challenge.to_json())])
    wait_for(lambda: series(server, "lstm_ts_challenge_"), SOON_S)
    labels = 'champion="1",name="XAGUSD",{}="{}",version="2"'
    shown = {
        "evidence": {"harm": 0.5, "better": 0.6, "no_worse": 0.7, "better_live": 0.8, "no_worse_live": -0.9},
        "needed": {"harm": 1.3, "better": 1.3, "no_worse": 1.3, "better_live": 1.0, "no_worse_live": 1.0},
    }
    for name, values in shown.items():
        its = {f"lstm_ts_challenge_{name}{{{labels.format('of', kind)}}}": value for kind, value in values.items()}
        assert series(server, f"lstm_ts_challenge_{name}") == its
    assert any('version="2"' in name for name in series(server, "lstm_ts_outcomes{"))
    verdict = f"lstm_ts_challenge_verdict{{{labels.format('verdict', 'running')}}}"
    assert series(server, "lstm_ts_challenge_verdict") == {verdict: 1}
    with registry_of(folder) as registry:
        registry.release("XAGUSD", 2, actor="a test", reason="it is not")
    wait_for(lambda: not series(server, "lstm_ts_challenge_"), SOON_S)


def test_the_silence_of_the_monitor_is_told_without_closed_hours(server: Server, folder: Path, silver: Session) -> None:
    run_at = NOW - timedelta(days=6)
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        ledger.record_heartbeat(Heartbeat("monitor", "XAGUSD", run_at, "9 findings"))
        ledger.record_heartbeat(Heartbeat("monitor", "XAUUSD", NOW, "of another symbol"))
    name, open_s = 'lstm_ts_monitor_session_age_seconds{symbol="XAGUSD"}', silver.time_open(run_at, NOW).total_seconds()
    wait_for(lambda: series(server, name).get(name, 0) >= open_s, SOON_S)
    open_s = silver.time_open(run_at, datetime.now(UTC)).total_seconds()  # NOW is as long ago as this module has run
    assert series(server, "lstm_ts_monitor_session_age_seconds") == {name: pytest.approx(open_s, abs=120)}


def test_the_age_of_the_last_bar_is_told_with_and_without_closed_hours(
    server: Server, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    closed_at = hourly_bars["ts"][-1] + HOUR
    wait_for(lambda: series(server, "lstm_ts_last_bar_session_age_seconds"))
    (age_s,) = series(server, 'lstm_ts_last_bar_age_seconds{symbol="XAGUSD"}').values()
    (open_s,) = series(server, 'lstm_ts_last_bar_session_age_seconds{symbol="XAGUSD"}').values()
    (is_open,) = series(server, 'lstm_ts_session_open{symbol="XAGUSD"}').values()
    now = datetime.now(UTC)
    assert age_s == pytest.approx((now - closed_at).total_seconds(), abs=120)
    assert open_s == pytest.approx(silver.time_open(now - timedelta(days=31), now).total_seconds(), abs=120)
    assert is_open in (0, 1)


def test_each_process_tells_what_it_needs(server: Server) -> None:
    (worker,) = server.workers()
    wait_for(
        lambda: f'lstm_ts_process_open_fds{{pid="{worker}",process="worker"}}' in server.client.get("/metrics").text
    )
    memory = psutil.Process(worker).memory_info().rss
    text = f'lstm_ts_process_resident_memory_bytes{{pid="{worker}",process="worker"}}'
    assert server.metric(text) == pytest.approx(memory, rel=0.3)
    processes = ("main", "http", "worker", "registry")
    kinds = {f'lstm_ts_process_resident_memory_bytes{{process="{kind}"}}' for kind in processes}
    assert set(series(server, "lstm_ts_process_resident_memory_bytes")) == kinds
    for kind in processes:
        used_s = f'lstm_ts_process_cpu_seconds_total{{process="{kind}"}}'
        assert 0 < series(server, "lstm_ts_process_cpu_seconds_total")[used_s] < 600
    most = series(server, "lstm_ts_process_max_fds")
    assert all(
        0 < count < most[name.replace("open", "max")]
        for name, count in series(server, "lstm_ts_process_open_fds").items()
    )
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not server.health().ready)
    wait_for(lambda: server.health().ready)
    assert f'pid="{worker}"' not in server.client.get("/metrics").text


@pytest.mark.slow
def test_live_skill_is_in_the_versions_run_a_point_for_each_day_that_is_over(
    empty: Path, models: list[Path], tmp_path: Path
) -> None:
    from mlflow import MlflowClient  # after ours, which sets what it reads while it is imported

    folder = Path(shutil.copytree(empty, tmp_path / "run"))
    with registry_of(folder) as registry:
        register(registry, models[0])
        run_id = registry.version("XAGUSD", 1).run_id
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")

    def history(key: str) -> list[tuple[int, float]]:
        return [(each.step, each.value) for each in client.get_metric_history(run_id, key)]

    count = 300  # days that are caught up with: more points than MLflow takes in one call
    measure(folder, 1, make_scores(1, days=count, model_loss=0.99))
    today = (NOW.date() - date(1970, 1, 1)).days
    for key in ("live_pinball_1h_bps", "live_pinball_6h_bps", "live_skill_best_1h", "live_skill_best_6h"):
        assert [step for step, _ in history(key)] == list(range(today - count, today))
    assert [value for _, value in history("live_skill_best_1h")] == pytest.approx([0.01] * count)
    stamps = [metric.timestamp for metric in client.get_metric_history(run_id, "live_skill_best_1h")]
    assert stamps[-1] == 86_400_000 * (today - 1)
    measure(folder, 1, make_scores(1, days=count, model_loss=0.9), NOW + timedelta(minutes=1))
    assert len(history("live_skill_best_1h")) == count
    again = datetime.combine(NOW.date() + timedelta(days=1), time(), UTC)
    next_day = make_scores(1, days=1, model_loss=0.5)
    later = [replace(score, origin_ts=score.origin_ts + timedelta(days=1)) for score in next_day]
    measure(folder, 1, later, again)
    *_, (step, skill) = history("live_skill_best_1h")
    assert (step, len(history("live_skill_best_1h"))) == (today, count + 1)
    assert skill == pytest.approx(0.1 + 0.4 / (count + 1), abs=1e-3)
    with registry_of(folder) as registry:
        assert registry.metrics(registry.version("XAGUSD", 1))["live_skill_best_1h"] == skill


def test_a_registry_that_is_away_costs_no_skill(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(folder / "ledger.db", tmp_path / "ledger.db")
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        shutil.copy(folder / "mlflow.db", tmp_path / "mlflow.db")
        run = make_run(tmp_path, ledger, Registry(f"sqlite:///{tmp_path}/mlflow.db", ledger))
        (tmp_path / "mlflow.db").write_bytes(b"no database")
        with ledger.transaction() as connection:
            tables.put_daily_scores(connection, sum_days(make_scores(9, days=25, model_loss=0.99)))
        finding = measure_skill(run, WatchedVersion("champion", replace(DECISION, version=9)), SETTINGS, None)
        with ledger.transaction() as connection:
            assert tables.read_states(connection, "XAGUSD", 9)["live_skill"]["logged_until"] == ""
    assert "live skill 1 hour ahead" in finding.sentence
    assert "is not in MLflow yet: Expected an answer from the registry" in caplog.text


@pytest.mark.parametrize(("alpha", "words"), [(0.05, "(95 %: "), (0.1, "(90 %: "), (0.005, "(99.5 %: ")])
def test_a_sentence_tells_the_confidence_that_is_configured(alpha: float, words: str) -> None:
    settings = replace(SETTINGS, alpha=alpha)
    skills = compute_live_skill(sum_days(make_scores(1, days=25, model_loss=0.99)), settings)
    assert words in describe(skills[0])
    assert to_json(skills)["confidence"] == 1 - alpha
