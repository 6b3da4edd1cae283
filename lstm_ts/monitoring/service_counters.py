"""Counters of a forecast service since its start, parsed from its `/metrics`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

ROUTES = ("/predict", "/forecast")  # the labels of all requests for a forecast
OUTCOMES = ("written", "dropped", "refused", "lost")  # of a forecast on its way to the ledger


@dataclass(frozen=True)
class ServiceCounters:
    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str) -> "ServiceCounters":
        """Raises    ValueError: the text is not in Prometheus's format"""
        families = text_string_to_metric_families(text)
        return cls(tuple(sample for family in families for sample in family.samples))

    def named(self, name: str) -> Iterator[Sample]:
        """Yield samples about requests for a forecast, or without a route."""
        return (each for each in self.samples if each.name == name and each.labels.get("route", ROUTES[0]) in ROUTES)

    def total(self, name: str) -> float:
        return _sum(self.named(name))

    def is_above_0(self, name: str) -> bool:
        return any(each.value > 0 for each in self.named(name))

    @property
    def started(self) -> float:
        """Start of the service, in s since 1970; 0: an older service, which does not report it."""
        return self.total("lstm_ts_started_timestamp_seconds")

    @property
    def requests(self) -> float:
        return self.total("lstm_ts_requests_total")

    @property
    def failed(self) -> float:
        return _sum(x for x in self.named("lstm_ts_requests_total") if x.labels.get("status", "").startswith("5"))

    @property
    def lost(self) -> float:
        """Forecasts that will never reach the ledger."""
        return _sum(x for x in self.named("lstm_ts_forecast_log_total") if x.labels.get("outcome") in OUTCOMES[1:])

    def within(self) -> dict[float, float]:
        """Upper edge of a histogram's bin, s -> number of requests answered within it."""
        within: dict[float, float] = {}
        for each in self.named("lstm_ts_request_seconds_bucket"):
            border = float(each.labels["le"])
            within[border] = within.get(border, 0.0) + each.value
        return within


def _sum(samples: Iterable[Sample]) -> float:
    return sum(each.value for each in samples)
