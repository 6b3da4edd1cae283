"""A request's id may be its client's, who may give it twice: forecasts of one id are told apart by their time."""

import sqlalchemy as sa
from alembic import op

from lstm_ts.ledger.migrations.append_only import refuse_changes

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE forecasts DROP CONSTRAINT forecasts_pkey, ADD PRIMARY KEY (request_id, arm, at)")
        return
    columns = sa.inspect(op.get_bind()).get_columns("forecasts")
    op.create_table(  # SQLite changes no primary key
        "forecasts_by_time",
        *(sa.Column(column["name"], column["type"], nullable=False) for column in columns),
        sa.PrimaryKeyConstraint("request_id", "arm", "at"),
    )
    op.execute("INSERT INTO forecasts_by_time SELECT * FROM forecasts")
    op.drop_table("forecasts")
    op.rename_table("forecasts_by_time", "forecasts")
    op.create_index("forecasts_of", "forecasts", ["name", "at"])
    refuse_changes("forecasts", key=("request_id", "arm", "at"))
