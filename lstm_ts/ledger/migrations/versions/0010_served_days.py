"""Served forecasts as sums by day. A forecast may be removed once its day is written down there, and not before.

A day is written down with as many forecasts as there are, so none leaves uncounted, and never changed.
"""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0010"
down_revision = "0009"

KEY = ("name", "symbol", "version", "arm", "day")
REMOVAL = "rows of forecasts are never removed before their day is in served_days"
COUNT = "served_days counts each forecast of its day"


def upgrade() -> None:
    op.create_table(
        "served_days",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("forecasts", sa.Integer, nullable=False),
        sa.Column("flagged", sa.Integer, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
    )
    refuse_changes("served_days", key=KEY)
    allow = {"sqlite": _allow_in_sqlite, "postgresql": _allow_in_postgresql}[op.get_bind().dialect.name]
    for statement in allow():
        op.execute(statement)


def _match(row: str) -> str:
    return " AND ".join(f"{column} = {row}.{column}" for column in KEY[:-1])


def _allow_in_sqlite() -> list[str]:
    there = f"SELECT 1 FROM served_days WHERE {_match('OLD')} AND day = substr(OLD.at, 1, 10)"
    count = f"SELECT COUNT(*) FROM forecasts WHERE {_match('NEW')} AND at >= NEW.day AND at < date(NEW.day, '+1 day')"
    twice = f"SELECT 1 FROM served_days WHERE {_match('NEW')} AND day = NEW.day"
    return [
        "DROP TRIGGER forecasts_no_delete",
        f"CREATE TRIGGER forecasts_no_delete BEFORE DELETE ON forecasts WHEN NOT EXISTS ({there}) "
        f"BEGIN SELECT RAISE(ABORT, '{REMOVAL}'); END",
        f"CREATE TRIGGER served_days_count BEFORE INSERT ON served_days "
        f"WHEN NEW.forecasts <> ({count}) AND NOT EXISTS ({twice}) BEGIN SELECT RAISE(ABORT, '{COUNT}'); END",
    ]


def _allow_in_postgresql() -> list[str]:
    day = "to_char(OLD.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    there = f"SELECT 1 FROM served_days WHERE {_match('OLD')} AND day = {day}"
    start = "(NEW.day || ' 00:00:00+00')::timestamptz"
    count = (
        f"SELECT COUNT(*) FROM forecasts WHERE {_match('NEW')} AND at >= {start} AND at < {start} + INTERVAL '24 hours'"
    )
    return [
        "DROP TRIGGER forecasts_no_change ON forecasts",
        "CREATE TRIGGER forecasts_no_change BEFORE UPDATE OR TRUNCATE ON forecasts "
        "FOR EACH STATEMENT EXECUTE FUNCTION forecasts_no_change()",
        *_raise_where("forecasts_no_delete", f"NOT EXISTS ({there})", REMOVAL, "OLD"),
        "CREATE TRIGGER forecasts_no_delete BEFORE DELETE ON forecasts "
        "FOR EACH ROW EXECUTE FUNCTION forecasts_no_delete()",
        *_raise_where("served_days_count", f"NEW.forecasts <> ({count})", COUNT, "NEW"),
        "CREATE TRIGGER served_days_count AFTER INSERT ON served_days "
        "FOR EACH ROW EXECUTE FUNCTION served_days_count()",
    ]


def _raise_where(function: str, condition: str, message: str, row: str) -> list[str]:
    return [
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {condition} THEN RAISE EXCEPTION '{message}'; END IF; RETURN {row}; END $$"
    ]
