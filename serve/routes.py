"""The routes: who may ask, how much, and what is answered when there is no forecast."""

import asyncio
import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lstm_ts.http_schema import ForecastReply, HealthReply, Info, Problem, Problems, Refusal, Window, shown
from serve.app import ForecastServer
from serve.keys import Keys
from serve.metrics import LoadedWorkers, scrape
from serve.middleware import Counted
from serve.monitored import MonitoredMetrics
from serve.platforms import (
    HEALTH_ROUTES,
    INSTANCES_ROUTES,
    INVOCATIONS,
    NoInstances,
    join_predictions,
    split_instances,
)
from serve.settings import Example
from serve.window import unknown_symbol
from serve.worker_pool import NoAnswer

RETRY_S = 2
RELOAD_S = 10.0
ACCEPTED = {"Accept-Encoding": "identity", "Accept": "application/json"}
KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


class RequestRefused(Exception):
    """A request, before a worker has seen it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class UnknownSymbol(Exception):
    """One that is not served, in a sentence."""


class Routes:
    def __init__(self, server: ForecastServer, keys: Keys, *, symbols: Sequence[str], body_limit_bytes: int) -> None:
        self._server, self._keys, self._symbols, self._limit = server, keys, symbols, body_limit_bytes
        self._seen_ready = False
        self._scrape: asyncio.Task[bytes] | None = None
        self._documented: Example | None = None  # the example in `_document`
        self._document: dict[str, Any] | None = None

    def add_to(self, app: FastAPI) -> None:
        refusals: dict[int | str, dict[str, Any]] = {status: {"model": Refusal} for status in (401, 413, 415, 503)}
        asked: dict[str, Any] = {
            "responses": {200: {"model": ForecastReply}, 422: {"model": Problems}, **refusals},
            "dependencies": [Depends(self._check_key)],
            "response_model": None,
        }
        for route in INSTANCES_ROUTES:  # before ours, in whose place it may be
            app.add_api_route(route, self.predict_instances, methods=["POST"], include_in_schema=False, **asked)
        app.add_api_route(INVOCATIONS, self.predict, methods=["POST"], include_in_schema=False, **asked)
        body = {"required": True, "content": {"application/json": {"schema": window_schema()}}}
        app.add_api_route("/predict", self.predict, methods=["POST"], openapi_extra={"requestBody": body}, **asked)
        app.add_api_route("/forecast", self.forecast, **asked)
        key = [Depends(self._check_key)]
        refused: dict[int | str, dict[str, Any]] = {401: refusals[401]}
        told = refused | {422: {"model": Problems}}
        app.add_api_route("/info", self.info, response_model=Info, dependencies=key, responses=told)
        app.add_api_route(
            "/reload", self.reload, methods=["POST"], response_model=HealthReply, dependencies=key, responses=refused
        )
        app.add_api_route("/health", self.health, response_model=HealthReply, responses={503: {"model": HealthReply}})
        for route in HEALTH_ROUTES:
            app.add_api_route(route, self.health, response_model=HealthReply, include_in_schema=False)
        app.add_api_route("/metrics", self.metrics, response_class=PlainTextResponse)
        app.add_exception_handler(RequestRefused, _on_refused)
        app.add_exception_handler(NoAnswer, _on_no_answer)
        app.add_exception_handler(NoInstances, _on_no_instances)
        app.add_exception_handler(UnknownSymbol, _on_unknown_symbol)
        app.add_exception_handler(HTTPException, _on_http)
        app.add_exception_handler(Exception, _on_error)
        app.add_exception_handler(RequestValidationError, _on_invalid)
        app.add_middleware(Counted)
        document = app.openapi
        app.openapi = lambda: self._with_example(document())  # type: ignore[method-assign]

    async def predict(self, request: Request) -> Response:
        """The next session hours after a window of closed hourly bars."""
        return await self._ask(request, await _read_body(request))

    async def predict_instances(self, request: Request) -> Response:
        """The forecasts of several windows in their order, or the first answer that is none."""
        first, answers = request.state.request_id, list[Response]()
        for number, body in enumerate(split_instances(await _read_body(request))):
            request.state.request_id = f"{first}-{number}" if number else first
            answer = await self._ask(request, body)
            if answer.status_code != 200:
                return answer
            answers.append(answer)
        return Response(join_predictions([bytes(each.body) for each in answers]), media_type="application/json")

    async def forecast(self, request: Request, symbol: Annotated[str, Query()]) -> Response:
        """The same for the newest bars in the store."""
        self._check_symbol(symbol)
        return await self._ask(request, None, symbol)

    async def info(self, symbol: Annotated[str | None, Query()] = None) -> Info:
        """What a window of the symbol, by default the first one served, must hold; which versions are loaded."""
        symbol = self._symbols[0] if symbol is None else symbol
        self._check_symbol(symbol)
        inputs = (needs for state in self._server.workers.last if state for needs in state.inputs)
        return Info(
            symbols=list(self._symbols),
            input=next((needs for needs in inputs if needs and needs.symbol == symbol), None),
            input_schema=window_schema(),
            body_limit_bytes=self._limit,
            workers=self._server.workers.all(),
        )

    def _check_symbol(self, symbol: str) -> None:
        """Raises    UnknownSymbol"""
        if symbol not in self._symbols:
            raise UnknownSymbol(unknown_symbol(repr(symbol)[:40], self._symbols))

    async def health(self, response: Response) -> HealthReply:
        """Ready when every worker has a model that has answered a warm-up."""
        health = self._health()
        if not health.ready:
            response.status_code = 503
            response.headers["Retry-After"] = str(RETRY_S)
        return health

    async def reload(self) -> HealthReply:
        """Look at the registry now; answers when every worker has, or says what they have so far."""
        if not self._keys.are_set:
            raise RequestRefused(401, "Expected API keys to be set for this, got none; set LSTM_TS_API_KEYS")
        await self._server.workers.reload(RELOAD_S)
        return self._health()

    async def metrics(self) -> Response:
        """Requests of the same moment share a scrape, which takes milliseconds."""
        if self._scrape is None or self._scrape.done():
            self._scrape = asyncio.create_task(self._make_scrape())
        return Response(await asyncio.shield(self._scrape), media_type=CONTENT_TYPE_LATEST)

    async def _make_scrape(self) -> bytes:
        return scrape(
            LoadedWorkers(self._server.workers.all(), self._server.slots), MonitoredMetrics(self._server.monitored)
        )

    def _with_example(self, document: dict[str, Any]) -> dict[str, Any]:
        """The window that the model was tried out with, and what it answered: both pass as they stand."""
        example = self._server.workers.example()
        if self._document is None or example != self._documented:
            self._document, self._documented = self._make_document(document, example), example
        return self._document

    def _make_document(self, document: dict[str, Any], example: Example | None) -> dict[str, Any]:
        document = deepcopy(document)
        asked, latest = document["paths"]["/predict"]["post"], document["paths"]["/forecast"]["get"]
        latest["parameters"][0]["schema"]["examples"] = list(self._symbols)
        if example:
            asked["requestBody"]["content"]["application/json"]["example"] = json.loads(example.body)
            for operation in (asked, latest):
                operation["responses"]["200"]["content"]["application/json"]["example"] = json.loads(example.answer)
        return document

    def _health(self) -> HealthReply:
        workers = self._server.workers.all()
        missing = [worker.reason for worker in workers if worker.model is None]
        return HealthReply(
            ready=not missing, reason=missing[0] if missing else self._server.ledger_trouble, workers=workers
        )

    async def _check_key(self, key: Annotated[str | None, Security(KEY)]) -> None:
        if self._keys.are_set and not self._keys.accept(key):
            raise RequestRefused(
                401, "Expected a valid key in the header X-API-Key, got another or none; ask the operator"
            )

    async def _ask(self, request: Request, body: bytes | None, symbol: str = "") -> Response:
        if not self._seen_ready:  # until the first model is there; from then on a worker answers, or none in time
            health = self._health()
            self._seen_ready = any(worker.model for worker in health.workers)
            if not self._seen_ready:
                raise RequestRefused(503, health.reason or "no model is loaded yet")
        state = request.state
        state.arm = self._server.choose_arm(request.headers.get("x-api-key") or state.request_id)
        answer = await self._server.ask(body, state.request_id, state.arm, symbol)
        state.symbol = answer.row.symbol if answer.row else symbol
        state.version, state.arm, state.fell_back = answer.version, answer.arm, answer.fell_back
        if answer.status == 500:
            return _on_error(request, None)
        headers = {"Retry-After": str(RETRY_S)} if answer.status == 503 else None
        return Response(answer.body, answer.status, headers, "application/json")


async def _read_body(request: Request) -> bytes:
    """Raises    Refused"""
    _check_content(request)
    try:
        return await request.body()
    except ClientDisconnect:
        raise RequestRefused(
            400, "Expected a client that waits for its answer, got one that has gone; ask again"
        ) from None


def _check_content(request: Request) -> None:
    """Raises    RequestRefused: its headers say other than plain JSON; without a Content-Type it is taken for that"""
    encodings = [request.headers.get(name, "") for name in ("content-encoding", "transfer-encoding")]
    if any(encoding.lower() not in ("", "identity", "chunked") for encoding in encodings):
        got = shown(", ".join(filter(None, encodings)))
        raise RequestRefused(415, f"Expected a body that is not encoded, got {got}; send it as it is")
    if not (given := request.headers.get("content-type")):
        return
    kind, _, parameters = given.lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if not (kind.strip() == "application/json" or kind.strip().endswith("+json")) or charset not in ("", "utf-8"):
        raise RequestRefused(
            415, f"Expected Content-Type: application/json in UTF-8, got {shown(given)}; send JSON so named"
        )


@cache
def window_schema() -> dict[str, Any]:
    """The schema of the body of /predict, in one piece."""
    schema = Window.model_json_schema()
    schema["properties"]["bars"]["items"] = schema.pop("$defs")["Bar"]
    return schema


def _problems(request: Request, problems: list[Problem]) -> Response:
    request.state.reason = f"{problems[0].path}: {problems[0].problem}"
    content = Problems(problems=problems, request_id=request.state.request_id)
    return Response(content.model_dump_json(), 422, media_type="application/json")


def _refusal(request: Request, status: int, reason: str) -> Response:
    request.state.reason = reason
    headers = {503: {"Retry-After": str(RETRY_S)}, 415: ACCEPTED}.get(status)
    content = Refusal(reason=reason, request_id=request.state.request_id).model_dump_json()
    return Response(content, status, headers, "application/json")


def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return _refusal(request, error.status, error.reason)


def _on_no_answer(request: Request, error: Exception) -> Response:
    return _refusal(request, 503, str(error))


def _on_no_instances(request: Request, error: Exception) -> Response:
    return _problems(request, [Problem(path="instances", problem=str(error))])


def _on_unknown_symbol(request: Request, error: Exception) -> Response:
    return _problems(request, [Problem(path="symbol", problem=str(error))])


def _on_error(request: Request, error: Exception | None) -> Response:
    return _refusal(request, 500, "Expected an answer, got an error of the server's own; its log says which")


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = _refusal(request, error.status_code, f"{error.detail}; /docs lists what there is")
    refusal.headers.update(error.headers or {})
    if "GET" in (allowed := refusal.headers.get("Allow", "").split(", ")):
        refusal.headers["Allow"] = ", ".join([*allowed, "HEAD"])
    return refusal


def _on_invalid(request: Request, error: Exception) -> Response:
    """A query without its symbol."""
    assert isinstance(error, RequestValidationError)
    text = "Expected a value in the query, got none or another kind; see /docs"
    return _problems(request, [Problem(path=str(found["loc"][-1]), problem=text) for found in error.errors()])
