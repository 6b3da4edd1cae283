"""Metrics for Prometheus. Each process writes a file of its own, and a scrape adds them up."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from lstm_ts import clock
from lstm_ts.monitoring.service_counters import OUTCOMES, ROUTES

if TYPE_CHECKING:
    from lstm_ts.http_schema import Model, Worker  # slow to import, and the registry process needs none of it

BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
PARTS = ("queue", "check", "features", "network", "encode")  # of a request, in the order they happen

REQUESTS = Counter("lstm_ts_requests", "Answers given", ["route", "status", "arm", "symbol", "version"])
REQUEST_SECONDS = Histogram(
    "lstm_ts_request_seconds", "From the last byte of a request to its answer", ["route"], buckets=BUCKETS
)
PART_SECONDS = Histogram("lstm_ts_part_seconds", "Where a request's time goes", ["part"], buckets=BUCKETS)
WAITING = Gauge("lstm_ts_requests_waiting", "Requests that no worker has answered yet", multiprocess_mode="livesum")
LOG_DEPTH = Gauge("lstm_ts_forecast_log_depth", "Forecasts queued for the ledger", multiprocess_mode="livesum")
LEDGER_AWAY = Gauge(
    "lstm_ts_ledger_away", "1 while forecasts cannot be written to the ledger, else 0", multiprocess_mode="livemax"
)
FORECASTED = Counter("lstm_ts_forecasts", "Forecasts to be written to the ledger")
LOGGED = Counter("lstm_ts_forecast_log", "Forecasts by outcome of the write to the ledger", ["outcome"])
FELL_BACK = Counter("lstm_ts_fell_back", "Requests of a challenger that the champion had to answer", ["version"])
SHADOWED = Counter("lstm_ts_shadow", "Forecasts of the challenger that no client sees", ["outcome"])
STOPPED = Counter(
    "lstm_ts_challenger_stopped", "Times a process stopped sending requests to the challenger", ["version"]
)
FOLLOWED = Gauge(
    "lstm_ts_followed_timestamp_seconds",
    "Last successful poll of the registry's aliases, 0 for never; the earliest over workers",
    ["name"],
    multiprocess_mode="livemin",
)
FAILED = Counter("lstm_ts_requests_failed", "Requests for a forecast that got a 5xx", ["route"])
STARTED = Gauge(
    "lstm_ts_started_timestamp_seconds",
    "Start of the service",
    multiprocess_mode="mostrecent",  # processes that do not set it have 0
)
CONNECTIONS = Gauge("lstm_ts_connections", "Open connections of clients", multiprocess_mode="livesum")
REFUSED = Counter("lstm_ts_connections_refused", "Connections refused or closed by the service", ["reason"])
MEMORY = Gauge(
    "lstm_ts_process_resident_memory_bytes",
    "Of one process: main, http, worker or registry",
    ["process"],
    multiprocess_mode="liveall",
)
OPEN_FILES = Gauge("lstm_ts_process_open_fds", "Files that it has open", ["process"], multiprocess_mode="liveall")
MAX_FILES = Gauge("lstm_ts_process_max_fds", "Files that it may open", ["process"], multiprocess_mode="liveall")
CPU_SECONDS = Counter("lstm_ts_process_cpu_seconds", "Of all processes of a kind, ended ones too", ["process"])
SESSION_OPEN = Gauge(
    "lstm_ts_session_open", "1 while the market is open, else 0", ["symbol"], multiprocess_mode="livemostrecent"
)
LAST_BAR_AGE = Gauge(
    "lstm_ts_last_bar_age_seconds", "Age of the last stored hour", ["symbol"], multiprocess_mode="livemostrecent"
)
LAST_BAR_SESSION_AGE = Gauge(
    "lstm_ts_last_bar_session_age_seconds",
    "Age of the last stored hour, in session time",
    ["symbol"],
    multiprocess_mode="livemostrecent",
)
MONITOR_SESSION_AGE = Gauge(
    "lstm_ts_monitor_session_age_seconds",
    "Time in session since the monitor last ended a run",
    ["symbol"],
    multiprocess_mode="livemostrecent",
)
LOAD_FAILURES = Counter("lstm_ts_load_failures", "Times an alias could not be followed", ["at"])


class LoadedWorkers(Collector):
    """Collector of what the workers have loaded at the moment of a scrape."""

    def __init__(self, workers: "Iterable[Worker]", slots: int) -> None:
        self._workers = tuple(workers)
        self._models = [model for worker in self._workers for model in (worker.model, worker.challenger) if model]
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        names = ["name", "version", "alias"]
        yield GaugeMetricFamily("lstm_ts_workers", "Configured workers", value=self._slots)
        counts = GaugeMetricFamily("lstm_ts_loaded_workers", "Workers by loaded version", labels=names)
        ages = GaugeMetricFamily("lstm_ts_model_age_seconds", "Since the end of training", labels=names)
        for model in {(model.name, model.version, model.alias): model for model in self._models}.values():
            labels = [model.name, str(model.version), model.alias]
            counts.add_metric(labels, self._models.count(model))
            if age_s := _age_s(model):
                ages.add_metric(labels, age_s)
        yield from (counts, ages)
        lacking = GaugeMetricFamily("lstm_ts_workers_without_champion", "Workers by symbol", labels=["symbol"])
        for symbol in sorted({worker.symbol for worker in self._workers}):
            of_symbol = (worker for worker in self._workers if worker.symbol == symbol)
            lacking.add_metric([symbol], sum(worker.model is None for worker in of_symbol))
        yield lacking


def _age_s(model: "Model") -> float | None:
    if not model.trained_until:
        return None
    until = datetime.fromisoformat(model.trained_until)
    return (clock.now() - (until if until.tzinfo else until.replace(tzinfo=UTC))).total_seconds()


def start_at_zero() -> None:
    """Show the counts that alerts compare before anything is counted, so that a first failure is an increase."""
    STARTED.set(clock.now().timestamp())
    for route in ROUTES:
        FAILED.labels(route)
        REQUEST_SECONDS.labels(route)
    for outcome in OUTCOMES:
        LOGGED.labels(outcome)


def scrape(*collectors: Collector) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
