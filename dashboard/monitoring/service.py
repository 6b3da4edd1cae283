"""The service's workers and versions, its counters since its start, and the last bars."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from dashboard.client import Client, ServiceError
from dashboard.ui.blocks import alert, prose, table
from dashboard.ui.text import short
from lstm_ts.errors import LstmTsError
from lstm_ts.http_schema import HealthReply, Model, Worker
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.monitoring.messages import format_span
from lstm_ts.monitoring.service_counters import ServiceCounters
from lstm_ts.scoring.tables import percent

NONE = "-"


def service_view(client: Client) -> str:
    """Request the service's state; return it as HTML."""
    try:
        health = client.health()
        counters = client.counters()
    except ServiceError as error:
        return alert(f"{error} This page retries automatically.")
    return workers_table(health) + numbers_table(counters)


def workers_table(health: HealthReply) -> str:
    lead = alert(f"The service is not ready: {health.reason}") if not health.ready else ""
    if health.ready and health.reason:
        lead = alert(f"The service answers, but: {health.reason}")
    rows = [
        (
            escape(worker.symbol or NONE),
            model_words(worker.model),
            model_words(worker.challenger),
            prose(reason_words(worker)),
        )
        for worker in health.workers
    ]
    heads = ("Worker for", "Champion", "Challenger", "Trouble")
    return lead + (table("Workers of the service", heads, rows, text=(1, 2, 3)) if rows else "")


def model_words(model: Model | None) -> str:
    return escape(f"version {model.version}, trained until {model.trained_until[:10]}") if model else NONE


def reason_words(worker: Worker) -> str:
    return "; ".join(filter(None, (worker.reason, worker.challenger_reason))) or NONE


def numbers_table(counters: ServiceCounters) -> str:
    answered, failed = counters.requests, counters.failed
    away = ", which cannot be reached now" if counters.is_above_0("lstm_ts_ledger_away") else ""
    rows = [
        ("Requests for a forecast", f"{answered:,.0f}"),
        ("of them failed", f"{failed:,.0f} ({percent(failed / answered if answered else 0.0)})"),
        ("Half of them took at most", duration(quantile(counters, 0.5))),
        ("99 of 100 took at most", duration(quantile(counters, 0.99))),
        ("Requests that wait", f"{counters.total('lstm_ts_requests_waiting'):,.0f}"),
        (f"Forecasts queued for the ledger{away}", f"{counters.total('lstm_ts_forecast_log_depth'):,.0f}"),
        ("Forecasts that the ledger will never have", f"{counters.lost:,.0f}"),
    ]
    return table("What the service has counted since its start", ("Number", "Value"), rows)


def quantile(counters: ServiceCounters, share: float) -> float | None:
    """The border of the histogram's bins within which so many requests were answered, s; None without any."""
    within = counters.within()
    count = max(within.values(), default=0.0)
    return min((border for border, number in within.items() if count and number >= share * count), default=None)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    return "more than that is counted by" if seconds == float("inf") else f"{1000 * seconds:g} ms"


def data_view(client: Client, heartbeats: Sequence[Heartbeat], zone: ZoneInfo, now: datetime) -> str:
    """Return HTML: the last bar of every symbol, and the last heartbeats."""
    bars = [(escape(symbol), *bar_words(client, symbol, zone, now)) for symbol in client.symbols()]
    beats = [
        (escape(beat.component), escape(beat.subject), short(beat.at, zone), ago(beat.at, now)) for beat in heartbeats
    ]
    at = f"At, {escape(zone.key)}"
    found = table("Last hourly bars", ("Symbol", f"Closed, {escape(zone.key)}", "Ago"), bars, text=(1, 2))
    if not beats:
        return f'{found}<p class="quiet">No command was seen at work yet: monitor and watcher leave a word here.</p>'
    return found + table("Last heartbeats", ("What", "Of", at, "Ago"), beats, text=(1, 2, 3))


def bar_words(client: Client, symbol: str, zone: ZoneInfo, now: datetime) -> tuple[str, str]:
    try:
        closed = client.last_close_ts(symbol)
    except LstmTsError as error:
        return prose(str(error)), NONE
    return (short(closed, zone), ago(closed, now)) if closed else ("none is stored", NONE)


def ago(at: datetime, now: datetime) -> str:
    return format_span(now - at) if now >= at else NONE
