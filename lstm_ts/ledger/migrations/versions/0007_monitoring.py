"""What the monitor knows of each session hour, its sums by day, the state of its tests and what it found last."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    when = sa.DateTime(timezone=True)
    op.create_table(
        "hourly_forecasts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("origin_ts", when, primary_key=True),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("at", when, nullable=False),
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
    op.create_table(
        "outcomes",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("target_ts", when, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("at", when, nullable=False),
        sa.Column("close", sa.Double, nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("origin_ts", when, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("at", when, nullable=False),
        sa.Column("y", sa.Double, nullable=False),
        sa.Column("losses", sa.JSON, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("levels_below", sa.Integer, nullable=False),
        sa.Column("hour_of_day", sa.Integer, nullable=False),
        sa.Column("volatility", sa.Text, nullable=False),
    )
    op.create_table(
        "daily_scores",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("sums", sa.JSON, nullable=False),
    )
    op.create_table(
        "monitor_states",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("at", when, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
    )
    op.create_table(
        "findings",
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("at", when, nullable=False),
        sa.Column("since", when, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
    )
