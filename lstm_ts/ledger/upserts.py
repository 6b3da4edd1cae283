"""Inserts of rows whose key may exist, for SQLite and PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def add_rows(connection: Connection, table: Table, rows: Sequence[object]) -> None:
    """Add dataclasses or mappings; a row whose key exists changes nothing."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), list(map(_values, rows)))


def put_rows(connection: Connection, table: Table, rows: Sequence[object]) -> None:
    """Add dataclasses or mappings; a row replaces the one with its key."""
    if not rows:
        return
    insert = _insert(connection, table)
    others = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    statement = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=others)
    connection.execute(statement, list(map(_values, rows)))


def add_numbered(connection: Connection, table: Table, row: object) -> int:
    """Add a row; return the number that the database gives it."""
    values = {name: value for name, value in vars(row).items() if name != "number"}
    added = connection.execute(sa.insert(table).values(values).returning(table.c.number))
    return int(added.scalar_one())


def _values(row: object) -> Mapping[str, Any]:
    return row if isinstance(row, Mapping) else vars(row)


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
