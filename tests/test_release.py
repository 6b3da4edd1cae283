"""deploy/release and deploy/smoke by hand: replicas on this machine behind nginx, new code in and out under load."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import socketserver
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
from processes import ROOT, WAIT_S, child, end, free_port, output, wait_for
from serving import Body, make_bars, make_servable
from test_faults import at_most
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
        self.kill_nginx()

    def kill_nginx(self) -> None:
        os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGTERM)
        wait_for(lambda: not (self.folder / "nginx.pid").exists())

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

    for version, words in ("dearer", "it says path[0].price="), ("failing", "it answers /"):
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


STUB = f"""#!{sys.executable} -S
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Stub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "absent" in self.path else 200)
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2].removeprefix("port="))), Stub).serve_forever()
"""


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose versions are of a service that starts at once."""
    program("nginx", "nothing: apt-get install nginx")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("LSTM_TS_API_KEY", "schlüssel\n")
    folder = tmp_path / 'a "place" [1]'
    for version in ("first", "second"):
        (script := folder / "versions" / version / "bin/lstm-ts").parent.mkdir(parents=True)
        script.write_text(STUB)
        script.chmod(0o755)
    (folder / "place.json").write_text(json.dumps({"port": free_port(), "arguments": []}))
    yield (stubs := Place(folder, {}))
    with suppress(FileNotFoundError):  # nothing was started
        stubs.end()


@pytest.fixture
def two(stubs: Place) -> Place:
    for version in ("first", "second"):
        assert stubs.release("start", version) == (0, "")
    return stubs


def test_a_symbol_without_a_forecast_takes_no_replica_from_the_others(two: Place) -> None:
    with httpx.Client(base_url=two.url, trust_env=False) as client:
        for _ in range(3):
            assert client.get("/forecast?symbol=absent").status_code == 503
            assert client.get("/forecast").status_code == 200


def test_a_version_that_is_not_ready_is_given_no_request(two: Place) -> None:
    os.kill(two.state()["new"]["pid"], signal.SIGKILL)
    assert two.release("promote") == (1, "Expected second to be ready, got none that is; see its log, or go back\n")
    assert two.release("back") == (0, "")
    assert two.release("start", "second") == (0, "")
    os.kill(two.state()["old"]["pid"], signal.SIGKILL)
    assert two.release("back") == (1, "Expected first to be ready, got none that is; promote second, which is ready\n")
    assert two.release("promote") == (0, "")
    assert httpx.get(two.url, trust_env=False).status_code == 200


def test_a_process_that_has_a_pid_of_before_a_reboot_is_left_alone(two: Place) -> None:
    assert two.release("back") == (0, "")
    state = two.state()
    os.kill(state["old"]["pid"], signal.SIGKILL)
    two.kill_nginx()
    with child(["sleep", "60"]) as stranger:
        state["old"]["pid"] = stranger.pid
        (two.folder / "state.json").write_text(json.dumps(state))
        (two.folder / "nginx.pid").write_text(f"{stranger.pid}\n")
        assert two.release("start", "second") == (0, "")
        assert two.release("promote") == (0, "")
        assert stranger.poll() is None
    assert httpx.get(two.url, trust_env=False).status_code == 200


def test_a_replica_that_nginx_cannot_lead_to_is_ended(stubs: Place) -> None:
    with socket.create_server(("127.0.0.1", int(stubs.url.rpartition(":")[2]))):
        code, said = stubs.release("start", "first")
    assert code == 1 and said.startswith(f"Expected nginx to take {stubs.folder}/nginx.conf, got: ")
    assert stubs.state() == {}
    (log,) = stubs.folder.glob("first-*.log")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(log.stem.rpartition("-")[2])))


def test_nobody_goes_back_over_a_start_that_failed(two: Place) -> None:
    assert two.release("promote") == (0, "")
    assert two.release("start", "misspelt")[0] == 1
    assert two.release("back") == (0, "")
    assert two.state()["old"]["version"] == "second"


