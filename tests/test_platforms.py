"""The contracts of hosting platforms, asked of a service that was started as they start it."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from omegaconf.errors import OmegaConfBaseException
from processes import wait_for
from serving import Body, Server, make_servable, running

from lstm_ts.cli import compose
from lstm_ts.configuration.explanations import describe_error
from lstm_ts.errors import ConfigError
from lstm_ts.market.session import Session
from serve.platforms import join_predictions, split_instances
from serve.startup import check
from serve.window import InvalidWindow

VERTEX = {
    "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/8:predict",
}
WHOLE = '{"instances": [1]}'
NO_JSON = [b'{"instances": [1], "instances": [1]}', WHOLE.encode("utf-8-sig"), WHOLE.encode("utf-16")]


def test_instances_are_taken_apart_and_put_together() -> None:
    assert split_instances(b'{"instances": [{"a": 1}, 2], "parameters": {}}') == [b'{"a": 1}', b"2"]
    assert json.loads(join_predictions([b'{"x": 1}', b"2"])) == {"predictions": [{"x": 1}, 2]}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b'{"instances": []}', b'{"instances": {}}', b"\xff", b"[" * 9999, *NO_JSON]
)
def test_another_body_is_named(body: bytes) -> None:
    with pytest.raises(InvalidWindow) as refused:
        split_instances(body)
    (problem,) = refused.value.problems
    assert problem.path == "instances"
    assert problem.problem.startswith('Expected {"instances"')


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, ("127.0.0.1", 8000)),
        ({"LSTM_TS_HOST": "0.0.0.0", "LSTM_TS_PORT": "8080"}, ("0.0.0.0", 8080)),
        ({"AIP_HTTP_PORT": "8181", "LSTM_TS_PORT": "8080"}, ("127.0.0.1", 8181)),
    ],
)
def test_the_environment_says_where_the_service_listens(
    environment: dict[str, str], address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cfg = compose("serve", [])
    assert (cfg.host, cfg.port) == address


@pytest.mark.parametrize("name", ["LSTM_TS_PORT", "AIP_HTTP_PORT"])
def test_a_variable_of_the_environment_that_holds_no_port_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for port in ("abc", "8000.5", "null", "80"):
        monkeypatch.setenv(name, port)
        with pytest.raises(ConfigError, match=f"got port=.* and host=127.0.0.1; correct them, or .*{name}"):
            check(compose("serve", []))
    monkeypatch.setenv(name, "")
    with pytest.raises(OmegaConfBaseException) as raised:
        _ = compose("serve", []).port
    assert describe_error(raised.value) == f"Expected {name} such as 8000, for port, got ''; correct it, or unset it"


@pytest.fixture(scope="module")
def server(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = make_servable(tmp_path_factory.mktemp("platforms"), empty, hourly_bars, silver)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in VERTEX.items():
            environment.setenv(name, value)
        with running(Server(folder)) as server:
            wait_for(lambda: server.health().ready)
            yield server


def test_sagemaker_pings_and_invokes(server: Server, window: Body) -> None:
    assert server.client.get("/ping").status_code == 200
    reply = server.client.post("/invocations", json=window)
    assert reply.status_code == 200
    assert reply.json()["path"] == server.predict(window).json()["path"]
    assert server.client.post("/invocations", json={"symbol": "XAGUSD"}).status_code == 422


def test_vertex_ai_asks_for_several_windows_at_once(server: Server, window: Body) -> None:
    assert server.client.get(VERTEX["AIP_HEALTH_ROUTE"]).status_code == 200
    shorter = {**window, "bars": window["bars"][:-1]}
    body = {"instances": [window, shorter], "parameters": {"confidence": 0.9}}
    reply = server.client.post(VERTEX["AIP_PREDICT_ROUTE"], json=body, headers={"X-Request-Id": "batch"})
    assert reply.headers["X-Request-Id"] == "batch"
    first, second = reply.raise_for_status().json()["predictions"]
    assert first["path"] == server.predict(window).json()["path"]
    assert second["path"] == server.predict(shorter).json()["path"]
    assert (first["request_id"], second["request_id"]) == ("batch", "batch-1")


def test_vertex_ai_is_told_what_is_wrong(server: Server, window: Body) -> None:
    batches = ([window, {"symbol": "XAGUSD"}], "instances[1].bars"), ([window, 7], "instances[1]")
    for body, path in *(({"instances": each}, path) for each, path in batches), (window, "instances"):
        reply = server.client.post(VERTEX["AIP_PREDICT_ROUTE"], json=body)
        assert (reply.status_code, reply.json()["problems"][0]["path"]) == (422, path)
        assert reply.json()["request_id"] == reply.headers["X-Request-Id"]


def test_azure_ml_takes_the_services_own_routes_and_documents_them_alone(server: Server) -> None:
    assert server.client.get("/health").status_code == 200
    documented = server.client.get("/openapi.json").json()["paths"]
    assert sorted(documented) == ["/forecast", "/health", "/info", "/metrics", "/predict", "/reload"]
