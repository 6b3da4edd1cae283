"""Each service's last report of whether it sends a challenger requests; every function needs a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.rows import SCHEMA, columns_of
from lstm_ts.ledger.upserts import put_rows


@dataclass(frozen=True)
class TrafficRow:
    """One service's report of its own traffic."""

    name: str  # of the registered model
    service: str  # its address
    since: datetime  # time of the first report with these values
    to_challenger: bool  # whether requests, or copies of them, are meant to reach a challenger
    stopped: int | None  # version that gets no more requests
    reason: str  # why it was stopped, with its numbers
    heard_at: datetime | None = field(default=None, compare=False)  # time of its last report


TRAFFIC = sa.Table("traffic", SCHEMA, *columns_of(TrafficRow, "name", "service"))


def put_traffic(connection: Connection, rows: Sequence[TrafficRow]) -> None:
    """Record what each service reports now; a repeated report keeps the `since` of the first one."""
    found = [row for name in {row.name for row in rows} for row in read_traffic(connection, name)]
    before = {(row.name, row.service): row for row in found}
    put_rows(connection, TRAFFIC, [_merge(before.get((row.name, row.service)), row) for row in rows])


def _merge(before: TrafficRow | None, row: TrafficRow) -> TrafficRow:
    unchanged = before is not None and replace(before, since=row.since) == row
    return replace(before if before and unchanged else row, heard_at=row.since)


def read_traffic(connection: Connection, name: str) -> list[TrafficRow]:
    """Return each service's report about a name, ordered by address."""
    wanted = sa.select(TRAFFIC).where(TRAFFIC.c.name == name).order_by(TRAFFIC.c.service)
    return [TrafficRow(**row._mapping) for row in connection.execute(wanted)]


def remove_inactive(connection: Connection, name: str, *, before: datetime) -> None:
    """Remove services without a report since `before`, if another service has one: they have moved or ended.

    If no service has, the last reports stay: a challenger without requests is noticed by what they expected.
    """
    of_name = TRAFFIC.c.name == name
    if connection.scalar(sa.select(sa.func.count()).where(of_name, TRAFFIC.c.heard_at >= before)):
        connection.execute(sa.delete(TRAFFIC).where(of_name, TRAFFIC.c.heard_at < before))