def test_two_releases_at_once_are_one_after_the_other(stubs: Place) -> None:
    with (stubs.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = stubs.release("start", "first")
        assert stubs.release("verdict")[1].startswith("Expected the old version to run"), "which changes nothing"
    assert code == 1 and said.startswith("Expected one change at a time of")
    assert stubs.release("start", "first") == (0, "")


def test_a_start_that_fails_once_nginx_is_told_leads_to_no_ended_replica(
    stubs: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stubs.release("start", "first") == (0, "")
    (nginx := tmp_path / "bin/nginx").parent.mkdir()
    nginx.write_text(f'#!/bin/sh\n{program("nginx", "nginx")} "$@"\nif rm "$0.once" 2> /dev/null; then exit 1; fi\n')
    nginx.chmod(0o755)
    nginx.with_suffix(".once").touch()
    monkeypatch.setenv("PATH", f"{nginx.parent}:{os.environ['PATH']}")
    assert stubs.release("start", "second")[0] == 1
    servers = re.findall(r"server 127\.0\.0\.1:(\d+)", (stubs.folder / "nginx.conf").read_text())
    assert servers == [str(stubs.state()["old"]["port"])]
    assert httpx.get(stubs.url, trust_env=False).status_code == 200


def test_a_way_back_that_is_interrupted_can_be_taken_again(two: Place) -> None:
    assert two.release("promote") == (0, "")
    script = two.folder / "versions/first/bin/lstm-ts"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    with child([sys.executable, RELEASE, "back", f"local:{two.folder}"], start_new_session=True) as process:
        wait_for(lambda: "new" in two.state())
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)
    assert two.state()["before"] == "first"


def test_a_promotion_that_is_interrupted_leaves_no_replica_behind(two: Place) -> None:
    old = two.state()["old"]
    command = [sys.executable, RELEASE, "promote", f"local:{two.folder}"]
    with child(command, start_new_session=True, stderr=subprocess.PIPE) as process:
        wait_for(lambda: "new" not in two.state())
        process.send_signal(signal.SIGINT)
        assert output(process)[1] == "Expected to finish, got an interrupt; repeat it, or go back\n"
        assert process.returncode == 130
    assert two.state()["ending"] == old
    assert two.release("start", "misspelt")[0] == 1
    assert two.state().keys() == {"old"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old["port"]))


def test_a_replica_that_could_not_be_kept_does_not_run(stubs: Place) -> None:
    with at_most(50):  # the state without a replica fits
        assert stubs.release("start", "first")[0] == 1
    (log,) = stubs.folder.glob("first-*.log")
    argument = f"port={log.stem.rpartition('-')[2]}"
    command = ["pgrep", "--full", argument]
    wait_for(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, timeout=WAIT_S).returncode == 1, 20)


def test_a_version_is_a_name_within_its_place(stubs: Place) -> None:
    code, said = stubs.release("start", "../versions/first")
    assert code == 1 and re.fullmatch(r"Expected the version \.\./versions/first in .*\n", said)


@pytest.mark.parametrize("value", ["-3", "nan", "inf"])
def test_a_verdict_takes_some_time(value: str, stubs: Place) -> None:
    code, said = stubs.release("verdict", "--seconds", value)
    assert code == 2 and said.endswith(f"argument --seconds: invalid seconds value: '{value}'\n")


@pytest.mark.parametrize(
    ("answer", "path", "key"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "", ""),
        (b'HTTP/1.0 200 OK\r\n\r\n{"status": "ok"}', "", ""),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "", ""),
        (b"", "/a b", ""),
        (b"", "", "the\nsecret"),
    ],
)
def test_what_does_not_forecast_is_one_sentence_without_the_key(answer: bytes, path: str, key: str) -> None:
    class Other(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, SMOKE, f"http://127.0.0.1:{server.server_address[1]}{path}"]
        environment = os.environ | {"LSTM_TS_API_KEY": key}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S)
        server.shutdown()
    assert done.returncode == 1 and re.fullmatch(r"Expected .*\n", done.stderr)
    assert "secret" not in done.stderr
