"""Rules of alerts: which findings make an incident, and when it opens and ends. Pure.

An incident has one rule and one subject. It begins with a bad finding, opens once bad findings have lasted as long as
its rule asks, and ends after good ones; only opened incidents are sent. An unknown finding never ends an incident.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_rows import IncidentRow
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.grouping import find_chain

RULES = (
    *("performance_drop", "concept_drift", "challenger_stopped", "skew", "regime"),
    *("data_quality", "data_stale", "pipeline_failed", "pipeline_late", "monitor_silent"),
    *("service_no_answer", "service_no_champion", "service_errors", "service_latency", "forecast_log_dropping"),
    *("disk", "memory", "file_handles"),
)
SAME_LOOK = timedelta(minutes=1)  # the runs of several symbols, one after the other, look at one machine
DOUBLED = 40  # doublings at most: longer than any wait
WORST_FIRST = (Health.BAD, Health.UNKNOWN, Health.GOOD)
BETWEEN_URLS = re.compile(r",?\s+|,(?=[\w+-]+://)")
Key = tuple[str, str]  # rule and subject


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"
    NONE = "none"  # kept in the ledger, not sent


@dataclass(frozen=True, kw_only=True)
class Rule:
    severity: Severity
    bad: int  # findings in a row, and
    hours: float  # since the first of them, before an incident opens
    good: int  # findings in a row that end it
    outside_sessions: bool  # whether findings count while the subject's market is closed
    unknown: bool  # whether an unknown finding counts as bad


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Wait before a message that failed is sent again; it doubles each time."""

    first_s: float
    longest_s: float

    def after(self, attempts: int) -> timedelta:
        """Return the wait after so many failed attempts."""
        return timedelta(seconds=min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, DOUBLED)))


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Rules and receivers of alerts. Receivers are URLs that hold secrets: nothing prints them."""

    rules: Mapping[str, Rule]
    causes: Mapping[str, str]  # rule → the rule that causes it
    receivers: tuple[str, ...] = field(repr=False)
    timeout_s: float  # for a message to all receivers
    waits: Backoff
    paths: str  # overrides of the folders, as `typed_paths` returns them

    @property
    def command(self) -> str:
        """Command that lists the incidents."""
        return f"python -m lstm_ts.alerts{self.paths}"


def make_alerts(
    *,
    rules: Mapping[str, Mapping[str, Any]],
    causes: Mapping[str, str],
    receivers: str | Sequence[str] | None,
    timeout_s: float,
    waits: Mapping[str, float],
    paths: str = "",
) -> Alerts:
    """receivers    apprise URLs, as a list or separated by blanks or commas
    Raises       ConfigError
    """
    if not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise ConfigError(f"Expected alerts.timeout_s > 0, got {timeout_s}; correct it")
    if missing := [name for name in RULES if name not in rules]:
        raise ConfigError(
            f"Expected alerts.rules.{missing[0]}, got none; put it back, with severity: none to send none"
        )
    made = {name: _make_rule(name, values) for name, values in rules.items()}
    _check_causes(causes)
    urls = _read_receivers(receivers)
    return Alerts(
        rules=made, causes=dict(causes), receivers=urls, timeout_s=timeout_s, waits=_make_backoff(waits), paths=paths
    )


def _make_backoff(values: Mapping[str, float]) -> Backoff:
    if set(values) != {"first_s", "longest_s"} or not 0 <= values["first_s"] <= values["longest_s"]:
        raise ConfigError(f"Expected alerts.waits with 0 <= first_s <= longest_s, got {dict(values)}; correct it")
    return Backoff(**values)


def _check_causes(causes: Mapping[str, str]) -> None:
    for name in (*causes, *causes.values()):
        if name not in RULES:
            raise ConfigError(f"Expected alerts.causes between rules of {', '.join(RULES)}, got {name}; correct it")
    try:
        for name in causes:
            find_chain(name, causes)
    except ValueError as error:
        raise ConfigError(f"{error}; correct alerts.causes") from error


def _read_receivers(given: str | Sequence[str] | None) -> tuple[str, ...]:
    text = " ".join(map(str, given)) if isinstance(given, list | tuple) else str(given or "")
    receivers = dict.fromkeys(filter(None, BETWEEN_URLS.split(text.strip().rstrip(","))))
    for place, receiver in enumerate(receivers, start=1):
        if not re.match(r"[\w+-]+://[^\s,]", receiver):
            raise ConfigError(
                f"Expected alerts.receivers as apprise URLs such as mailto://… or slack://…, separated by blanks, got "
                f"something else as number {place}; correct it, or LSTM_TS_ALERT_URLS"
            )
    return tuple(receivers)


def _make_rule(name: str, values: Mapping[str, Any]) -> Rule:
    """Raises    ConfigError: an unknown rule, or invalid values"""
    if name not in RULES:
        near = get_close_matches(name, RULES, n=1, cutoff=0)[0]
        raise ConfigError(f"Expected a rule of {', '.join(RULES)}, got alerts.rules.{name}; did you mean {near}?")
    wanted = [each.name for each in fields(Rule)]
    if not isinstance(values, Mapping) or set(values) != set(wanted):
        raise ConfigError(f"Expected alerts.rules.{name} with {', '.join(wanted)}, got {values}; correct it")
    _check_rule(name, values)
    return Rule(**dict(values) | {"severity": Severity(values["severity"])})


def _check_rule(name: str, values: Mapping[str, Any]) -> None:
    for key, is_right, expected in (
        ("severity", values["severity"] in list(Severity), f"one of {', '.join(Severity)}"),
        *((key, type(values[key]) is int and values[key] >= 1, "a whole number >= 1") for key in ("bad", "good")),
        ("hours", type(values["hours"]) in (int, float) and values["hours"] >= 0, "a number >= 0"),
        *((key, type(values[key]) is bool, "true or false") for key in ("outside_sessions", "unknown")),
    ):
        if not is_right:
            raise ConfigError(f"Expected alerts.rules.{name}.{key} as {expected}, got {values[key]}; correct it")


@dataclass(frozen=True)
class Changes:
    changed: tuple[IncidentRow, ...]  # to record
    forgotten: tuple[IncidentRow, ...]  # good again before they opened
    opened: frozenset[Key]


def find_changes(
    active: Sequence[IncidentRow],
    findings: Sequence[Finding],
    rules: Mapping[str, Rule],
    *,
    now: datetime,
    closed: Collection[str],
) -> Changes:
    """Apply the findings to the active incidents; `closed` are the subjects whose market is closed now."""
    before: dict[Key, IncidentRow] = {(row.rule, row.subject): row for row in active}
    after: dict[Key, IncidentRow | None] = dict(before)
    for finding in _one_each(findings):
        assert finding.rule in rules, f"Expected a rule of {sorted(rules)}, got {finding}"
        rule, key = rules[finding.rule], (finding.rule, finding.subject)
        if rule.outside_sessions or finding.subject not in closed:
            after[key] = follow(before.get(key), finding, rule, now)
    return _compare(before, after)


def _one_each(findings: Sequence[Finding]) -> list[Finding]:
    """Return the worst finding of each rule and subject."""
    worst: dict[Key, Finding] = {}
    for finding in findings:
        key = (finding.rule, finding.subject)
        worst[key] = min(worst.get(key, finding), finding, key=lambda each: WORST_FIRST.index(each.health))
    return list(worst.values())


def _compare(before: Mapping[Key, IncidentRow], after: Mapping[Key, IncidentRow | None]) -> Changes:
    return Changes(
        changed=tuple(row for key, row in after.items() if row is not None and row != before.get(key)),
        forgotten=tuple(row for key, row in before.items() if after[key] is None),
        opened=frozenset(key for key, row in after.items() if _is_open(row) and not _is_open(before.get(key))),
    )


def _is_open(row: IncidentRow | None) -> bool:
    return row is not None and row.opened_at is not None


def follow(incident: IncidentRow | None, finding: Finding, rule: Rule, now: datetime) -> IncidentRow | None:
    """Return the incident after one more finding; None if there is none, or it turned good before it opened.

    One that repeats the last finding within SAME_LOOK counts no second time.
    """
    is_bad = finding.health is Health.BAD or (finding.health is Health.UNKNOWN and rule.unknown)
    if incident and is_bad != bool(incident.good) and incident.found_at <= now < incident.found_at + SAME_LOOK:
        return incident
    if is_bad:
        return _extend(incident or _begin(finding, rule, now), finding, rule, now)
    if incident is None or finding.health is Health.UNKNOWN:
        return incident
    if incident.opened_at is None:
        return None
    good = incident.good + 1
    return replace(incident, good=good, found_at=now, ended_at=now if good >= rule.good else None)


def _begin(finding: Finding, rule: Rule, now: datetime) -> IncidentRow:
    return IncidentRow(
        number=0,
        rule=finding.rule,
        subject=finding.subject,
        severity=rule.severity,
        began_at=now,
        found_at=now,
        bad=0,
        good=0,
        sentence=finding.sentence,
        command=finding.command,
        opened_at=None,
        ended_at=None,
    )


def _extend(incident: IncidentRow, finding: Finding, rule: Rule, now: datetime) -> IncidentRow:
    found = replace(
        incident,
        severity=rule.severity,
        began_at=min(incident.began_at, now),  # a clock may have been ahead
        found_at=now,
        bad=incident.bad + 1,
        good=0,
        sentence=finding.sentence,
        command=finding.command,
    )
    held = found.bad >= rule.bad and now - found.began_at >= timedelta(hours=rule.hours)
    return replace(found, opened_at=now) if held and found.opened_at is None else found
