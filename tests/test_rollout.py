"""Arms behind a real server: who answers whom, what nobody sees, and when a challenger gets no more requests."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import wait_for
from serving import TSTEPS, Body, Server, frame, registry_of, running, save_model
from test_registry import promote, register

from lstm_ts import http_schema
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.ledger.traffic import TrafficRow, read_traffic
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.artifact import load_forecaster
from serve.traffic import Arm, Traffic, choose_arm

pytestmark = pytest.mark.slow

HALF = Traffic(challenger_share=0.5, shadow=False, guardrails=None)
LONGER = 36
SLOW = 1536


@pytest.fixture(scope="module")
def prepared(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 is champion, 2 its challenger; 3 needs a longer window than theirs, 4 is slow."""
    folder = shutil.copytree(empty, tmp_path_factory.mktemp("prepared"), dirs_exist_ok=True)
    with registry_of(folder) as registry:
        for seed, tsteps, hidden in ((1, TSTEPS, 4), (2, TSTEPS, 4), (3, LONGER, 4), (4, TSTEPS, SLOW)):
            options = {"seed": seed, "tsteps": tsteps, "hidden": hidden}
            model = save_model(folder / "models" / str(seed), hourly_bars, silver, **options)
            register(registry, model)
        promote(registry, 1)
        challenge(folder, 2)
    return folder


def challenge(folder: Path, number: int) -> None:
    with registry_of(folder) as registry:
        registry.promote("XAGUSD", number, alias="challenger", actor="a test", reason="to be tried")


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """Databases of its own; the artifacts stay where they were registered."""
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(prepared / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def served(folder: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(Server(folder, *request.param)) as server:
        wait_for(lambda: server.health().ready and all(w.challenger for w in server.health().workers))
        time.sleep(1)  # until the process that speaks HTTP has looked
        yield server


def ask(server: Server, bars: list[Body], key: str = "") -> http_schema.ForecastReply:
    headers = {"X-API-Key": key} if key else {}
    response = server.client.post("/predict", json={"symbol": "XAGUSD", "bars": bars}, headers=headers)
    assert response.status_code == 200, response.text
    return http_schema.ForecastReply.model_validate_json(response.content)


def logged(folder: Path) -> dict[tuple[str, str], ForecastRow]:
    since = datetime.now(UTC) - timedelta(minutes=5)
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        rows = ledger.forecasts("XAGUSD", since=since, until=since + HOUR)
    return {(row.request_id, row.arm): row for row in rows}


def traffic(folder: Path) -> list[TrafficRow]:
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger, ledger.transaction() as connection:
        return read_traffic(connection, "XAGUSD")


def median(prepared: Path, version: int, bars: list[Body]) -> np.ndarray:
    return load_forecaster(prepared / "models" / str(version)).forecast(frame(bars)).price_HL(0.5)[:, 0]


@pytest.mark.parametrize("served", [("traffic=ab", "workers_per_device=2")], indirect=True)
def test_a_client_keeps_its_arm_and_is_told_which(
    served: Server, prepared: Path, folder: Path, now_bars: list[Body]
) -> None:
    arms = {f"client {n}": choose_arm(f"client {n}", HALF) for n in range(12)}
    assert set(arms.values()) == {Arm.CHAMPION, Arm.CHALLENGER}
    version_of = {Arm.CHAMPION: 1, Arm.CHALLENGER: 2}
    expected = {arm: median(prepared, version, now_bars) for arm, version in version_of.items()}
    for key, arm in [*arms.items(), *arms.items()]:
        reply = ask(served, now_bars, key)
        assert (reply.arm, reply.model.alias, reply.model.version) == (arm, arm, version_of[arm])
        np.testing.assert_allclose([s.price for s in reply.path], expected[arm], rtol=1e-6)
    nameless = [ask(served, now_bars) for _ in range(30)]
    assert [reply.arm for reply in nameless] == [choose_arm(reply.request_id, HALF) for reply in nameless]
    wait_for(lambda: {(reply.request_id, reply.arm) for reply in nameless} <= logged(folder).keys())
    seconds = [reply for reply in nameless if reply.arm == "challenger"]
    assert {logged(folder)[reply.request_id, "challenger"].version for reply in seconds} == {2}
    counted = served.metric(
        'lstm_ts_requests_total{arm="challenger",route="/predict",status="200",symbol="XAGUSD",version="2"}'
    )
    assert counted == len(seconds) + 2 * list(arms.values()).count(Arm.CHALLENGER)
    info = http_schema.Info.model_validate_json(served.client.get("/info").content)
    assert [(w.model and w.model.version, w.challenger and w.challenger.version) for w in info.workers] == [(1, 2)] * 2
    with registry_of(folder) as registry:
        promote(registry, 2)  # it is both now, and one arm is left
    wait_for(lambda: all(w.model and w.model.version == 2 and not w.challenger for w in served.health().workers))
    assert {(ask(served, now_bars, key).arm, ask(served, now_bars, key).model.version) for key in arms} == {
        ("champion", 2)
    }


@pytest.mark.parametrize("served", [("traffic=shadow",)], indirect=True)
def test_a_shadow_is_kept_and_not_seen(served: Server, prepared: Path, folder: Path, now_bars: list[Body]) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ask(served, now_bars), range(20)))
    assert {(reply.arm, reply.model.version) for reply in replies} == {("champion", 1)}
    both = {(reply.request_id, arm) for reply in replies for arm in ("champion", "shadow")}
    wait_for(lambda: both <= logged(folder).keys())
    rows = logged(folder)
    for reply in replies:
        shadow = rows[reply.request_id, "shadow"]
        assert shadow.version == 2
        assert shadow.input_sha256 == rows[reply.request_id, "champion"].input_sha256
        np.testing.assert_allclose(shadow.path.median_H, median(prepared, 2, now_bars), rtol=1e-6)
    wait_for(lambda: served.metric('lstm_ts_shadow_total{outcome="made"}') == 20)
    [row] = traffic(folder)
    assert (row.service, row.to_challenger, row.stopped) == (served.client.base_url.netloc.decode(), True, None)


