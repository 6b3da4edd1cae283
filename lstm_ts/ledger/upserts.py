"""Rows whose key may be there already, in both databases' words."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def add_rows(connection: Connection, table: Table, rows: Sequence[object]) -> None:
    """A row whose key is there changes nothing."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), [vars(row) for row in rows])


def put_rows(connection: Connection, table: Table, rows: Sequence[object]) -> None:
    """A row takes the place of that of its key."""
    if not rows:
        return
    insert = _insert(connection, table)
    others = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    statement = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=others)
    connection.execute(statement, [vars(row) for row in rows])


def add_numbered(connection: Connection, table: Table, row: object) -> int:
    """The number that the database gives it, in place of the row's own."""
    values = {name: value for name, value in vars(row).items() if name != "number"}
    added = connection.execute(sa.insert(table).values(values).returning(table.c.number))
    return int(added.scalar_one())


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
