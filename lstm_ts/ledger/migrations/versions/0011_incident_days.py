"""Incidents that ended long ago, counted by day; and when each service was last heard of."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "incident_days",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("rule", "subject", "severity", "day")),
        sa.Column("incidents", sa.Integer, nullable=False),
        sa.Column("hours", sa.Double, nullable=False),
    )
    op.add_column("traffic", sa.Column("heard_at", sa.DateTime(timezone=True)))
    op.execute("UPDATE traffic SET heard_at = since")
