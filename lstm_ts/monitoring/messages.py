"""The notifications that each receiver lacks, and the one message that holds them. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lstm_ts.ledger.alert_rows import OPENED, RESOLVED, DeliveryRow, IncidentRow, SilenceRow
from lstm_ts.market.session import DAY, MINUTE
from lstm_ts.monitoring.alerts import Backoff, Severity
from lstm_ts.monitoring.grouping import group_incidents, is_held

SHOWN = 20  # incidents in a message
LONGEST = 1000  # characters of a sentence in it
ORDER = [*Severity]


@dataclass(frozen=True)
class Notification:
    """A pending notification of one receiver about one incident."""

    incident: IncidentRow
    kind: str  # opened | resolved
    delivery: DeliveryRow | None  # the last attempt; None: there was none
    others: tuple[IncidentRow, ...] = ()  # incidents with the same cause, which get no notification of their own

    def intend(self, receiver: str, now: datetime) -> DeliveryRow:
        attempts = self.delivery.attempts if self.delivery else 0
        return DeliveryRow(self.incident.number, receiver, self.kind, now, attempts + 1, sent_at=None, trouble=None)

    def is_due(self, waits: Backoff, now: datetime) -> bool:
        """Return whether to try now: at once if nothing was tried, or the result of the last attempt is not known."""
        if self.delivery is None or self.delivery.trouble is None:
            return True
        return not self.delivery.intended_at <= now < self.due_at(waits)  # a clock may have been ahead

    def due_at(self, waits: Backoff) -> datetime:
        assert self.delivery
        return self.delivery.intended_at + waits.after(self.delivery.attempts)


@dataclass(frozen=True)
class Message:
    title: str
    body: str
    kind: str  # failure | warning | success: apprise's words


def find_notifications(
    incidents: Sequence[IncidentRow],
    deliveries: Sequence[DeliveryRow],
    silences: Sequence[SilenceRow],
    receiver: str,
    causes: Mapping[str, str],
    unknown: Collection[tuple[str, str]] = (),
) -> list[Notification]:
    """Return the notifications that one receiver lacks: openings, most severe first, then resolutions.

    A resolution goes to each receiver that the opening was, or may have been, sent to. A silence delays messages; only
    an incident that ends while it is silenced is never sent. Of incidents with one cause (see `grouping`) one is sent;
    one that is only unknown does not stand for others that are bad.

    unknown   rule and subject of the incidents that were last found unknown
    """
    known = {(row.number, row.kind): row for row in deliveries if row.receiver == receiver}
    unsilenced = [row for row in incidents if row.severity != Severity.NONE and find_silence(row, silences) is None]
    groups = group_incidents(unsilenced, causes)
    notifications = [each for group in groups for each in _find_of_group(group, known, unknown)]
    return sorted(notifications, key=_by_severity)


def _find_of_group(
    group: Sequence[IncidentRow],
    known: Mapping[tuple[int, str], DeliveryRow],
    unknown: Collection[tuple[str, str]],
) -> list[Notification]:
    """Return the resolutions that are due, and one opening for all open incidents unless one of them was sent."""

    def is_sent(row: IncidentRow, kind: str) -> bool:
        return (row.number, kind) in known and known[row.number, kind].sent_at is not None

    over = [row for row in group if row.ended_at and (row.number, OPENED) in known and not is_sent(row, RESOLVED)]
    notifications = [
        Notification(row, RESOLVED, known.get((row.number, RESOLVED))) for row in over if not is_held(row, group)
    ]
    running = [row for row in group if row.ended_at is None]
    waiting = [row for row in over if is_held(row, group)]
    leading = [row for row in running if (row.rule, row.subject) not in unknown] or running
    if running and not any(is_sent(row, OPENED) for row in (*leading, *waiting)):
        first = next((row for row in leading if (row.number, OPENED) in known), leading[0])
        others = tuple(row for row in running if row is not first)
        notifications.append(Notification(first, OPENED, known.get((first.number, OPENED)), others))
    return notifications


def _by_severity(notification: Notification) -> tuple[bool, int, int]:
    return (
        notification.kind == RESOLVED,
        ORDER.index(Severity(notification.incident.severity)),
        notification.incident.number,
    )


def find_silence(incident: IncidentRow, silences: Sequence[SilenceRow]) -> SilenceRow | None:
    """Return the first of the silences, all of them in force, that covers the incident."""
    fits = (row for row in silences if row.rule == incident.rule and row.subject in (None, incident.subject))
    return next(fits, None)


def write_message(notifications: Sequence[Notification], command: str) -> Message:
    """Return one message with all notifications of one receiver, which come most severe first.

    command    that lists all incidents
    """
    first = notifications[0]
    more = f" and {len(notifications) - 1} more" if len(notifications) > 1 else ""
    state = "resolved" if first.kind == RESOLVED else first.incident.severity
    shown = [_describe(each) for each in notifications[:SHOWN]]
    if len(notifications) > SHOWN:
        shown.append(f"And {len(notifications) - SHOWN} more. All of them: {command}")
    return Message(
        title=f"[{state}] {first.incident.rule} of {first.incident.subject}{more}",
        body="\n\n".join(shown),
        kind=_kind(notifications),
    )


def _kind(notifications: Sequence[Notification]) -> str:
    opened = {each.incident.severity for each in notifications if each.kind == OPENED}
    return "failure" if Severity.CRITICAL in opened else "warning" if opened else "success"


def _describe(notification: Notification) -> str:
    """Return the sentence a person needs first, the command that shows more, then the incident's number and age."""
    incident = notification.incident
    sentence = _shorten(incident.sentence)
    lines = [sentence, f"More: {incident.command}"]
    summary = f"{incident.rule} of {incident.subject}, {incident.severity}, since {format_time(incident.began_at)}"
    if notification.kind == RESOLVED:
        assert incident.ended_at is not None
        lines[0] = f"Ended {format_time(incident.ended_at)}. Last found: {sentence}"
        summary += f", for {format_span(incident.ended_at - incident.began_at)}"
    repeated = "; this may be a repeat" if notification.delivery else ""  # the earlier attempt may have arrived
    lines.append(f"Incident {incident.number}: {summary}{repeated}")
    lines += [f"With it, incident {row.number}: {row.rule}: {_shorten(row.sentence)}" for row in notification.others]
    return "\n".join(lines)


def _shorten(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST]} …"


def format_time(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M} UTC"


def format_span(span: timedelta) -> str:
    minutes = round(span / MINUTE)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if span < 2 * DAY else f"{span.days} days"


def describe_undelivered(receiver: str, error: str, about: str) -> str:
    return (
        f"Expected the receiver {receiver} to accept a message about {about}, got {error}; check that it is up and "
        f"LSTM_TS_ALERT_URLS is correct; a later run retries"
    )
