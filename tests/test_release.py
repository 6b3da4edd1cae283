"""deploy/release and deploy/smoke by hand: replicas on this machine behind nginx, new code in and out under load."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from processes import ROOT, WAIT_S, child, end, free_port
from serving import Body, make_bars, make_servable, wait_for
from test_prometheus import program

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import Session

RELEASE, SMOKE = ROOT / "deploy/release", ROOT / "deploy/smoke"
REPLY = "serve/reply.py"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
PAUSE_S = 0.05  # below nginx's 50 requests a second of one address


class Place:
    """`local:FOLDER`, and a client of it that never stops asking."""

    def __init__(self, folder: Path, window: Body) -> None:
        self.folder, self._window = folder, window
        self.statuses, self._done = Counter[int](), threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.url = f"http://127.0.0.1:{json.loads((folder / 'place.json').read_text())['port']}"

    def release(self, action: str, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, RELEASE, action, f"local:{self.folder}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * WAIT_S)
        return done.returncode, done.stdout + done.stderr

    def state(self) -> Any:
        return json.loads((self.folder / "state.json").read_text())

    def begin(self) -> None:
        self._thread.start()
        wait_for(lambda: self.statuses[200] > 10)

    def await_answers(self, count: int) -> None:
        before = self.statuses.total()
        wait_for(lambda: self.statuses.total() > before + count)

    def stop_asking(self) -> None:
        self._done.set()
        if self._thread.ident:
            self._thread.join(WAIT_S)

    @contextmanager
    def started_again(self, replica: dict[str, Any]) -> Iterator[httpx.Client]:
        """A killed replica, as a supervisor starts it."""
        program = self.folder / "versions" / replica["version"] / "bin/lstm-ts"
        arguments = json.loads((self.folder / "place.json").read_text())["arguments"]
        with child([program, "serve", f"port={replica['port']}", *arguments]) as process:
            with httpx.Client(base_url=f"http://127.0.0.1:{replica['port']}", trust_env=False) as client:
                wait_for(lambda: client.get("/health").status_code == 200)
                yield client
            end(process)

    def end(self) -> None:
        self.stop_asking()
        for replica in self.state().values():
            if isinstance(replica, dict):
                with suppress(ProcessLookupError):
                    os.kill(replica["pid"], signal.SIGTERM)
        os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGTERM)

    def _ask(self) -> None:
        once = httpx.Limits(max_keepalive_connections=0)  # nginx closes idle connections when it is told of a replica
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False, limits=once) as client:
            while not self._done.is_set():
                try:
                    self.statuses[client.post("/predict", json=self._window).status_code] += 1
                except httpx.HTTPError:
                    self.statuses[0] += 1
                time.sleep(PAUSE_S)


def install(folder: Path, version: str, *changes: tuple[str, str, str]) -> None:
    """A version of the code: this one, or a copy of it with lines changed."""
    source = ROOT
    if changes:
        source = folder / "source" / version
        for package in ("lstm_ts", "serve"):
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        for path, old, new in changes:
            text = (source / path).read_text()
            assert old in text
            (source / path).write_text(text.replace(old, new, 1))
    script = folder / "versions" / version / "bin/lstm-ts"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\ncd {source} && exec {sys.executable} -m lstm_ts "$@"\n')
    script.chmod(0o755)


@pytest.fixture
def place(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path) -> Iterator[Place]:
    program("nginx", "nothing: apt-get install nginx")
    folder = make_servable(tmp_path, empty, hourly_bars, silver)
    where = [f"paths.data={folder}/data", f"paths.outputs={folder}"]
    where += [f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db"]
    (folder / "place.json").write_text(json.dumps({"port": free_port(), "arguments": [*where, "poll_s=0.5"]}))
    install(folder, "first")
    place = Place(folder, {"symbol": "XAGUSD", "bars": make_bars(silver)})
    code, said = place.release("start", "first")
    assert code == 0, said
    try:
        place.begin()
        yield place
    finally:
        place.end()


@pytest.mark.slow
def test_good_code_comes_in_and_bad_code_goes_out_and_no_request_is_lost(place: Place) -> None:
    install(place.folder, "good")
    line = "prices_HQ = forecast.price_HL(*forecast.levels).tolist()"
    install(place.folder, "dearer", (REPLY, '"price": price,', '"price": 1.01 * price,'))
    install(place.folder, "failing", (REPLY, line, f"if time.time() % 5 < 1: raise OSError\n    {line}"))
    install(place.folder, "broken", ("serve/startup.py", "from hydra", "from hydraulics"))

    assert place.release("start", "good") == (0, "")
    assert subprocess.run([sys.executable, SMOKE, place.url], timeout=WAIT_S).returncode == 0
    assert place.release("verdict", "--seconds", "5") == (0, "Nothing says that the new version is worse\n")
    assert place.release("promote") == (0, "")
    assert (place.state()["old"]["version"], place.state()["before"]) == ("good", "first")

    code, said = place.release("start", "broken")
    assert code == 1 and "Expected broken to be ready" in said

    for version, words in ("dearer", "it forecasts"), ("failing", "it answers a window with 500"):
        assert place.release("start", version) == (0, "")
        code, said = place.release("verdict", "--seconds", "10")
        assert code == 1 and f"The new version is bad: {words}" in said
        assert place.release("back") == (0, "")
        assert "new" not in place.state()

    assert place.release("back") == (0, ""), "where nothing was started since, nothing happens"
    assert place.state()["old"]["version"] == "good"
    assert place.release("start", "first") == (0, "")
    assert place.release("promote") == (0, "")
    assert place.release("back") == (0, "")
    assert place.state()["old"]["version"] == "good"
    failed = {status: count for status, count in place.statuses.items() if status not in (200, 500)}
    assert failed == {}, "500 is what the failing code has said itself"
    assert place.statuses[200] > 100


@pytest.mark.slow
def test_a_killed_replica_costs_no_client_its_answer_and_what_it_had_not_written_is_counted(place: Place) -> None:
    install(place.folder, "second")
    assert place.release("start", "second") == (0, "")
    place.await_answers(20)  # nginx's workers that know of one replica have ended
    killed = place.state()["old"]
    os.kill(killed["pid"], signal.SIGKILL)
    place.await_answers(40)
    place.stop_asking()
    assert set(place.statuses) == {200}
    time.sleep(1)  # its figures are looked at five times a second
    other = f"http://127.0.0.1:{place.state()['new']['port']}/metrics"
    wait_for(lambda: "\nlstm_ts_forecast_log_depth 0.0\n" in httpx.get(other, trust_env=False).text)
    with closing(Ledger(f"sqlite:///{place.folder}/ledger.db", make=False)) as ledger:
        missing = place.statuses.total() - len(ledger.forecasts("XAGUSD", since=LONG_AGO, until=datetime.now(UTC)))
    assert missing <= 1 / PAUSE_S, "a second's forecasts"
    with place.started_again(killed) as client:
        (lost,) = re.findall(r'^lstm_ts_forecast_log_total\{outcome="lost"\} (\S+)', client.get("/metrics").text, re.M)
    assert missing <= float(lost) <= missing + 1, "the other replica may have made one anew"


@pytest.mark.parametrize("content", [None, "{", "[]", "[1]", '{"port": 1}', '{"port": "1", "arguments": []}'])
def test_a_place_that_is_none_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "place.json").write_text(content)
    done = subprocess.run(
        [sys.executable, RELEASE, "start", f"local:{tmp_path}", "1"], capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 1 and re.fullmatch(r"Expected .*place\.json.*\n", done.stderr)
