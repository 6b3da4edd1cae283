"""Findings → incidents in the ledger → messages, each delivered at least once.

An intent is written before a message is sent, and its receipt after. A process killed in between leaves the intent, and
the next run sends the message again. A message arrives twice only if the kill falls between the receiver's answer and
the commit that follows it (milliseconds), or if the answer is late or lost; the second one says that it may be a
repetition. A message that a receiver did not take is sent again by a later run, after a wait that doubles each time
(`alerts.waits`), or together with newer ones.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lstm_ts.ledger.alert_rows import DELIVERIES, IncidentRow
from lstm_ts.ledger.alert_tables import (
    forget_incidents,
    put_incidents,
    read_active,
    read_deliveries,
    read_silences,
    read_unsent,
)
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_tables import read_findings
from lstm_ts.ledger.upserts import put_rows
from lstm_ts.monitoring.alerts import Alerts, Backoff, Severity, find_changes
from lstm_ts.monitoring.delivery import deliver, name_receivers
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.messages import (
    Notification,
    describe_undelivered,
    find_notifications,
    format_time,
    write_message,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportResult:
    opened: tuple[IncidentRow, ...]  # by these findings
    ended: tuple[IncidentRow, ...]
    sent: int  # messages
    undelivered: tuple[str, ...]  # a sentence for each message that did not arrive; a later run sends it again


def report(
    ledger: Ledger, alerts: Alerts, findings: Sequence[Finding], *, now: datetime, closed: Collection[str] = ()
) -> ReportResult:
    """Record the findings, and send every message that is pending, also from earlier runs.

    closed    subjects whose market is closed now
    """
    with ledger.exclusive_alerts():
        with ledger.transaction() as connection:
            active = read_active(connection)
            changes = find_changes(active, findings, alerts.rules, now=now, closed=closed)
            forget_incidents(connection, changes.forgotten)
            changed = put_incidents(connection, changes.changed)
        opened = tuple(row for row in changed if (row.rule, row.subject) in changes.opened)
        ended = tuple(row for row in changed if row.ended_at)
        for row in opened:
            level = logging.INFO if row.severity == Severity.NONE else logging.WARNING
            log.log(level, "%s of %s: %s", row.rule, row.subject, row.sentence, extra=_facts("incident_opened", row))
        for row in ended:
            log.info("%s of %s is over: %s", row.rule, row.subject, row.sentence, extra=_facts("incident_ended", row))
        sent, undelivered = _send_pending(ledger, alerts, now)
    return ReportResult(opened, ended, sent, undelivered)


def _facts(event: str, row: IncidentRow) -> dict[str, Any]:
    return {"event": event, "incident": row.number, "rule": row.rule, "subject": row.subject}


def _send_pending(ledger: Ledger, alerts: Alerts, now: datetime) -> tuple[int, tuple[str, ...]]:
    receivers = name_receivers(alerts.receivers)
    found = _find_notifications(ledger, list(receivers), alerts.causes, now)
    pending = {name: mine for name, mine in found.items() if any(each.is_due(alerts.waits, now) for each in mine)}
    waiting = [_describe_waiting(name, mine, alerts.waits) for name, mine in found.items() if name not in pending]
    intents = {name: [each.intend(name, now) for each in mine] for name, mine in pending.items()}
    with ledger.transaction() as connection:
        put_rows(connection, DELIVERIES, [row for rows in intents.values() for row in rows])
    letters = {name: (receivers[name], write_message(mine, alerts.command)) for name, mine in pending.items()}
    sent, undelivered = 0, waiting
    for name, error in deliver(letters, alerts.timeout_s):
        results = [replace(row, sent_at=None if error else now, trouble=error) for row in intents[name]]
        with ledger.transaction() as connection:
            put_rows(connection, DELIVERIES, results)
        sent += error is None
        if error:
            undelivered.append(describe_undelivered(name, error, _list_numbers(pending[name])))
            log.error(undelivered[-1])
    return sent, tuple(undelivered)


def _find_notifications(
    ledger: Ledger, receivers: Sequence[str], causes: Mapping[str, str], now: datetime
) -> dict[str, list[Notification]]:
    """Return the pending notifications by receiver, without receivers that have none."""
    with ledger.transaction() as connection:
        incidents = read_unsent(connection, receivers)
        deliveries, silences = read_deliveries(connection, incidents), read_silences(connection, at=now)
        unknown = {(row.rule, row.subject) for row in read_findings(connection) if row.health == Health.UNKNOWN}
    if not receivers and (unreported := sum(row.severity != Severity.NONE for row in incidents)):
        log.warning("Incidents without a receiver: %d; set LSTM_TS_ALERT_URLS", unreported)
    found = {name: find_notifications(incidents, deliveries, silences, name, causes, unknown) for name in receivers}
    return {name: pending for name, pending in found.items() if pending}


def _describe_waiting(receiver: str, pending: Sequence[Notification], waits: Backoff) -> str:
    due = min(each.due_at(waits) for each in pending)
    sentence = (
        f"{receiver} has not accepted a message about {_list_numbers(pending)}: a run after {format_time(due)} retries"
    )
    log.warning("%s", sentence)
    return sentence


def _list_numbers(pending: Sequence[Notification]) -> str:
    return "incident " + ", ".join(str(each.incident.number) for each in pending[:5]) + ", …" * (len(pending) > 5)
