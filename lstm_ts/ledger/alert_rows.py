"""Rows of alerts (incidents, deliveries, silences) and of heartbeats.

They change, unlike those of `rows.py`, since they are states.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Dialect

from lstm_ts.ledger.rows import SCHEMA, UtcTime

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


class OptionalUtcTime(UtcTime):
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else super().process_bind_param(value, dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else super().process_result_value(value, dialect)


INCIDENTS = sa.Table(
    "incidents",
    SCHEMA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("rule", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("severity", sa.Text),
    sa.Column("began_at", UtcTime),
    sa.Column("found_at", UtcTime),
    sa.Column("bad", sa.Integer),
    sa.Column("good", sa.Integer),
    sa.Column("sentence", sa.Text),
    sa.Column("command", sa.Text),
    sa.Column("opened_at", OptionalUtcTime),
    sa.Column("ended_at", OptionalUtcTime),
)
DELIVERIES = sa.Table(
    "deliveries",
    SCHEMA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("receiver", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("intended_at", UtcTime),
    sa.Column("attempts", sa.Integer),
    sa.Column("sent_at", OptionalUtcTime),
    sa.Column("trouble", sa.Text),
)
SILENCES = sa.Table(
    "silences",
    SCHEMA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("rule", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("at", UtcTime),
    sa.Column("until", UtcTime),
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("ended_at", OptionalUtcTime),
    sa.Column("ended_by", sa.Text),
)
HEARTBEATS = sa.Table(
    "heartbeats",
    SCHEMA,
    sa.Column("component", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("detail", sa.Text),
)
