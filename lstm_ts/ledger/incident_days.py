"""Incidents older than what is kept: counted by the day of their end, then removed with their deliveries."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.alert_rows import DELIVERIES, INCIDENTS
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import SCHEMA, columns_of
from lstm_ts.ledger.upserts import put_rows
from lstm_ts.market.session import HOUR

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class IncidentDay:
    rule: str
    subject: str
    severity: str
    day: str  # ISO, UTC
    incidents: int
    hours: float  # that they lasted, summed


INCIDENT_DAYS = sa.Table("incident_days", SCHEMA, *columns_of(IncidentDay, "rule", "subject", "severity", "day"))


def fold_incidents(ledger: Ledger, *, before: datetime) -> int:
    """Count and remove ended incidents in one transaction: each is either stored or counted; return how many left."""
    columns = INCIDENTS.c
    with ledger.exclusive_alerts(), ledger.transaction() as connection:
        old = connection.execute(sa.select(INCIDENTS).where(columns.ended_at < before)).all()
        counts: dict[Key, tuple[int, float]] = {
            (row.rule, row.subject, row.severity, row.day): (row.incidents, row.hours)
            for row in (read_incident_days(connection) if old else [])
        }
        for row in old:
            key = row.rule, row.subject, row.severity, row.ended_at.date().isoformat()
            incidents, hours = counts.get(key, (0, 0.0))
            counts[key] = incidents + 1, hours + (row.ended_at - row.began_at) / HOUR
        put_rows(connection, INCIDENT_DAYS, [IncidentDay(*key, *sums) for key, sums in counts.items()])
        for table in (DELIVERIES, INCIDENTS):
            connection.execute(sa.delete(table).where(table.c.number.in_([row.number for row in old])))
        return len(old)


def read_incident_days(connection: Connection) -> list[IncidentDay]:
    """Return the counts by day, ascending by day, rule and subject."""
    table = INCIDENT_DAYS.c
    wanted = sa.select(INCIDENT_DAYS).order_by(table.day, table.rule, table.subject, table.severity)
    return [IncidentDay(**row._mapping) for row in connection.execute(wanted)]
