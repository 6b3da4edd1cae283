"""Tables of alerts, read and written in a transaction of `Ledger.transaction`: several calls are one change."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.alert_rows import (
    DELIVERIES,
    INCIDENTS,
    OPENED,
    RESOLVED,
    SILENCES,
    DeliveryRow,
    IncidentRow,
    SilenceRow,
)
from lstm_ts.ledger.upserts import add_numbered, put_rows


def put_incidents(connection: Connection, rows: Sequence[IncidentRow]) -> list[IncidentRow]:
    """Store the rows and return them with their numbers: rows without a number are added."""
    put_rows(connection, INCIDENTS, [row for row in rows if row.number])
    return [row if row.number else replace(row, number=add_numbered(connection, INCIDENTS, row)) for row in rows]


def forget_incidents(connection: Connection, rows: Sequence[IncidentRow]) -> None:
    """Delete incidents that have never opened."""
    assert all(row.opened_at is None for row in rows)
    connection.execute(sa.delete(INCIDENTS).where(INCIDENTS.c.number.in_([row.number for row in rows])))


def read_active(connection: Connection) -> list[IncidentRow]:
    """Return the incidents that have not ended, whether opened or not; the oldest first."""
    return _read_incidents(connection, INCIDENTS.c.ended_at.is_(None))


def read_incidents(connection: Connection, *, since: datetime) -> list[IncidentRow]:
    """Return the incidents that are open, or have ended since; the oldest first."""
    ended_at = INCIDENTS.c.ended_at
    return _read_incidents(connection, INCIDENTS.c.opened_at.is_not(None), ended_at.is_(None) | (ended_at >= since))


def read_latest(connection: Connection, *, limit: int) -> list[IncidentRow]:
    """Return the incidents that have opened: first the open ones, then the ended ones; the newest of both first."""
    columns = INCIDENTS.c
    order = columns.ended_at.is_(None).desc(), columns.number.desc()
    wanted = sa.select(INCIDENTS).where(columns.opened_at.is_not(None)).order_by(*order).limit(limit)
    return [IncidentRow(**row._mapping) for row in connection.execute(wanted)]


def read_unsent(connection: Connection, receivers: Sequence[str]) -> list[IncidentRow]:
    """Return open incidents, and ended ones whose end was not sent to one of the receivers; the oldest first."""
    is_active = INCIDENTS.c.ended_at.is_(None)
    return _read_incidents(connection, INCIDENTS.c.opened_at.is_not(None), is_active | _end_is_unsent(receivers))


def _read_incidents(connection: Connection, *where: sa.ColumnElement[bool]) -> list[IncidentRow]:
    found = connection.execute(sa.select(INCIDENTS).where(*where).order_by(INCIDENTS.c.number))
    return [IncidentRow(**row._mapping) for row in found]


def _end_is_unsent(receivers: Sequence[str]) -> sa.ColumnElement[bool]:
    """Make the condition that the opening was, or may have been, sent to one of the receivers, and the end was not."""
    opening, end = DELIVERIES.alias(), DELIVERIES.alias()
    same = (end.c.number == opening.c.number) & (end.c.receiver == opening.c.receiver)
    end_sent = sa.exists().where(same, end.c.kind == RESOLVED, end.c.sent_at.is_not(None)).correlate(opening)
    opening_sent = (
        (opening.c.number == INCIDENTS.c.number) & (opening.c.kind == OPENED) & opening.c.receiver.in_(receivers)
    )
    return sa.exists().where(opening_sent, ~end_sent).correlate(INCIDENTS)


def read_deliveries(connection: Connection, incidents: Sequence[IncidentRow]) -> list[DeliveryRow]:
    columns = DELIVERIES.c
    wanted = sa.select(DELIVERIES).where(columns.number.in_([row.number for row in incidents]))
    found = connection.execute(wanted.order_by(columns.number, columns.receiver, columns.kind))
    return [DeliveryRow(**row._mapping) for row in found]


def add_silence(connection: Connection, row: SilenceRow) -> int:
    """Add a silence; return its number."""
    return add_numbered(connection, SILENCES, row)


def end_silence(connection: Connection, row: SilenceRow, *, at: datetime, by: str) -> None:
    put_rows(connection, SILENCES, [replace(row, ended_at=at, ended_by=by)])


def read_silences(connection: Connection, *, at: datetime) -> list[SilenceRow]:
    """Return the silences in force at a moment, the oldest first."""
    columns = SILENCES.c
    in_force = (columns.at <= at, columns.until > at, columns.ended_at.is_(None) | (columns.ended_at > at))
    found = connection.execute(sa.select(SILENCES).where(*in_force).order_by(columns.number))
    return [SilenceRow(**row._mapping) for row in found]
