"""Table of the gate's decisions about each version of a model."""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("experimental", sa.Boolean, nullable=False),
        sa.Column("champion", sa.Integer),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("span_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("span_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data_sha256", sa.Text, nullable=False),
    )
    refuse_changes("decisions", key=("name", "version"))
