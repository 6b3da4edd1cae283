"""Run by Alembic, with the connection and the options that `lstm_ts.ledger.database` hands over."""

from alembic import context

context.configure(**context.config.attributes)
with context.begin_transaction():
    context.run_migrations()
