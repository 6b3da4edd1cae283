"""`python -m lstm_ts.alerts`: list incidents and deliveries, silence alerts, close incidents, test receivers."""

import re
import socket
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("alerts")  # before what is slow to import

from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.clock import now
from lstm_ts.configuration.parts import check_action, check_registry, construct_alerts, require
from lstm_ts.errors import ConfigError, DeliveryError
from lstm_ts.ledger.alert_rows import DeliveryRow, IncidentRow, SilenceRow
from lstm_ts.ledger.alert_tables import put_incidents, read_active, read_deliveries, read_incidents, read_silences
from lstm_ts.ledger.incident_days import IncidentDay, read_incident_days
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_tables import read_findings
from lstm_ts.logs import audit, user
from lstm_ts.market.session import utc
from lstm_ts.monitoring.alerts import RULES, Alerts, Severity
from lstm_ts.monitoring.delivery import deliver, name_receivers
from lstm_ts.monitoring.messages import Message, find_silence, format_time
from lstm_ts.monitoring.silences import describe_scope, silence, unsilence
from lstm_ts.registry.ledger_check import open_ledger

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}
OPTIONS = {  # of each action, beside `days`
    "list": (),
    "test": (),
    "silence": ("rule", "subject", "until", "reason"),
    "unsilence": ("rule", "subject"),
    "close": ("number", "reason"),
}
MOST_DAYS = 36_500
NO_RECEIVER = "set LSTM_TS_ALERT_URLS to one or more, such as mailto://… or slack://…"


@dataclass(frozen=True)
class AlertRequest:
    """Options of the command line; see conf/alerts.yaml."""

    action: str
    days: float
    rule: str | None
    subject: str | None
    until: str | None
    number: int | None
    reason: str | None


def answer(ledger: Ledger, alerts: Alerts, request: AlertRequest, at: datetime) -> str:
    """Run the action; return the text to print.

    Raises    ConfigError: an unknown action, or an option that it lacks or does not read
              DeliveryError: a receiver did not take the test
    """
    check_action(request, OPTIONS)
    if not 0 <= request.days <= MOST_DAYS:
        raise ConfigError(f"Expected days from 0 to {MOST_DAYS}, got {request.days:g}")
    match request.action:
        case "list":
            return _list(ledger, alerts, request, at)
        case "test":
            return _test(alerts, at)
        case "silence":
            return _silence(ledger, request, at)
        case "unsilence":
            return _unsilence(ledger, request, at)
        case _:  # close
            return _close(ledger, request, at)


def _list(ledger: Ledger, alerts: Alerts, request: AlertRequest, at: datetime) -> str:
    with ledger.transaction() as connection:
        incidents = read_incidents(connection, since=at - timedelta(days=request.days))
        deliveries, silences = read_deliveries(connection, incidents), read_silences(connection, at=at)
        folded = read_incident_days(connection)
    active = [_describe(row, deliveries, silences) for row in incidents if row.ended_at is None]
    ended = [_describe(row, deliveries, []) for row in incidents if row.ended_at is not None]
    receivers = ", ".join(name_receivers(alerts.receivers)) or f"none; {NO_RECEIVER}"
    return "\n".join(
        [
            *_section("Open", active),
            *_section(f"Ended in the last {request.days:g} days", ended),
            *(_section("Counted by day, since they ended long ago", _describe_folded(folded)) if folded else []),
            *_section("Silenced", [_describe_silence(row) for row in silences]),
            f"Receivers: {receivers}",
        ]
    )


def _describe_folded(days: list[IncidentDay]) -> list[str]:
    by_rule: dict[str, int] = defaultdict(int)
    for day in days:
        by_rule[day.rule] += day.incidents
    counts = ", ".join(f"{rule} {count:,}" for rule, count in sorted(by_rule.items()))
    return [f"  from {days[0].day} to {days[-1].day}: {counts}"]


def _section(title: str, items: list[str]) -> list[str]:
    return [f"{title}:", *items, ""] if items else [f"{title}: nothing", ""]


def _describe(row: IncidentRow, deliveries: list[DeliveryRow], silences: list[SilenceRow]) -> str:
    ended = f" until {format_time(row.ended_at)}" if row.ended_at else ""
    silence = find_silence(row, silences)
    severity = "not sent" if row.severity == Severity.NONE else row.severity
    facts = [f"  {row.number}  {severity}: {row.rule} of {row.subject}, since {format_time(row.began_at)}{ended}"]
    facts += [f"silenced until {format_time(silence.until)}"] if silence else []
    facts += [_describe_delivery(each) for each in deliveries if each.number == row.number]
    return "\n".join(["; ".join(facts), f"      {row.sentence}", f"      More: {row.command}"])


def _describe_delivery(row: DeliveryRow) -> str:
    if row.sent_at:
        return f"{row.kind} sent to {row.receiver}"
    return f"{row.kind} not yet sent to {row.receiver} ({row.trouble or 'cut off'}; {row.attempts} attempts)"


def _describe_silence(row: SilenceRow) -> str:
    return f"  {describe_scope(row)} until {format_time(row.until)}, by {row.actor}: {row.reason}"


