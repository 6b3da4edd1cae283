"""Identity of the ledger: a copy has the same one, a new ledger has another."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    table = op.create_table("ledger_identity", sa.Column("id", sa.Text, primary_key=True))
    op.bulk_insert(table, [{"id": uuid4().hex}])
    refuse_changes("ledger_identity", key=("id",))
