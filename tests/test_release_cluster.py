"""deploy/release in a cluster, which a stub of kubectl plays; its pods are servers on loopback."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, WAIT_S
from test_prometheus import program

STUB = Path(__file__).with_name("kubectl_stub.py")
pytestmark = pytest.mark.slow
KEY = "a key"
FIGURES = """lstm_ts_requests_total{{route="/predict",status="200"}} {good}
lstm_ts_requests_total{{route="/predict",status="500"}} {bad}
lstm_ts_request_seconds_count{{route="/predict"}} {all}
lstm_ts_request_seconds_bucket{{le="0.5",route="/predict"}} {all}
"""
STEP = {"price": 20.0, "quantiles": {"0.1": 19.0, "0.9": 21.0}, "target_ts": "2026-01-05T15:00:00Z"}
ROUTE = {"metadata": {"name": "serve"}, "spec": {"rules": [{"backendRefs": [{"weight": 100}, {"weight": 0}]}]}}


class Pod(ThreadingHTTPServer):
    """A service that has answered `done` requests before, and restarts after `until`; `bad` of a scrape failed.

    path     of its forecasts of window and store
    """

    def __init__(self, *path: Any, done: int = 0, until: int = 10**9, bad: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.path, self.done, self.until, self.bad, self.scrapes = list(path or [STEP]), done, until, bad, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Pod

    def do_GET(self) -> None:
        if self.path == "/openapi.json":
            content = {"application/json": {"example": {"symbol": "XAGUSD", "bars": []}}}
            self.answer(200, {"paths": {"/predict": {"post": {"requestBody": {"content": content}}}}})
        elif self.path == "/info":
            self.answer(200, {"symbols": ["XAGUSD"]})
        elif self.path == "/forecast?symbol=XAGUSD":
            self.forecast()
        else:
            pod = self.server
            failed = pod.bad * pod.scrapes
            pod.scrapes += 1
            self.answer(200, FIGURES.format(good=pod.done, bad=failed, all=pod.done + failed))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.forecast()

    def forecast(self) -> None:
        if self.headers["X-API-Key"] != KEY or not self.headers["X-Request-Id"].startswith("probe-"):
            self.answer(401, {})
            return
        pod = self.server
        pod.done = 0 if pod.done == pod.until else pod.done + 1
        self.answer(200, {"model": {"version": 1}, "origin_ts": "2026-01-05T14:00:00Z", "path": pod.path})

    def answer(self, status: int, content: Any) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Cluster:
    """Two replicas of version 1; others by their versions."""

    def __init__(self, folder: Path, *, gateway: bool = False, **others: Pod) -> None:
        self._file = folder / "cluster.json"
        self.pods = {"1": [Pod(done=5000), Pod(done=10)]} | {name[1:]: [pod] for name, pod in others.items()}
        servers = {name: [pod.server_address[1] for pod in pods] for name, pods in self.pods.items()}
        labels = {"app": "serve", "track": "stable"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "r/serve:1"}]}}
        serve = {"metadata": {"name": "serve"}, "spec": {"template": template}}
        pods = [
            {"metadata": {"name": f"serve-{number}", "labels": labels, "creationTimestamp": "2025-12-31T00:00:00Z"},
             "status": {"phase": "Running"}, "port": port}
            for number, port in enumerate(servers["1"])
        ]  # fmt: skip
        state = {"gateway": gateway, "route": ROUTE if gateway else None, "servers": servers, "made": 1}
        self._file.write_text(json.dumps({**state, "deployment": {"serve": serve}, "service": {}, "pods": pods}))
        stub = folder / "kubectl"
        stub.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
        stub.chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{folder}:{os.environ['PATH']}", "KUBECTL_STUB": str(self._file), "LSTM_TS_API_KEY": KEY,
            "REAL_KUBECTL": program("kubectl", "nothing: make install"),
        }  # fmt: skip

    def release(self, action: str, *arguments: str, key: str = KEY) -> tuple[int, str]:
        command = [sys.executable, ROOT / "deploy/release", action, "staging", *arguments]
        environment = self._environment | {"LSTM_TS_API_KEY": key}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3 * WAIT_S)
        return done.returncode, done.stdout + done.stderr

    def state(self) -> Any:
        return json.loads(self._file.read_text())

    def forget(self, version: str) -> None:
        """Let no further pod of a version become ready."""
        state = self.state()
        del state["servers"][version]
        self._file.write_text(json.dumps(state))

    def images(self) -> dict[str, str]:
        found = self.state()["deployment"].items()
        return {name: each["spec"]["template"]["spec"]["containers"][0]["image"][-1] for name, each in found}

    def weights(self) -> list[int]:
        return [each["weight"] for each in self.state()["route"]["spec"]["rules"][0]["backendRefs"]]

    def close(self) -> None:
        for pod in (pod for pods in self.pods.values() for pod in pods):
            pod.shutdown()
            pod.server_close()


@pytest.fixture
def made() -> Iterator[list[Cluster]]:
    clusters: list[Cluster] = []
    yield clusters
    for cluster in clusters:
        cluster.close()


def test_new_code_comes_in_and_back_without_a_gateway(tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, v2=Pod()))
    assert cluster.release("start", "2") == (0, "")
    assert cluster.images() == {"serve": "1", "serve-canary": "2"}
    assert cluster.release("back") == (0, "")
    assert (cluster.images(), cluster.state()["service"]) == ({"serve": "1"}, {})
    assert cluster.release("start", "2") == (0, "")
    assert cluster.release("promote") == (0, "")
    assert cluster.images() == {"serve": "2"}
    assert cluster.release("back") == (0, "")
    assert cluster.images() == {"serve": "1"}
    assert cluster.release("back") == (0, ""), "where nothing was started since, nothing happens"


def test_a_promotion_that_times_out_is_repeated_and_taken_back(tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, v2=Pod()))
    assert cluster.release("start", "2") == (0, "")
    cluster.forget("2")
    for _ in range(2):
        code, said = cluster.release("promote")
        assert code == 1 and "timed out waiting" in said
    assert cluster.images() == {"serve": "2", "serve-canary": "2"}
    assert cluster.release("back") == (0, "")
    assert cluster.images() == {"serve": "1"}


def test_a_version_on_trial_is_not_replaced(tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, v2=Pod()))
    assert cluster.release("start", "2") == (0, "")
    assert cluster.release("start", "3") == (1, "Expected no version on trial, got 2; promote it, or go back\n")
    assert cluster.images() == {"serve": "1", "serve-canary": "2"}


def test_the_route_has_a_share_of_the_requests_for_new_code(tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, gateway=True, v2=Pod()))
    assert cluster.release("start", "2") == (0, "")
    assert cluster.weights() == [95, 5]
    assert cluster.release("back") == (0, "")
    assert (cluster.weights(), cluster.images()) == ([100, 0], {"serve": "1"})
    code, said = cluster.release("start", "3")
    assert code == 1 and "timed out waiting" in said
    assert (cluster.weights(), cluster.images()) == ([100, 0], {"serve": "1"})


def test_a_verdict_counts_each_pod_and_one_that_restarts(tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, v2=Pod(done=900, until=1000)))
    cluster.release("start", "2")
    verdict = cluster.release("verdict", "--seconds", "1")
    assert verdict == (0, "Nothing says that the new version is worse\n")


@pytest.mark.parametrize(
    ("pod", "key", "said"),
    [
        (
            partial(Pod, STEP | {"price": 20.2}),
            KEY,
            "it says path[0].price=20.2, where the old version says 20.0, to /",
        ),
        (partial(Pod, STEP | {"quantiles": {"0.1": 1.0, "0.9": 21.0}}), KEY, "it says path[0].quantiles.0.1=1.0,"),
        (partial(Pod, STEP, STEP), KEY, "it says path="),
        (partial(Pod, None), KEY, "it answers /"),
        (partial(Pod, {"price": None, "target_ts": ""}), KEY, "it answers /"),
        (partial(Pod, bad=60), KEY, "60 of its 260 requests failed, and 0 of the old version's 200"),
        (partial(Pod), "another key", "none of its answers could be compared"),
    ],
    ids=["dearer", "wider", "longer", "no step", "no price", "failing", "never compared"],
)
def test_bad_code_is_told(pod: Callable[[], Pod], key: str, said: str, tmp_path: Path, made: list[Cluster]) -> None:
    made.append(cluster := Cluster(tmp_path, v2=pod()))
    cluster.release("start", "2")
    code, told = cluster.release("verdict", "--seconds", "1", key=key)
    assert code == 1 and f"The new version is bad: {said}" in told
