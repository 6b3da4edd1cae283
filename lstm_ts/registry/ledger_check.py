"""Whether a ledger that is missing is new or lost."""

import sqlite3
from contextlib import closing
from pathlib import Path

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.registry.uri import sqlite_path
from lstm_ts.registry.version import GATE_SHA256


def open_ledger(ledger_url: str, uri: str) -> Ledger:
    """Open the ledger; make it only where there is no SQLite registry yet: beside one, a missing ledger is lost.

    Raises    LedgerError: it is lost, or does not answer
    """
    return Ledger(ledger_url, make=is_new(ledger_url, uri))


def is_new(ledger_url: str, uri: str) -> bool:
    """Return whether a ledger that is not there may be made: no version lies in a SQLite registry that goes with it."""
    path = sqlite_path(uri)
    return not (ledger_url.startswith("sqlite") and path and _has_version(path))


def _has_version(path: Path) -> bool:
    """Return whether a registry contains a version; MLflow's own server makes one without."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            found = file.execute("SELECT 1 FROM model_version_tags WHERE key = ? LIMIT 1", [GATE_SHA256])
            return found.fetchone() is not None
    except sqlite3.Error as error:
        return "no such table" not in str(error)  # else it is damaged, or not ours to read
