"""Client of the pages for the forecast service over HTTP and for the stored hourly bars."""

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx
import polars as pl
from pydantic import BaseModel, ValidationError

from dashboard.settings import DashboardSettings
from lstm_ts.errors import LstmTsError
from lstm_ts.http_schema import ForecastReply, HealthReply, Info, Input, Problem, Problems, Refusal
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.market.symbol import check_symbol
from lstm_ts.monitoring.service_counters import ServiceCounters
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.manifest import stores_in


class ServiceError(LstmTsError):
    """Missing or refused answer of the service, with a remedy if known. It may answer later without a change here."""


class InvalidRequest(LstmTsError):
    """Request with invalid content, with all of its `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.problem for problem in problems))
        self.problems = problems


Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Answer:
    """Forecast, and the body of the service's response for a download."""

    forecast: ForecastReply
    body: bytes


class Client:
    """Client shared by all visitors; its methods may be called in any thread."""

    def __init__(self, settings: DashboardSettings) -> None:
        self.settings = settings
        service = settings.service
        headers = {b"X-API-Key": os.fsencode(service.key)} if service.key else {}
        self._http = httpx.Client(base_url=service.url, headers=headers, timeout=service.timeout_s, trust_env=False)

    def needs(self, symbol: str) -> Input:
        """Raises    ServiceError: no answer, or no model yet; InvalidRequest: the service does not have the symbol"""
        info = _parse(Info, self._ask("GET", "/info", params={"symbol": symbol}).content)
        if info.input is None:
            raise ServiceError(_no_model(self.health().reason or "no model is loaded yet"))
        return info.input

    def latest(self, symbol: str) -> Answer:
        """Raises    ServiceError; InvalidRequest: a symbol that the service does not have"""
        return self._answer(self._ask("GET", "/forecast", params={"symbol": symbol}))

    def predict(self, body: bytes) -> Answer:
        """Raises    ServiceError; InvalidRequest: with everything that is wrong with the window"""
        return self._answer(self._ask("POST", "/predict", content=body))

    def symbols(self) -> list[str]:
        """Return the symbols with hourly bars; the configured symbol comes first, even without bars."""
        return list(dict.fromkeys([self.settings.symbol, *stores_in(self.settings.data / "processed")]))

    def hourly_bars(self, symbol: str, start: datetime | None = None) -> pl.DataFrame:
        """Raises    NoRows: none are stored; DataError"""
        return self._hourly(symbol).read(start)

    def source_of(self, symbol: str) -> str:
        """Return the source of the stored bars: see `BarStore.source`."""
        return self._hourly(symbol).source

    def bars_changed(self, symbol: str) -> int:
        """Return the modification time of the stored bars: see `BarStore.changed`."""
        return self._hourly(symbol).changed

    def last_close_ts(self, symbol: str) -> datetime | None:
        """Return the close time of the newest hourly bar; None if none is stored.    Raises    DataError"""
        last = self._hourly(symbol).last_ts()
        return last + HOUR if last else None

    def _hourly(self, symbol: str) -> BarStore:
        return BarStore(self.settings.data / "processed" / check_symbol(symbol), HOURLY_SCHEMA)

    def _answer(self, response: httpx.Response) -> Answer:
        return Answer(_parse(ForecastReply, response.content), response.content)

    def health(self) -> HealthReply:
        """Raises    ServiceError: no answer"""
        return _parse(HealthReply, self._send("GET", "/health").content)

    def counters(self) -> ServiceCounters:
        """Return the service's counters since its start.    Raises    ServiceError: no answer"""
        return ServiceCounters.parse(self._ask("GET", "/metrics").text)

    def serving(self) -> str:
        """Return a text that changes when another version answers, or when none does."""
        try:
            return self._http.get("/health").text
        except httpx.HTTPError:
            return "no answer"

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        url = self.settings.service.url
        try:
            return self._http.request(method, path, **what)
        except httpx.TimeoutException:
            raise ServiceError(f"The service at {url} takes too long to answer; retry in a moment.") from None
        except httpx.HTTPError:
            raise ServiceError(
                f"The service at {url} does not answer. Start it (make serve), or correct service.url."
            ) from None

    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        response = self._send(method, path, **what)
        match response.status_code:
            case 200:
                return response
            case 422:
                raise InvalidRequest(_parse(Problems, response.content).problems)
            case 401:
                raise ServiceError(
                    "The service refuses this dashboard's key. Set LSTM_TS_API_KEY to one that it accepts, "
                    "and start the dashboard again."
                )
            case 503:
                raise ServiceError(_no_model(_parse(Refusal, response.content).reason))
        raise ServiceError(f"The service refused ({response.status_code}): {_reason_of(response)}")


def _no_model(reason: str) -> str:
    return f"The service has no forecast to give: {reason.rstrip('.')}."


def _reason_of(response: httpx.Response) -> str:
    try:
        return Refusal.model_validate_json(response.content).reason
    except ValidationError:
        return response.text[:200] or "without a reason"


def _parse(kind: type[Body], content: bytes) -> Body:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise ServiceError(
            f"What answers there is no forecast service of this version: {content[:80]!r}. Correct service.url."
        ) from None
