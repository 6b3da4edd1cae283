"""Table of traffic: which services send requests to a challenger, and for which version they have stopped that."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "traffic",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("to_challenger", sa.Boolean, nullable=False),
        sa.Column("stopped", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
    )