def _test(alerts: Alerts, at: datetime) -> str:
    receivers = name_receivers(alerts.receivers)
    if not receivers:
        raise ConfigError(f"Expected a receiver of alerts, got none; {NO_RECEIVER}")
    sentence = f"This is a test of lstm_ts on {socket.gethostname()} by {user()}, {format_time(at)}: nothing is wrong."
    message = Message("[test] lstm_ts", f"{sentence}\nMore: {alerts.command}", "success")
    results = dict(deliver({name: (url, message) for name, url in receivers.items()}, alerts.timeout_s))
    if failed := [f"{name}: {error}" for name, error in results.items() if error]:
        raise DeliveryError(
            f"Expected every receiver to accept a test message, got {'; '.join(failed)}; check that it is up and "
            f"LSTM_TS_ALERT_URLS is correct"
        )
    return "\n".join(f"{name} accepted the test message." for name in results)


def _silence(ledger: Ledger, request: AlertRequest, at: datetime) -> str:
    rule, until, reason = _rule(request), read_until(require(request, "until"), at), require(request, "reason")
    row = SilenceRow(0, rule, _subject(request), at, until, user(), str(reason), ended_at=None, ended_by=None)
    silence(ledger, row)
    return (
        f"Alerts of {describe_scope(row)} are silenced until {format_time(until)}.{_advise_on_subject(ledger, row, at)}"
    )


def _advise_on_subject(ledger: Ledger, silenced: SilenceRow, at: datetime) -> str:
    """Return a note if the subject is not among those known, which it may be because it is mistyped."""
    with ledger.transaction() as connection:
        known = {row.subject for row in read_findings(connection) if row.rule == silenced.rule}
        incidents = read_incidents(connection, since=at - timedelta(days=MOST_DAYS))
    known |= {row.subject for row in incidents if row.rule == silenced.rule}
    if silenced.subject is None or silenced.subject in known:
        return ""
    return (
        f" So far {silenced.rule} is known of {', '.join(sorted(known)) or 'no subject'}; if {silenced.subject} is "
        f"mistyped, end this silence with action=unsilence and silence the right one."
    )


def _unsilence(ledger: Ledger, request: AlertRequest, at: datetime) -> str:
    rule, subject = _rule(request), _subject(request)

    def is_wanted(row: SilenceRow) -> bool:
        return row.rule == rule and subject in (None, row.subject)

    found = unsilence(ledger, is_wanted, at=at, by=user())
    if not found:
        raise ConfigError(
            f"Expected a silence in force of rule={rule} subject={subject or 'null'}, got none; "
            f"python -m lstm_ts.alerts shows those in force"
        )
    return "\n".join(f"Alerts of {describe_scope(row)} are no longer silenced." for row in found)


def _close(ledger: Ledger, request: AlertRequest, at: datetime) -> str:
    number, reason = require(request, "number"), require(request, "reason")
    with ledger.exclusive_alerts(), ledger.transaction() as connection:
        found = next((row for row in read_active(connection) if row.number == number and row.opened_at), None)
        if found is None:
            raise ConfigError(
                f"Expected the number of an open incident, got {number}; python -m lstm_ts.alerts shows them"
            )
        closed = f"closed by {user()} ({reason}): {found.sentence}"
        put_incidents(connection, [replace(found, ended_at=at, sentence=closed)])
    message = f"{user()} has closed incident {number}, {found.rule} of {found.subject}: {reason}"
    facts = {"rule": found.rule, "subject": found.subject, "actor": user(), "reason": reason, "incident": number}
    audit("incident_closed", message, **facts)
    return (
        f"Incident {number} is closed; the next run notifies its receivers. "
        "If the problem recurs, a new incident opens."
    )


def _rule(request: AlertRequest) -> str:
    rule = str(require(request, "rule"))
    if rule not in RULES:
        raise ConfigError(f"Expected a rule of {', '.join(RULES)}, got rule={rule}; choose one of them")
    return rule


def _subject(request: AlertRequest) -> str | None:
    """Return the subject; None: any.    Raises    ConfigError: none, but not left out"""
    return None if request.subject is None else str(require(request, "subject"))


def read_until(text: str, at: datetime) -> datetime:
    """Return `at` plus a span such as 4h or 2d, or the time given.    Raises    ConfigError: no future time"""
    span = re.fullmatch(r"(\d{1,4})([hd])", str(text))
    try:
        until = at + int(span[1]) * UNITS[span[2]] if span else utc(text)
    except ConfigError:
        until = None
    if until is None or until <= at:
        raise ConfigError(
            f"Expected a future time, got until={text}; write it as 4h, 2d, or a time in UTC such as "
            f"{at + UNITS['d']:%Y-%m-%dT%H:%M}"
        )
    return until


@entry_point("alerts")
def main(cfg: DictConfig) -> None:
    options = (cfg.action, cfg.days, cfg.rule, cfg.subject, cfg.until, cfg.number, cfg.reason)
    check_registry(cfg)
    alerts: Alerts = construct_alerts(cfg)
    with closing(open_ledger(cfg.registry.ledger, cfg.registry.uri)) as ledger:
        print(answer(ledger, alerts, AlertRequest(*options), now()))


if __name__ == "__main__":
    main()
