"""Tables of alerts: incidents, what was sent of each to whom, silences; and the last heartbeat of each component."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_incidents()
    _create_deliveries()
    _create_silences()
    _create_heartbeats()


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("number", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("rule", "subject", "severity")),
        *(sa.Column(name, TIME, nullable=False) for name in ("began_at", "found_at")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("bad", "good")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("sentence", "command")),
        *(sa.Column(name, TIME) for name in ("opened_at", "ended_at")),
        sqlite_autoincrement=True,  # a number that was told is not given again
    )
    unended = sa.text("ended_at IS NULL")
    op.create_index(
        "incidents_active",
        "incidents",
        ["rule", "subject"],
        unique=True,
        sqlite_where=unended,
        postgresql_where=unended,
    )


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("receiver", "kind")),
        sa.Column("intended_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("sent_at", TIME),
        sa.Column("trouble", sa.Text),
    )


def _create_silences() -> None:
    op.create_table(
        "silences",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("subject", sa.Text),
        *(sa.Column(name, TIME, nullable=False) for name in ("at", "until")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("actor", "reason")),
        sa.Column("ended_at", TIME),
        sa.Column("ended_by", sa.Text),
        sqlite_autoincrement=True,
    )


def _create_heartbeats() -> None:
    op.create_table(
        "heartbeats",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("component", "subject")),
        sa.Column("at", TIME, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