CANARY = ("traffic=canary", "traffic.challenger_share=0.5", "traffic.guardrails.min_requests=10")


@pytest.mark.parametrize("served", [(*CANARY, "api_servers=2")], indirect=True)
def test_a_canary_that_fails_harms_no_client_and_is_stopped(served: Server, folder: Path, now_bars: list[Body]) -> None:
    """The challenger refuses windows that the champion answers."""
    challenge(folder, 3)
    wait_for(lambda: [w.challenger and w.challenger.version for w in served.health().workers] == [3])
    time.sleep(1)
    short = now_bars[-TSTEPS:]
    assert {ask(served, short).model.version for _ in range(15)} == {1}
    for _ in range(200):
        ask(served, short)
        if served.metric('lstm_ts_challenger_stopped_total{version="3"}') == 2:
            break
        time.sleep(0.02)
    assert served.metric('lstm_ts_challenger_stopped_total{version="3"}') == 2  # in both processes that speak HTTP
    assert "Stopped the challenger, version 3:" in served.log.read_text()
    assert "of the challenger's" in served.log.read_text()
    assert served.metric('lstm_ts_fell_back_total{version="3"}') >= 10
    assert {ask(served, now_bars).arm for _ in range(20)} == {"champion"}  # long enough for it, and it is not asked
    challenge(folder, 2)
    wait_for(lambda: {ask(served, short).model.version for _ in range(20)} == {1, 2})


@pytest.mark.parametrize(
    ("served", "arm"),
    [((*CANARY, "traffic.guardrails.slow_ms=8"), "challenger"),
     (("traffic=shadow", *CANARY[2:], "traffic.guardrails.slow_ms=8"), "shadow")],
    indirect=["served"],
)  # fmt: skip
def test_a_slow_challenger_is_stopped_though_the_champion_waits_behind_it(
    served: Server, folder: Path, now_bars: list[Body], arm: str
) -> None:
    challenge(folder, 4)
    wait_for(lambda: [w.challenger and w.challenger.version for w in served.health().workers] == [4])
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            list(pool.map(lambda _: ask(served, now_bars), range(8)))
            if served.metric('lstm_ts_challenger_stopped_total{version="4"}'):
                break
    assert "of the challenger's" in served.log.read_text()
    assert "took longer than 8 ms" in served.log.read_text()
    wait_for(lambda: traffic(folder)[0].stopped == 4)
    assert "took longer than 8 ms" in traffic(folder)[0].reason
    wait_for(lambda: logged(folder))
    assert arm in {arm for _, arm in logged(folder)}


@pytest.mark.parametrize("served", [("traffic=shadow", "answer_s=80", "health_s=80")], indirect=True)
def test_what_a_killed_worker_had_begun_is_answered_at_once_and_the_rest_by_the_next(
    served: Server, now_bars: list[Body]
) -> None:
    for _ in range(5):
        wait_for(lambda: served.health().ready)
        (worker,) = served.workers()
        os.kill(worker, signal.SIGSTOP)
        with ThreadPoolExecutor(5) as pool:
            asked = [pool.submit(served.predict, {"symbol": "XAGUSD", "bars": now_bars}) for _ in range(5)]
            wait_for(lambda: served.metric("lstm_ts_requests_waiting") == 5)
            os.kill(worker, signal.SIGKILL)
            assert wait(asked, 20, FIRST_COMPLETED).done  # not after answer_s: nobody waits for a dead worker
            codes = sorted(answer.result().status_code for answer in asked)
        if codes != [200] * 5:  # a ping came first: no request had begun
            break
    assert codes == [200, 200, 200, 200, 503]
