"""Check a forecast service over HTTP: its answers, champion, latency, errors and writes to the ledger.

Its counters run since its start, so they are compared with those of an earlier check of the same start, which the
ledger keeps: one URL may lead to several replicas.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.service_client import ServiceClient
from lstm_ts.monitoring.service_counters import ServiceCounters
from lstm_ts.scoring.tables import percent
from lstm_ts.sources.bounded_http import check_url

COMPONENT = "service counters"
FORGOTTEN = timedelta(days=1)  # a replica that has not been seen for so long
FAILED, LATE, LOG = "service_errors", "service_latency", "forecast_log_dropping"


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    answer_s: float  # for a whole answer
    attempts: int
    pause_s: float  # between two of them
    max_bytes: int
    window_s: float  # the shortest time between the counters that are compared
    min_requests: int  # failed or slow requests before their share is judged
    max_failed: float  # share of requests
    slow_s: float
    max_slow: float  # share of requests

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), 1 if each.type is int else 0
            if not isinstance(value, int | float) or not value >= least:
                raise ConfigError(f"Expected checks.service.{each.name} of at least {least}, got {value}; correct it")


@dataclass(frozen=True)
class Counts:
    """Counters since the start of the service."""

    requests: float
    failed: float
    timed: float
    slow: float
    lost: float  # forecasts that will never reach the ledger

    def reset_since(self, before: "Counts") -> bool:
        """Return whether the service has started again since `before`: a counter is lower."""
        return any(own < other for own, other in zip(astuple(self), astuple(before), strict=True))

    def since(self, before: "Counts") -> "Counts":
        return Counts(*(own - other for own, other in zip(astuple(self), astuple(before), strict=True)))


NO_COUNTS = Counts(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ServiceCheck:
    """One check of a service, or of a replica of it."""

    at: datetime
    started: float  # start of the service, s since 1970
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at.isoformat(), "started": self.started, "counts": asdict(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ServiceCheck":
        return cls(datetime.fromisoformat(values["at"]), values["started"], Counts(**values["counts"]))


def watch_service(ledger: Ledger, url: str, limits: ServiceLimits, *, now: datetime) -> list[Finding]:
    """Check the service, and keep its counters for the next check."""
    checks = [check for check in _read_checks(ledger, url) if now - check.at < FORGOTTEN]
    findings, check = check_service(url, limits, checks, now=now)
    if check is None:
        return findings
    before = find_before(checks, check.started)
    current = before if before and (now - before.at).total_seconds() < limits.window_s else check
    kept = [current, *(each for each in checks if each.started != check.started)]
    ledger.record_heartbeat(Heartbeat(COMPONENT, url, now, json.dumps([each.to_json() for each in kept])))
    return findings


def _read_checks(ledger: Ledger, url: str) -> list[ServiceCheck]:
    found = (beat for beat in ledger.heartbeats() if (beat.component, beat.subject) == (COMPONENT, url))
    detail: Any = next((json.loads(beat.detail) for beat in found), [])
    return [ServiceCheck.from_json(each) for each in detail] if isinstance(detail, list) else []  # else an older one


def find_before(checks: Sequence[ServiceCheck], started: float) -> ServiceCheck | None:
    """Return the earlier check with this start; if that is after every check, the counts it began with; else None.

    These are zero, but a service continues to count the lost forecasts that a killed one had counted: of replicas that
    ran at the same time, the fewest, as any of them may be the killed one.
    """
    same = next((check for check in checks if check.started == started), None)
    last = max(checks, key=lambda check: check.at, default=None)
    if same is None and last and started > last.at.timestamp():
        lost = (check.counts.lost for check in checks if check.at.timestamp() > last.started)
        counts = replace(NO_COUNTS, lost=min(lost, default=0.0))
        return ServiceCheck(datetime.fromtimestamp(started, UTC), started, counts)
    return same


def check_service(
    url: str, limits: ServiceLimits, checks: Sequence[ServiceCheck], *, now: datetime
) -> tuple[list[Finding], ServiceCheck | None]:
    """Request a service's health and counters, and judge them.

    checks     earlier checks
    Returns    findings, and this check; None: the service gave no counters
    """
    base = check_url(url, "a service such as http://127.0.0.1:8000")
    asking = {name: getattr(limits, name) for name in ("answer_s", "attempts", "pause_s", "max_bytes")}
    with closing(ServiceClient(base, **asking)) as client:
        health = client.health()
        if isinstance(health, str):
            return _without_answer(base, health), None
        found = [_finding("service_no_answer", base, Health.GOOD, "It answers."), _check_champion(base, health)]
        counters = client.counters()
    if isinstance(counters, str):
        return found + [_finding(rule, base, Health.UNKNOWN, counters) for rule in (FAILED, LATE, LOG)], None
    check, before = ServiceCheck(now, counters.started, _count(counters, limits)), find_before(checks, counters.started)
    is_away = counters.is_above_0("lstm_ts_ledger_away")
    return found + _check_counts(base, check.counts, before.counts if before else None, is_away, limits), check


def _without_answer(base: str, why: str) -> list[Finding]:
    rules = ("service_no_champion", FAILED, LATE, LOG)
    unknown = [_finding(rule, base, Health.UNKNOWN, why) for rule in rules]
    return [_finding("service_no_answer", base, Health.BAD, f"The forecast service does not respond: {why}"), *unknown]


def _check_champion(base: str, health: Mapping[str, Any]) -> Finding:
    workers = [worker for worker in health["workers"] if isinstance(worker, dict)]
    without = [worker for worker in workers if not worker.get("model")]
    if workers and not without:
        return _finding("service_no_champion", base, Health.GOOD, "Every worker has a champion.")
    of = " of " + str(without[0].get("symbol")) if without and without[0].get("symbol") else ""
    reason = str(without[0].get("reason") if without else health.get("reason") or "no worker is there")[:300]
    sentence = f"{len(without)} of {len(workers)} workers of {base} have no champion{of} to answer with: {reason}"
    return _finding("service_no_champion", base, Health.BAD, sentence)


def _count(counters: ServiceCounters, limits: ServiceLimits) -> Counts:
    """Return the counts; a request is slow beyond the first border of the histogram that is at least `slow_s`."""
    timed, within = counters.total("lstm_ts_request_seconds_count"), counters.within()
    nearest = min((border for border in within if border >= limits.slow_s), default=None)
    slow = 0.0 if nearest is None else timed - within[nearest]
    return Counts(counters.requests, counters.failed, timed, slow, counters.lost)


def _check_counts(
    base: str, counts: Counts, before: Counts | None, is_away: bool, limits: ServiceLimits
) -> list[Finding]:
    if before is None:
        first = "This is the first check: there is nothing to compare with."
        return [_finding(rule, base, Health.UNKNOWN, first) for rule in (FAILED, LATE, LOG)]
    new = counts if counts.reset_since(before) else counts.since(before)
    failed = _check_share(new.failed, new.requests, limits.max_failed, limits)
    slow = _check_share(new.slow, new.timed, limits.max_slow, limits)
    return [
        _finding(FAILED, base, failed, f"{_share(new.failed, new.requests)} of {base} failed."),
        _finding(LATE, base, slow, f"{_share(new.slow, new.timed)} of {base} took over {limits.slow_s:g} s."),
        _check_log(base, new, is_away),
    ]


def _check_share(part: float, whole: float, most: float, limits: ServiceLimits) -> Health:
    if not whole:
        return Health.UNKNOWN
    return Health.BAD if part >= limits.min_requests and part > most * whole else Health.GOOD


def _share(part: float, whole: float) -> str:
    return f"{part:.0f} of the last {whole:.0f} requests ({percent(part / whole if whole else 0.0)})"


def _check_log(base: str, new: Counts, is_away: bool) -> Finding:
    if new.lost:
        return _finding(LOG, base, Health.BAD, f"{base} has lost {new.lost:.0f} forecasts on their way to the ledger.")
    if is_away:
        return _finding(LOG, base, Health.BAD, f"{base} cannot write its forecasts to the ledger, and queues them.")
    return _finding(LOG, base, Health.GOOD, "It writes its forecasts to the ledger.")


def _finding(rule: str, base: str, health: Health, sentence: str) -> Finding:
    path = "/metrics" if rule in (FAILED, LATE) else "/health"
    return Finding(rule, base, health, sentence, f"curl {base}{path}")
