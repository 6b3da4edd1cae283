"""Whether services send a challenger requests: what each has last said of it, read and written in a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.rows import SCHEMA, UtcTime
from lstm_ts.ledger.upserts import put_rows


@dataclass(frozen=True)
class TrafficRow:
    """What one service does, by its own word."""

    name: str  # of the registered model
    service: str  # its address
    since: datetime
    to_challenger: bool  # whether requests, or copies of them, are meant to reach a challenger
    stopped: int | None  # the version that gets no more of them
    reason: str  # why it was stopped, with its numbers


TRAFFIC = sa.Table(
    "traffic",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("since", UtcTime),
    sa.Column("to_challenger", sa.Boolean),
    sa.Column("stopped", sa.Integer),
    sa.Column("reason", sa.Text),
)


def put_traffic(connection: Connection, rows: Sequence[TrafficRow]) -> None:
    """A row that says what the one of its service says already leaves it as it is: `since` stays."""
    found = [row for name in {row.name for row in rows} for row in read_traffic(connection, name)]
    before = {(row.name, row.service): row for row in found}
    put_rows(connection, TRAFFIC, [row for row in rows if not _says(before.get((row.name, row.service)), row)])


def _says(before: TrafficRow | None, row: TrafficRow) -> bool:
    return before is not None and replace(before, since=row.since) == row


def read_traffic(connection: Connection, name: str) -> list[TrafficRow]:
    """What each service says of a name, by its address."""
    wanted = sa.select(TRAFFIC).where(TRAFFIC.c.name == name).order_by(TRAFFIC.c.service)
    return [TrafficRow(**row._mapping) for row in connection.execute(wanted)]
