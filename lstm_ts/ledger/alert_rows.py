"""Rows of alerts (incidents, deliveries, silences) and of heartbeats.

They change, unlike those of `rows.py`, since they are states.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from lstm_ts.ledger.rows import SCHEMA, columns_of

OPENED, RESOLVED = "opened", "resolved"  # events that are delivered
MONITOR = "monitor"  # component of its heartbeats, whose subjects are registered models


@dataclass(frozen=True)
class IncidentRow:
    """One at a time of a rule and subject: from the first bad finding until it is good again."""

    number: int  # 0: not recorded yet
    rule: str
    subject: str
    severity: str
    began_at: datetime
    found_at: datetime  # the latest finding that counted
    bad: int  # findings in a row
    good: int  # findings in a row since
    sentence: str  # of the latest bad finding, and its command
    command: str
    opened_at: datetime | None  # None: it has not held for as long as its rule requires
    ended_at: datetime | None


@dataclass(frozen=True)
class DeliveryRow:
    """Written before anything is sent; `sent_at` and `trouble` are both None until its outcome is known."""

    number: int  # of the incident
    receiver: str
    kind: str  # opened | resolved
    intended_at: datetime
    attempts: int
    sent_at: datetime | None
    trouble: str | None


@dataclass(frozen=True)
class SilenceRow:
    number: int  # 0: not recorded yet
    rule: str
    subject: str | None  # None: all of the rule
    at: datetime
    until: datetime
    actor: str
    reason: str
    ended_at: datetime | None  # None: it lasts until `until`
    ended_by: str | None


@dataclass(frozen=True)
class Heartbeat:
    component: str
    subject: str
    at: datetime
    detail: str


INCIDENTS = sa.Table("incidents", SCHEMA, *columns_of(IncidentRow, "number"))
DELIVERIES = sa.Table("deliveries", SCHEMA, *columns_of(DeliveryRow, "number", "receiver", "kind"))
SILENCES = sa.Table("silences", SCHEMA, *columns_of(SilenceRow, "number"))
HEARTBEATS = sa.Table("heartbeats", SCHEMA, *columns_of(Heartbeat, "component", "subject"))
