"""Routes of the service, and the checks of keys and symbols."""

import asyncio
import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST

from lstm_ts.http_schema import ForecastReply, HealthReply, Info, Problem, Problems, Refusal, Window, shown
from serve.http_process import HttpProcess
from serve.keys import Keys
from serve.metrics import LoadedWorkers, scrape
from serve.middleware import Counted
from serve.monitoring.monitored import MonitoredMetrics
from serve.platforms import (
    HEALTH_ROUTES,
    INSTANCES_ROUTES,
    INVOCATIONS,
    join_predictions,
    problems_of_instance,
    split_instances,
)
from serve.refusals import HANDLERS, RETRY_S, RequestRefused, on_error, read_body, refuse_problems
from serve.settings import Example
from serve.window import InvalidWindow, unknown_symbol

RELOAD_S = 10.0
KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


class Routes:
    def __init__(self, http: HttpProcess, keys: Keys, *, symbols: Sequence[str], body_limit_bytes: int) -> None:
        self._http, self._keys, self._symbols, self._limit = http, keys, symbols, body_limit_bytes
        self._seen_ready = False
        self._scrape: asyncio.Task[bytes] | None = None
        self._documented: Example | None = None  # the example in `_document`
        self._document: dict[str, Any] | None = None

    def add_to(self, app: FastAPI) -> None:
        refusals: dict[int | str, dict[str, Any]] = {status: {"model": Refusal} for status in (401, 413, 415, 503)}
        options: dict[str, Any] = {
            "responses": {200: {"model": ForecastReply}, 422: {"model": Problems}, **refusals},
            "dependencies": [Depends(self._check_key)],
            "response_model": None,
        }
        for route in INSTANCES_ROUTES:  # before ours, which it may replace
            app.add_api_route(route, self.predict_instances, methods=["POST"], include_in_schema=False, **options)
        app.add_api_route(INVOCATIONS, self.predict, methods=["POST"], include_in_schema=False, **options)
        body = {"required": True, "content": {"application/json": {"schema": window_schema()}}}
        app.add_api_route("/predict", self.predict, methods=["POST"], openapi_extra={"requestBody": body}, **options)
        app.add_api_route("/forecast", self.forecast, **options)
        key = [Depends(self._check_key)]
        refused: dict[int | str, dict[str, Any]] = {401: refusals[401]}
        responses = refused | {422: {"model": Problems}}
        app.add_api_route("/info", self.info, response_model=Info, dependencies=key, responses=responses)
        app.add_api_route(
            "/reload", self.reload, methods=["POST"], response_model=HealthReply, dependencies=key, responses=refused
        )
        app.add_api_route("/health", self.health, response_model=HealthReply, responses={503: {"model": HealthReply}})
        for route in HEALTH_ROUTES:
            app.add_api_route(route, self.health, response_model=HealthReply, include_in_schema=False)
        app.add_api_route("/metrics", self.metrics, response_class=PlainTextResponse)
        for error, handler in HANDLERS.items():
            app.add_exception_handler(error, handler)
        app.add_middleware(Counted)
        document = app.openapi
        app.openapi = lambda: self._with_example(document())  # type: ignore[method-assign]

    async def predict(self, request: Request) -> Response:
        """Forecast the next session hours after a window of closed hourly bars."""
        return await self._ask(request, await read_body(request))

    async def predict_instances(self, request: Request) -> Response:
        """Return the forecasts of several windows in their order, or the first answer that is not a forecast."""
        answers = list[bytes]()
        for number, body in enumerate(split_instances(await read_body(request))):
            answer = await self._ask(request, body, instance=number)
            content = bytes(answer.body)
            if answer.status_code == 422:
                return refuse_problems(request, problems_of_instance(number, content))
            if answer.status_code != 200:
                raise RequestRefused(answer.status_code, json.loads(content)["reason"])
            answers.append(content)
        return Response(join_predictions(answers), media_type="application/json")

    async def forecast(self, request: Request, symbol: Annotated[str, Query()]) -> Response:
        """Forecast the next session hours after the newest bars in the store."""
        self._check_symbol(request, symbol)
        return await self._ask(request, None, symbol)

    async def info(self, request: Request, symbol: Annotated[str | None, Query()] = None) -> Info:
        """Return what a window of the symbol, by default the first one served, must hold, and the loaded versions."""
        symbol = self._symbols[0] if symbol is None else symbol
        self._check_symbol(request, symbol)
        inputs = (needs for state in self._http.workers.last if state for needs in state.inputs)
        return Info(
            symbols=list(self._symbols),
            input=next((needs for needs in inputs if needs and needs.symbol == symbol), None),
            input_schema=window_schema(),
            body_limit_bytes=self._limit,
            workers=self._http.workers.all(),
        )

    def _check_symbol(self, request: Request, symbol: str) -> None:
        """Raises    InvalidWindow: none that is served, or more in the query than one symbol"""
        names = [name for name, _ in request.query_params.multi_items()]
        if len(names) > 1 or names not in ([], ["symbol"]):
            text = f"Expected symbol once in the query, got {shown(', '.join(names))}; leave the rest out"
        elif symbol not in self._symbols:
            text = unknown_symbol(repr(symbol)[:40], self._symbols)
        else:
            return
        raise InvalidWindow([Problem(path="symbol", problem=text)])

    async def health(self, response: Response) -> HealthReply:
        """Report whether the service is ready: every worker has a model that has answered a warm-up."""
        health = self._health()
        if not health.ready:
            response.status_code = 503
            response.headers["Retry-After"] = str(RETRY_S)
        return health

    async def reload(self) -> HealthReply:
        """Read the registry now; reply when every worker has, or after a time limit with what they have so far."""
        if not self._keys.are_set:
            raise RequestRefused(401, "Expected API keys to be set for this, got none; set LSTM_TS_API_KEYS")
        await self._http.workers.reload(RELOAD_S)
        return self._health()

    async def metrics(self) -> Response:
        """Return the metrics; requests of the same moment share a scrape, which takes milliseconds."""
        if self._scrape is None or self._scrape.done():
            self._scrape = asyncio.create_task(self._make_scrape())
        return Response(await asyncio.shield(self._scrape), media_type=CONTENT_TYPE_LATEST)

    async def _make_scrape(self) -> bytes:
        return scrape(
            LoadedWorkers(self._http.workers.all(), self._http.slots), MonitoredMetrics(self._http.reader.last)
        )

    def _with_example(self, document: dict[str, Any]) -> dict[str, Any]:
        """Add the window that the model was warmed up with and its answer as examples: both are valid as they stand."""
        example = self._http.workers.example
        if self._document is None or example != self._documented:
            self._document, self._documented = self._make_document(document, example), example
        return self._document

    def _make_document(self, document: dict[str, Any], example: Example | None) -> dict[str, Any]:
        document = deepcopy(document)
        predict, latest = document["paths"]["/predict"]["post"], document["paths"]["/forecast"]["get"]
        latest["parameters"][0]["schema"]["examples"] = list(self._symbols)
        if example:
            predict["requestBody"]["content"]["application/json"]["example"] = json.loads(example.body)
            for operation in (predict, latest):
                operation["responses"]["200"]["content"]["application/json"]["example"] = json.loads(example.answer)
        return document

    def _health(self) -> HealthReply:
        workers = self._http.workers.all()
        missing = [worker.reason for worker in workers if worker.model is None]
        return HealthReply(
            ready=not missing, reason=missing[0] if missing else self._http.forecast_log.trouble, workers=workers
        )

    async def _check_key(self, key: Annotated[str | None, Security(KEY)]) -> None:
        if self._keys.are_set and not self._keys.accept(key):
            raise RequestRefused(
                401, "Expected a valid key in the header X-API-Key, got another or none; ask the operator"
            )

    async def _ask(self, request: Request, body: bytes | None, symbol: str = "", instance: int = 0) -> Response:
        """instance    number of the window in a request with several"""
        if not self._seen_ready:  # until the first model is there; from then on a worker answers, or none in time
            health = self._health()
            self._seen_ready = any(worker.model for worker in health.workers)
            if not self._seen_ready:
                raise RequestRefused(503, health.reason or "no model is loaded yet")
        state = request.state
        state.arm = self._http.rollout.choose(request.headers.get("x-api-key") or state.request_id)
        request_id = f"{state.request_id}-{instance}" if instance else state.request_id
        answer = await self._http.request(body, request_id, state.arm, symbol)
        state.symbol = answer.row.symbol if answer.row else symbol
        state.version, state.arm, state.fell_back = answer.version, answer.arm, answer.fell_back
        if answer.status == 500:
            return on_error(request, None)
        headers = {"Retry-After": str(RETRY_S)} if answer.status == 503 else None
        return Response(answer.body, answer.status, headers, "application/json")


@cache
def window_schema() -> dict[str, Any]:
    """Return the schema of the body of /predict, in one piece."""
    schema = Window.model_json_schema()
    schema["properties"]["bars"]["items"] = schema.pop("$defs")["Bar"]
    return schema
