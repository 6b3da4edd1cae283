"""What the configuration says, as values."""

from dataclasses import dataclass, field
from pathlib import Path

from lstm_ts.session import Session


@dataclass(frozen=True)
class Service:
    url: str
    timeout_s: float
    key: str = field(repr=False)  # empty: none is sent


@dataclass(frozen=True)
class Limits:
    """Of an upload."""

    max_bytes: int
    max_rows: int
    max_s: float  # of reading
    batch_rows: int


@dataclass(frozen=True)
class Settings:
    symbol: str
    name: str  # of the registered model
    data: Path
    outputs: Path
    registry_uri: str
    ledger_url: str
    session: Session
    min_minutes_share: float
    max_mismatch: float
    poll_s: float
    service: Service
    upload: Limits
    uploads: Path  # a temporary folder, which goes with the server
    operator_password: str = field(repr=False)  # empty: nobody promotes or rolls back here
