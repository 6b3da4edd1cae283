"""Table of served forecasts: for which request, by which version, as its client saw it."""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "forecasts",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("origin_ts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_close", sa.Double, nullable=False),
        sa.Column("path", sa.JSON, nullable=False),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("input_sha256", sa.Text, nullable=False),
    )
    op.create_index("forecasts_of", "forecasts", ["name", "at"])
    refuse_changes("forecasts", key=("request_id", "arm"))
