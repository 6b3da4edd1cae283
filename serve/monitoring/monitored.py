"""The monitor's results as Prometheus metrics: read from the ledger, exposed at a scrape."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lstm_ts import clock
from lstm_ts.http_schema import Skill, SkillOver
from lstm_ts.ledger import alert_tables
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.monitoring.challenge import CHALLENGE, Challenge
from lstm_ts.monitoring.concept_drift import DriftState
from lstm_ts.monitoring.live_skill import LIVE_SKILL
from lstm_ts.monitoring.versions import DRIFT
from serve.ledger.reader import Reading, VersionKey
from serve.monitoring.challenge_figures import challenge_metrics, find_challengers
from serve.monitoring.live_skill import make_skill

COVERAGE_DAYS = timedelta(days=30)
VERSION, STEP = ["name", "version"], ["name", "version", "step"]


@dataclass(frozen=True)
class Monitored:
    skills: Mapping[VersionKey, Skill]
    drifts: Mapping[VersionKey, DriftState]
    challenges: Mapping[VersionKey, Challenge]
    coverages: Mapping[VersionKey, Mapping[int, float]]  # by step
    alerts: Mapping[tuple[str, str, str], int]  # how many are open, by rule, subject and severity
    heartbeats: Sequence[Heartbeat]


class MonitoredReader:
    """Reader of the monitor's results; it sums coverages again only after the monitor has run."""

    def __init__(self) -> None:
        self._coverages: dict[VersionKey, tuple[datetime, dict[int, float]]] = {}

    def read(self, ledger: Ledger, versions: frozenset[VersionKey]) -> Monitored:
        heartbeats, challengers = ledger.heartbeats(), find_challengers(ledger, {name for name, _ in versions})
        versions |= challengers
        with ledger.transaction() as connection:
            skills = tables.read_state_rows(connection, LIVE_SKILL, versions)
            drifts = tables.read_state_rows(connection, DRIFT, versions)
            challenges = tables.read_state_rows(connection, CHALLENGE, challengers)
            incidents = [row for row in alert_tables.read_active(connection) if row.opened_at]
            since, known = (clock.now() - COVERAGE_DAYS).date().isoformat(), self._coverages
            self._coverages = {}
            for row in skills:
                key = row.name, row.version
                at, _ = known.get(key, (None, None))
                days = tables.read_daily_scores(connection, *key, since=since) if at != row.at else []
                self._coverages[key] = known[key] if at == row.at else (row.at, compute_coverage(days))
        return Monitored(
            skills={(row.name, row.version): skill for row in skills if (skill := make_skill(row))},
            drifts={(row.name, row.version): DriftState.from_json(row.state) for row in drifts if row.state},
            challenges={(row.name, row.version): Challenge.from_json(row.state) for row in challenges},
            coverages={key: coverage for key, (_, coverage) in self._coverages.items()},
            alerts=Counter((row.rule, row.subject, row.severity) for row in incidents),
            heartbeats=heartbeats,
        )


def compute_coverage(days: Sequence[DailyScore]) -> dict[int, float]:
    """Return the share of outcomes within the 80 % interval, by step."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for day in days:
        counts[day.step][0] += day.sums["inside"]
        counts[day.step][1] += day.sums["n"]
    return {step: inside / n for step, (inside, n) in counts.items() if n}


class MonitoredMetrics(Collector):
    """Metrics of loaded versions and of challengers; other versions have no series."""

    def __init__(self, reading: Reading[Monitored]) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        if self._reading.at is not None:
            age_s = time.monotonic() - self._reading.at
            yield GaugeMetricFamily("lstm_ts_ledger_read_age_seconds", "Since the ledger answered", value=age_s)
        if monitored := self._reading.value:
            yield from _skill_metrics(monitored.skills)
            yield from _drift_metrics(monitored.drifts)
            yield from challenge_metrics(monitored.challenges)
            yield _coverage_metric(monitored.coverages)
            yield _alert_metric(monitored.alerts)
            yield _heartbeat_metric(monitored.heartbeats)


def _skill_metrics(skills: Mapping[VersionKey, Skill]) -> Iterator[Metric]:
    over = [*STEP, "over"]
    outcomes = GaugeMetricFamily("lstm_ts_outcomes", "Scored forecasts that live skill is based on", labels=STEP)
    skill = GaugeMetricFamily("lstm_ts_live_skill", "Share by which the loss is below a baseline's", labels=over)
    lower = GaugeMetricFamily("lstm_ts_live_skill_lower", "Lower bound, valid at any time", labels=over)
    upper = GaugeMetricFamily("lstm_ts_live_skill_upper", "Upper bound, valid at any time", labels=over)
    for (name, version), found in skills.items():
        for each in found.steps:
            labels = [name, str(version), str(each.step)]
            outcomes.add_metric(labels, each.outcomes)
            for base, than in (("best", each.over_best), ("persistence", each.over_persistence)):
                _add_over([*labels, base], than, skill, lower, upper)
    yield from (outcomes, skill, lower, upper)


def _add_over(
    labels: Sequence[str], than: SkillOver, skill: GaugeMetricFamily, lower: GaugeMetricFamily, upper: GaugeMetricFamily
) -> None:
    for family, value in ((skill, than.skill), (lower, than.lower), (upper, than.upper)):
        if value is not None:
            family.add_metric(labels, value)


def _drift_metrics(drifts: Mapping[VersionKey, DriftState]) -> Iterator[Metric]:
    evidence = GaugeMetricFamily("lstm_ts_drift_evidence", "Evidence of concept drift, log10", labels=VERSION)
    threshold = GaugeMetricFamily("lstm_ts_drift_threshold", "Evidence that is an alarm, log10", labels=VERSION)
    for (name, version), state in drifts.items():
        for family, value in zip((evidence, threshold), state.evidence, strict=True):
            family.add_metric([name, str(version)], value)
    yield from (evidence, threshold)


def _coverage_metric(coverages: Mapping[VersionKey, Mapping[int, float]]) -> Metric:
    text = "Share of outcomes within the 80 % interval, 30 days"
    family = GaugeMetricFamily("lstm_ts_coverage_80", text, labels=STEP)
    for (name, version), by_step in coverages.items():
        for step, share in by_step.items():
            family.add_metric([name, str(version), str(step)], share)
    return family


def _alert_metric(alerts: Mapping[tuple[str, str, str], int]) -> Metric:
    family = GaugeMetricFamily("lstm_ts_alerts_open", "Open incidents", labels=["rule", "subject", "severity"])
    for labels, count in alerts.items():
        family.add_metric(labels, count)
    return family


def _heartbeat_metric(heartbeats: Sequence[Heartbeat]) -> Metric:
    text, now = "Since the monitor, or another component, was last seen running", clock.now()
    family = GaugeMetricFamily("lstm_ts_heartbeat_age_seconds", text, labels=["component", "subject"])
    for beat in heartbeats:
        family.add_metric([beat.component, beat.subject], (now - beat.at).total_seconds())
    return family
