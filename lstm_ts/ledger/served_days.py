"""Served forecasts older than what is kept: folded into sums by day, then removed. Nothing else removes one.

The database refuses a removal before the day's sums are there, and sums that leave a forecast out.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import FORECASTS, SCHEMA, columns_of
from lstm_ts.ledger.upserts import add_rows
from lstm_ts.market.session import DAY, midnight


@dataclass(frozen=True)
class ServedDay:
    """Sums of what one version served in one arm on one day."""

    name: str
    symbol: str
    version: int
    arm: str
    day: str  # ISO, UTC
    forecasts: int
    flagged: int  # of them, those with a flag
    latency_ms: float  # summed


SERVED_DAYS = sa.Table("served_days", SCHEMA, *columns_of(ServedDay, "name", "symbol", "version", "arm", "day"))


def fold_served(ledger: Ledger, name: str, *, before: datetime) -> int:
    """Fold the days before a midnight, each in its own transaction; return how many forecasts were removed."""
    folded, since = 0, None
    while True:
        with ledger.transaction() as connection:
            first = _find_first(connection, name, since, before)
            if first is None:
                return folded
            start = midnight(first)
            folded += _fold_day(connection, name, start)
            since = start + DAY


def _find_first(connection: Connection, name: str, since: datetime | None, before: datetime) -> datetime | None:
    """Return the time of the first served forecast before `before`, and from `since` on; None: there is none."""
    at = FORECASTS.c.at
    wanted = sa.select(at).where(FORECASTS.c.name == name, at < before).order_by(at).limit(1)
    found: datetime | None = connection.scalar(wanted if since is None else wanted.where(at >= since))
    return found


def _fold_day(connection: Connection, name: str, start: datetime) -> int:
    """Fold one day, without forecasts written after it had been folded, which stay; return how many were removed."""
    table = FORECASTS.c
    of_day = table.name == name, table.at >= start, table.at < start + DAY
    groups = (table.symbol, table.version, table.arm)
    has_flags = sa.func.sum(sa.case((sa.func.json_array_length(table.flags) > 0, 1), else_=0))
    sums = sa.func.count(), has_flags, sa.func.sum(table.latency_ms)
    day = start.date().isoformat()
    known = {(row.symbol, row.version, row.arm) for row in read_served_days(connection, name, day=day)}
    found = [
        ServedDay(name, symbol, version, arm, day, n, flagged, latency_ms)
        for symbol, version, arm, n, flagged, latency_ms in connection.execute(
            sa.select(*groups, *sums).where(*of_day).group_by(*groups)
        )
        if (symbol, version, arm) not in known
    ]
    add_rows(connection, SERVED_DAYS, found)
    for row in found:
        of_group = table.symbol == row.symbol, table.version == row.version, table.arm == row.arm
        connection.execute(sa.delete(FORECASTS).where(*of_day, *of_group))
    return sum(row.forecasts for row in found)


def read_served_days(connection: Connection, name: str, *, day: str | None = None) -> list[ServedDay]:
    """Return the sums by day, ascending by day; `day` None: of all days."""
    table = SERVED_DAYS
    wanted = sa.select(table).where(table.c.name == name)
    if day is not None:
        wanted = wanted.where(table.c.day == day)
    found = connection.execute(wanted.order_by(table.c.day, table.c.symbol, table.c.version, table.c.arm))
    return [ServedDay(**row._mapping) for row in found]
