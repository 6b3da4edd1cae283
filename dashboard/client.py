"""All that the pages read: the service over HTTP, and the stores."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import httpx
import polars as pl
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel, ValidationError

from dashboard.settings import Settings
from lstm_ts.errors import LstmTsError
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import HOUR
from lstm_ts.market.symbol import check_symbol
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.manifest import stores_in


class ServiceError(LstmTsError):
    """The service does not answer, or refuses; says what to do. It may answer later without a change here."""


@dataclass(frozen=True)
class Problem:
    path: str  # of the field, e.g. bars[3].high
    problem: str


class Refused(LstmTsError):
    """What was sent is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.problem for problem in problems))
        self.problems = problems


class Step(BaseModel):
    target_ts: datetime
    price: float
    lower_80: float
    upper_80: float
    quantiles: dict[float, float]  # level -> price
    persistence: float


class Model(BaseModel):
    name: str
    version: int
    alias: str
    trained_until: str


class SkillOver(BaseModel):
    """Skill over a baseline; shares, not percent. Without bounds: too few days yet."""

    skill: float
    lower: float | None
    upper: float | None


class StepSkill(BaseModel):
    step: int
    outcomes: int
    since: date
    best: str  # the baseline with the lowest loss
    over_best: SkillOver
    over_persistence: SkillOver


class Skill(BaseModel):
    """Live skill of the version that answers, on the outcomes of its forecasts at every session hour."""

    measured_at: datetime
    confidence: float | None = None  # of the bounds
    steps: list[StepSkill]


class Forecast(BaseModel):
    """The service's reply, as far as it is shown."""

    symbol: str
    origin_ts: datetime
    last_close: float
    currency: str | None = None
    decimals: int | None = None
    path: list[Step]
    model: Model
    arm: str
    skill: Skill | None
    skill_reason: str | None
    flags: list[str]
    request_id: str

    @property
    def quote(self) -> Quote | None:
        """Raises    ConfigError: no currency"""
        return None if self.currency is None or self.decimals is None else Quote(self.currency, self.decimals)


class Needs(BaseModel):
    """What a window must hold."""

    symbol: str
    tsteps: int
    max_missing: int
    horizon: int
    levels: list[float]
    calendar: str


class Worker(BaseModel):
    """One process that answers, for one symbol."""

    symbol: str = ""
    model: Model | None
    reason: str | None
    challenger: Model | None = None
    challenger_reason: str | None = None


class Health(BaseModel):
    ready: bool
    reason: str | None
    workers: list[Worker]


class _Info(BaseModel):
    input: Needs | None


class _Problems(BaseModel):
    problems: list[Problem]


class _Refusal(BaseModel):
    reason: str


Reply = TypeVar("Reply", bound=BaseModel)


@dataclass(frozen=True)
class Answer:
    """A forecast, with the service's own words for a download."""

    forecast: Forecast
    body: bytes


class Client:
    """One for all visitors; its methods may be called in any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        service = settings.service
        headers = {"X-API-Key": service.key} if service.key else {}
        self._http = httpx.Client(base_url=service.url, headers=headers, timeout=service.timeout_s, trust_env=False)

    def needs(self, symbol: str) -> Needs:
        """Raises    ServiceError: no answer, or no model yet; Refused: a symbol that the service does not have"""
        info = _parse(_Info, self._ask("GET", "/info", params={"symbol": symbol}).content)
        if info.input is None:
            raise ServiceError(_no_model(self.health().reason or "no model is loaded yet"))
        return info.input

    def latest(self, symbol: str) -> Answer:
        """Raises    ServiceError; Refused: a symbol that the service does not have"""
        return self._answer(self._ask("GET", "/forecast", params={"symbol": symbol}))

    def predict(self, body: bytes) -> Answer:
        """Raises    ServiceError; Refused: with everything that is wrong with the window"""
        return self._answer(self._ask("POST", "/predict", content=body))

    def symbols(self) -> list[str]:
        """That have hourly bars; the configured one comes first, with or without."""
        return list(dict.fromkeys([self.settings.symbol, *stores_in(self.settings.data / "processed")]))

    def hourly_bars(self, symbol: str, start: datetime | None = None) -> pl.DataFrame:
        """Raises    NoRows: none are stored; DataError"""
        return self._hourly(symbol).read(start)

    def source_of(self, symbol: str) -> str:
        """What delivered the stored bars."""
        return self._hourly(symbol).source

    def bars_changed(self, symbol: str) -> int:
        """See `BarStore.changed`."""
        return self._hourly(symbol).changed

    def last_close_ts(self, symbol: str) -> datetime | None:
        """When the newest hourly bar closed; None where none is stored.    Raises    DataError"""
        last = self._hourly(symbol).last_ts()
        return last + HOUR if last else None

    def _hourly(self, symbol: str) -> BarStore:
        return BarStore(self.settings.data / "processed" / check_symbol(symbol), HOURLY_SCHEMA)

    def _answer(self, response: httpx.Response) -> Answer:
        return Answer(_parse(Forecast, response.content), response.content)

    def health(self) -> Health:
        """Raises    ServiceError: no answer"""
        return _parse(Health, self._send("GET", "/health").content)

    def samples(self) -> list[Sample]:
        """What the service has counted since its start.    Raises    ServiceError: no answer"""
        text = self._ask("GET", "/metrics").text
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def serving(self) -> str:
        """A text that is another one when another version answers, or none does."""
        try:
            return self._http.get("/health").text
        except httpx.HTTPError:
            return "no answer"

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        url = self.settings.service.url
        try:
            return self._http.request(method, path, **what)
        except httpx.TimeoutException:
            raise ServiceError(f"The service at {url} takes too long to answer; ask again in a moment.") from None
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
                raise Refused(_parse(_Problems, response.content).problems)
            case 401:
                raise ServiceError(
                    "The service refuses this dashboard's key. Set LSTM_TS_API_KEY to one that it accepts, "
                    "and start the dashboard again."
                )
            case 503:
                raise ServiceError(_no_model(_parse(_Refusal, response.content).reason))
        raise ServiceError(f"The service refused ({response.status_code}): {_reason_of(response)}")


def _no_model(reason: str) -> str:
    return f"The service has no forecast to give: {reason.rstrip('.')}."


def _reason_of(response: httpx.Response) -> str:
    try:
        return _Refusal.model_validate_json(response.content).reason
    except ValidationError:
        return response.text[:200] or "without a reason"


def _parse(kind: type[Reply], content: bytes) -> Reply:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise ServiceError(
            f"What answers there is no forecast service of this version: {content[:80]!r}. Correct service.url."
        ) from None
