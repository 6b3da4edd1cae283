"""What the gate decided, and who moved which alias when: rows that are only ever added, kept so by triggers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite

from lstm_ts.database import Database


@dataclass(frozen=True)
class DecisionRow:
    name: str
    version: int
    at: datetime
    verdict: str
    experimental: bool
    champion: int | None  # the version it was judged against
    reasons: tuple[str, ...]
    span_start: datetime
    span_end: datetime
    data_sha256: str


@dataclass(frozen=True)
class AliasChange:
    at: datetime
    name: str
    alias: str
    action: str  # promote | rollback | found
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    state: str  # intended | done


class UtcTime(sa.TypeDecorator[datetime]):
    """Aware datetimes, to the microsecond; SQLite keeps them as UTC text without a zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        assert value is not None and value.tzinfo is not None, f"Expected an aware time, got {value}"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        assert value is not None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Sentences(sa.TypeDecorator[tuple[str, ...]]):
    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> Any:
        assert value is not None
        return list(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[str, ...]:
        return tuple(value)


# As the revisions in `lstm_ts/migrations` leave them.
SCHEMA = sa.MetaData()
DECISIONS = sa.Table(
    "decisions",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("verdict", sa.Text),
    sa.Column("experimental", sa.Boolean),
    sa.Column("champion", sa.Integer),
    sa.Column("reasons", Sentences),
    sa.Column("span_start", UtcTime),
    sa.Column("span_end", UtcTime),
    sa.Column("data_sha256", sa.Text),
)
ALIAS_CHANGES = sa.Table(
    "alias_changes",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("name", sa.Text),
    sa.Column("alias", sa.Text),
    sa.Column("action", sa.Text),
    sa.Column("from_version", sa.Integer),
    sa.Column("to_version", sa.Integer),
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("state", sa.Text),
)
RECORD_DECISION = {
    "sqlite": sqlite.insert(DECISIONS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(DECISIONS).on_conflict_do_nothing(),
}


class Ledger:
    """Every method raises LedgerError when the database does not answer."""

    def __init__(self, url: str) -> None:
        """Raises    LedgerError: also where the database has a newer schema"""
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def record_decision(self, row: DecisionRow) -> None:
        """A second decision about the same version changes nothing."""
        with self._database.transaction() as connection:
            connection.execute(RECORD_DECISION[connection.dialect.name], vars(row))

    def decisions(self, name: str) -> list[DecisionRow]:
        """Oldest first."""
        table = DECISIONS
        wanted = sa.select(table).where(table.c.name == name).order_by(table.c.at, table.c.version)
        with self._database.transaction() as connection:
            return [DecisionRow(**row._mapping) for row in connection.execute(wanted)]

    def record_alias(self, change: AliasChange) -> None:
        with self._database.transaction() as connection:
            connection.execute(sa.insert(ALIAS_CHANGES), vars(change))

    def alias_changes(self, name: str, alias: str) -> list[AliasChange]:
        """In the order they were recorded, both states."""
        columns = {column.name: column for column in ALIAS_CHANGES.columns}
        number = columns.pop("id")
        wanted = sa.select(*columns.values()).where(columns["name"] == name, columns["alias"] == alias)
        with self._database.transaction() as connection:
            return [AliasChange(**row._mapping) for row in connection.execute(wanted.order_by(number))]

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold the model alone, over all processes and threads; not reentrant. A killed holder frees it."""
        return self._database.locked(f"the model {name}")
