"""Requests and replies of the service over HTTP, for it and for the dashboard."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MIN_PRICE, MAX_PRICE = 1e-6, 1e9  # keeps every number that is made of them finite
EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
LONGEST_SPAN = timedelta(days=366)  # of the bars sent: a calendar of centuries takes seconds to lay out


def _stamp(value: Any) -> datetime:
    try:
        if not isinstance(value, str):
            raise ValueError
        ts = datetime.fromisoformat(value)
        if ts.tzinfo is not None:
            ts = ts.astimezone(UTC)
    except (ValueError, OverflowError):
        text = "Expected an ISO 8601 time such as 2026-01-05T14:00:00Z, got {value}; write the bar's open in this form"
        raise PydanticCustomError("stamp", text, {"value": shown(value)}) from None
    if ts.tzinfo is None:
        text = "Expected a time with its offset, got {value}; add Z for UTC, or +01:00"
        raise PydanticCustomError("naive", text, {"value": value})
    if ts < EARLIEST:
        text = "Expected a time from 1980 on, got {value}; leave earlier bars out"
        raise PydanticCustomError("early", text, {"value": value})
    return ts


def shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        text = f"a {type(value).__name__} with a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:37]}..."


Stamp = Annotated[datetime, BeforeValidator(_stamp), WithJsonSchema({"type": "string", "format": "date-time"})]
Price = Annotated[float, Field(strict=True, ge=MIN_PRICE, le=MAX_PRICE, allow_inf_nan=False)]
Size = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """A part of a request: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reply(BaseModel):
    """A part of a reply: a client ignores the fields that a newer service adds."""

    model_config = ConfigDict(frozen=True)


class Bar(Strict):
    """One closed hour."""

    ts: Annotated[Stamp, Field(description="The bar's open, ISO 8601 with an offset; a full hour of the session")]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Size | None = None
    spread: Size | None = None


def wrong_prices(open_: float, high: float, low: float, close: float) -> Iterator[str]:
    """Yield the fields of a bar whose prices contradict its others."""
    if high < low:
        yield "high"
    else:
        yield from (field for field, price in (("open", open_), ("close", close)) if not low <= price <= high)


class Window(Strict):
    """Hourly bars, ascending: at least `tsteps` session hours, of which the last `tsteps` are used."""

    symbol: str
    bars: list[Bar]


class Step(Reply):
    target_ts: Annotated[datetime, Field(description="When the target's bar closes, by the session calendar")]
    price: Annotated[float, Field(description="The median, in the quote currency of the symbol")]
    lower_80: float
    upper_80: float
    quantiles: Annotated[dict[float, float], Field(description="Level -> price")]
    persistence: Annotated[float, Field(description="The last close: the forecast to beat")]


class Model(Reply):
    name: str
    version: int
    alias: str
    artifact_sha256: str
    trained_until: str


class SkillOver(Reply):
    """1 - the model's pinball loss / that of a baseline, over the same outcomes: 0.01 is a loss 1 % lower."""

    skill: float
    lower: Annotated[float | None, Field(description="Of the interval, which holds the true skill with `confidence`")]
    upper: Annotated[float | None, Field(description="Valid at every look; null: too few days yet")]


class StepSkill(Reply):
    step: Annotated[int, Field(description="Session hours ahead")]
    outcomes: Annotated[
        int, Field(description="Forecasts of this version, one each session hour, whose outcome is known")
    ]
    since: Annotated[date, Field(description="Of the first of them")]
    best: Annotated[str, Field(description="The baseline with the lowest loss over these outcomes: the one to beat")]
    over_best: SkillOver
    over_persistence: SkillOver


class Skill(Reply):
    """Live skill of the version that answers, since it was registered."""

    measured_at: Annotated[datetime, Field(description="By python -m lstm_ts.monitor")]
    confidence: Annotated[float | None, Field(description="Of the intervals; null: the monitor did not write it then")]
    steps: list[StepSkill]


class ForecastReply(Reply):
    """Forecast of the next session hours of one symbol."""

    symbol: str
    origin_ts: Annotated[datetime, Field(description="The close of the last bar: when the forecast is made")]
    last_close: float
    currency: Annotated[str | None, Field(description="Of all prices here; null where it is unknown")]
    decimals: Annotated[int | None, Field(description="Of a price, at least, where it is shown")]
    path: list[Step]
    predicted_price: Annotated[float, Field(description="The median at the final step")]
    model: Model
    arm: str
    skill: Skill | None
    skill_reason: Annotated[str | None, Field(description="Why skill is null, or perhaps not the newest")]
    season_day: Annotated[
        datetime | None,
        Field(description="Up to when stored bars have changed the profile of the week; null: none have"),
    ]
    data_age_s: Annotated[float, Field(description="Since origin_ts")]
    flags: Annotated[list[str], Field(description="Warnings, in words")]
    request_id: str


class Problem(Reply):
    path: Annotated[str, Field(description="Of the field, e.g. bars[3].high")]
    problem: str


class Problems(Reply):
    """Problems of a request."""

    problems: list[Problem]
    request_id: str


class Refusal(Reply):
    reason: str
    request_id: str


class Worker(Reply):
    """State of one worker process for one symbol; a reason states why a model is missing, or not the newest."""

    symbol: Annotated[str, Field(description="Of the model; each worker has one for each symbol")] = ""
    model: Model | None
    reason: str | None
    challenger: Annotated[Model | None, Field(description="Loaded where traffic needs one")] = None
    challenger_reason: str | None = None


class HealthReply(Reply):
    ready: bool
    reason: Annotated[str | None, Field(description="Why it is not ready, or why its forecasts are not stored")]
    workers: list[Worker]


class Input(Reply):
    symbol: str
    tsteps: Annotated[int, Field(description="Session hours in a window")]
    max_missing: Annotated[int, Field(description="Hours of it that may be missing")]
    horizon: Annotated[int, Field(description="Session hours ahead")]
    levels: list[float]
    calendar: str


class Info(Reply):
    symbols: Annotated[list[str], Field(description="That are served")]
    input: Annotated[Input | None, Field(description="What the symbol's model needs; null while none is loaded")]
    input_schema: dict[str, Any]
    body_limit_bytes: int
    workers: list[Worker]
