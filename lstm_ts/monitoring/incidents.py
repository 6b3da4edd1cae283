"""Findings → incidents in the ledger → messages, each delivered at least once.

An intent is written before a message is sent, and its receipt after. A process killed in between leaves the intent, and
the next run sends the message again. A message arrives twice only if the kill falls between the receiver's answer and
the commit that follows it (milliseconds), or if the answer is late or lost; the second one says that it may be a
repetition. A message that a receiver did not take is sent again by a later run, after a wait that doubles each time
(`alerts.waits`), or together with newer news.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lstm_ts.ledger.alert_rows import IncidentRow
from lstm_ts.ledger.alert_tables import (
    forget_incidents,
    put_deliveries,
    put_incidents,
    read_active,
    read_deliveries,
    read_silences,
    read_untold,
)
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.alerts import Alerts, Severity, Waits, find_changes
from lstm_ts.monitoring.delivery import deliver, name_receivers
from lstm_ts.monitoring.findings import Finding
from lstm_ts.monitoring.messages import (
    News,
    after_sending,
    describe_undelivered,
    find_news,
    format_time,
    write_message,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    opened: tuple[IncidentRow, ...]  # by these findings
    ended: tuple[IncidentRow, ...]
    sent: int  # messages
    undelivered: tuple[str, ...]  # a sentence for each message that did not arrive; a later run sends it again


def report(
    ledger: Ledger, alerts: Alerts, findings: Sequence[Finding], *, now: datetime, closed: Collection[str] = ()
) -> Told:
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
        sent, undelivered = _tell(ledger, alerts, now)
    return Told(opened, ended, sent, undelivered)


def _facts(event: str, row: IncidentRow) -> dict[str, Any]:
    return {"event": event, "incident": row.number, "rule": row.rule, "subject": row.subject}


def _tell(ledger: Ledger, alerts: Alerts, now: datetime) -> tuple[int, tuple[str, ...]]:
    receivers = name_receivers(alerts.receivers)
    found = _find_news(ledger, list(receivers), alerts.causes, now)
    news = {name: mine for name, mine in found.items() if any(each.is_due(alerts.waits, now) for each in mine)}
    waiting = [_describe_waiting(name, mine, alerts.waits) for name, mine in found.items() if name not in news]
    intents = {name: [each.intend(name, now) for each in mine] for name, mine in news.items()}
    with ledger.transaction() as connection:
        put_deliveries(connection, [row for rows in intents.values() for row in rows])
    letters = {name: (receivers[name], write_message(mine)) for name, mine in news.items()}
    sent, undelivered = 0, waiting
    for name, trouble in deliver(letters, alerts.timeout_s):
        with ledger.transaction() as connection:
            put_deliveries(connection, after_sending(intents[name], trouble, now))
        sent += trouble is None
        if trouble:
            undelivered.append(describe_undelivered(name, trouble, _list_numbers(news[name])))
            log.error(undelivered[-1])
    return sent, tuple(undelivered)


def _find_news(
    ledger: Ledger, receivers: Sequence[str], causes: Mapping[str, str], now: datetime
) -> dict[str, list[News]]:
    """Return the pending news by receiver, without receivers that have none."""
    with ledger.transaction() as connection:
        incidents = read_untold(connection, receivers)
        deliveries, silences = read_deliveries(connection, incidents), read_silences(connection, at=now)
    if not receivers and (untold := sum(row.severity != Severity.NONE for row in incidents)):
        log.warning("Incidents that nobody is told of: %d; set LSTM_TS_ALERT_URLS", untold)
    found = {name: find_news(incidents, deliveries, silences, name, causes) for name in receivers}
    return {name: news for name, news in found.items() if news}


def _describe_waiting(receiver: str, news: Sequence[News], waits: Waits) -> str:
    due = min(each.due_at(waits) for each in news)
    said = f"{receiver} has not taken a message about {_list_numbers(news)}: a run after {format_time(due)} tries again"
    log.warning("%s", said)
    return said


def _list_numbers(news: Sequence[News]) -> str:
    return "incident " + ", ".join(str(each.incident.number) for each in news[:5]) + ", …" * (len(news) > 5)
