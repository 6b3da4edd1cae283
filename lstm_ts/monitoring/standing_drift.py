"""Read from the ledger when a drift began whose alarm is active."""

from datetime import datetime

from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.versions import DRIFT


def find_drift(ledger: Ledger, name: str, version: int) -> datetime | None:
    """Return the estimated start of the drift; None: no alarm is active."""
    with ledger.transaction() as connection:
        state = tables.read_states(connection, name, version).get(DRIFT)
    since = (state or {}).get("drift_since")
    return datetime.fromisoformat(since) if since else None
