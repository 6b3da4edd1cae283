"""Evidence of completeness: which minutes of which store a source answered for, when, with how many bars."""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("span_start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("span_end", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("witness", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("bars", sa.Integer, nullable=False),
    )
    refuse_changes("answers", key=("symbol", "store", "span_start", "span_end", "witness"))
