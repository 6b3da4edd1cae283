"""Triggers that keep the rows of a table as they were written, whoever writes."""

from alembic import op


def refuse_changes(table: str, *, key: tuple[str, ...]) -> None:
    refuse = {"sqlite": _refuse_in_sqlite, "postgresql": _refuse_in_postgresql}[op.get_bind().dialect.name]
    for statement in refuse(table, key):
        op.execute(statement)


def _refuse_in_sqlite(table: str, key: tuple[str, ...]) -> list[str]:
    """INSERT OR REPLACE removes the row of its key without a DELETE trigger, so an insert over one does nothing."""
    refusal = f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
    there = " AND ".join(f"{column} = NEW.{column}" for column in key)
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refusal}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refusal}",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {there}) BEGIN SELECT RAISE(IGNORE); END",
    ]


def _refuse_in_postgresql(table: str, key: tuple[str, ...]) -> list[str]:
    return [
        f"CREATE FUNCTION {table}_no_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'rows of {table} are never changed'; END $$",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_no_change()",
    ]
