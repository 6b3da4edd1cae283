"""Tables of the monitor: rows of each session hour, sums by day, the state of its tests and its last findings."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_hourly_forecasts()
    _create_outcomes()
    _create_scores()
    _create_daily_scores()
    _create_monitor_states()
    _create_findings()


def _create_hourly_forecasts() -> None:
    op.create_table(
        "hourly_forecasts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("origin_ts", WHEN, primary_key=True),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("volatility", sa.Double, nullable=False),
        sa.Column("hour_of_day", sa.Integer, nullable=False),
        sa.Column("levels", sa.JSON, nullable=False),
        sa.Column("target_ts_H", sa.LargeBinary, nullable=False),
        sa.Column("q_HQ", sa.LargeBinary, nullable=False),
        sa.Column("baselines", sa.JSON, nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("baseline_q_BSQ", sa.LargeBinary, nullable=False),
        sa.Column("input_sha256", sa.Text, nullable=False),
    )


def _create_outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("target_ts", WHEN, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("close", sa.Double, nullable=False),
    )


def _create_scores() -> None:
    op.create_table(
        "scores",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("origin_ts", WHEN, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("y", sa.Double, nullable=False),
        sa.Column("losses", sa.JSON, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("levels_below", sa.Integer, nullable=False),
        sa.Column("hour_of_day", sa.Integer, nullable=False),
        sa.Column("volatility", sa.Text, nullable=False),
    )


def _create_daily_scores() -> None:
    op.create_table(
        "daily_scores",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("sums", sa.JSON, nullable=False),
    )


def _create_monitor_states() -> None:
    op.create_table(
        "monitor_states",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
    )


def _create_findings() -> None:
    op.create_table(
        "findings",
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("since", WHEN, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
    )
