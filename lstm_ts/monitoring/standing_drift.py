"""The start of a drift whose alarm stands, as the monitor has written it into the ledger."""

from datetime import datetime

from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.versions import DRIFT


def find_drift(ledger: Ledger, name: str, version: int) -> datetime | None:
    """About when the drift began; None: no alarm stands."""
    with ledger.transaction() as connection:
        state = tables.read_states(connection, name, version).get(DRIFT)
    since = (state or {}).get("drift_since")
    return datetime.fromisoformat(since) if since else None
