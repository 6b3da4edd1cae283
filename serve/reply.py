"""Answers of a worker: the reply to a request, a refusal, and the row that the ledger keeps of a reply."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from lstm_ts import http_schema
from lstm_ts.ledger.rows import ForecastRow, ServedPath
from serve.settings import WorkerAnswer, WorkerRequest

if TYPE_CHECKING:
    from lstm_ts.model.features import Bars
    from lstm_ts.model.forecaster import Forecast

PATH = TypeAdapter(list[http_schema.Step])


def make_reply(
    request: WorkerRequest,
    model: http_schema.Model,
    forecast: "Forecast",
    now: datetime,
    *,
    skill: tuple[http_schema.Skill | None, str | None],
    flags: Sequence[str],
) -> http_schema.ForecastReply:
    """skill   of the model, and why there is none or perhaps a newer one"""
    path, quote = _make_path(forecast), forecast.quote
    return http_schema.ForecastReply(
        symbol=forecast.symbol,
        origin_ts=forecast.origin_ts,
        last_close=forecast.last_close,
        currency=quote.currency if quote else None,
        decimals=quote.decimals if quote else None,
        path=path,
        predicted_price=path[-1].price,
        model=model,
        arm=request.arm,
        skill=skill[0],
        skill_reason=skill[1],
        season_day=forecast.season_day,
        data_age_s=(now - forecast.origin_ts).total_seconds(),
        flags=list(flags),
        request_id=request.request_id,
    )


def _make_path(forecast: "Forecast") -> list[http_schema.Step]:
    """Return the steps, validated in one call: one by one they took most of the time of a reply."""
    prices_HQ = forecast.price_HL(*forecast.levels).tolist()
    chosen_H3 = forecast.price_HL(0.5, 0.1, 0.9).tolist()
    steps = [
        {
            "target_ts": target_ts,
            "price": price,
            "lower_80": lower_80,
            "upper_80": upper_80,
            "quantiles": dict(zip(forecast.levels, prices_Q, strict=True)),
            "persistence": forecast.last_close,
        }
        for target_ts, prices_Q, (price, lower_80, upper_80) in zip(
            forecast.target_ts_H, prices_HQ, chosen_H3, strict=True
        )
    ]
    return PATH.validate_python(steps)


def make_row(request: WorkerRequest, reply: http_schema.ForecastReply, bars: "Bars", now: datetime) -> ForecastRow:
    """Return the row that the ledger keeps of a reply; of the window, it has the hash."""
    columns = zip(*((step.target_ts, step.price, step.lower_80, step.upper_80) for step in reply.path), strict=True)
    return ForecastRow(
        request_id=request.request_id,
        arm=reply.arm,
        at=now,
        name=reply.model.name,
        symbol=reply.symbol,
        version=reply.model.version,
        origin_ts=reply.origin_ts,
        last_close=reply.last_close,
        path=ServedPath(*columns),
        flags=tuple(reply.flags),
        latency_ms=(time.monotonic() - request.received_at) * 1000,
        input_sha256=bars.sha256,
    )


def refuse(status: int, reason: str, request: WorkerRequest, version: str = "") -> WorkerAnswer:
    refusal = http_schema.Refusal(reason=reason, request_id=request.request_id)
    return WorkerAnswer(status, version, request.arm, "", 0.0, None, refusal.model_dump_json().encode())
