"""The ledger's schema, one revision a file, run by Alembic. A revision that was released is never edited."""
