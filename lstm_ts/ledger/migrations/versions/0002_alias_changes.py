"""Table of alias changes: who moved an alias of a model from which version to which, when and why."""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "alias_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("from_version", sa.Integer),
        sa.Column("to_version", sa.Integer),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_index("alias_changes_of", "alias_changes", ["name", "alias"])
    refuse_changes("alias_changes", key=("id",))
