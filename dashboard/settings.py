"""Settings of the dashboard, with the values of its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lstm_ts.market.prices import Quote, guess_quote
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import Symbol, check_symbol, name_model
from lstm_ts.monitoring.confidence import SkillSettings
from lstm_ts.monitoring.verdict import VerdictSettings
from lstm_ts.store.manifest import read_manifest


@dataclass(frozen=True)
class Service:
    url: str
    timeout_s: float
    key: str = field(repr=False)  # empty: none is sent


@dataclass(frozen=True)
class UploadLimits:
    """Limits of an upload."""

    max_bytes: int
    max_rows: int
    max_s: float  # of reading
    batch_rows: int


@dataclass(frozen=True)
class DashboardSettings:
    symbol: str  # shown first
    name: str  # of the registered model
    data: Path
    outputs: Path
    typed_paths: str  # overrides of both, as `lstm_ts.configuration.parts.typed_paths` returns them
    registry_uri: str
    ledger_url: str
    symbols: Mapping[str, Symbol] = field(hash=False)  # that have a file, by name
    min_minutes_share: float
    max_mismatch: float
    poll_s: float
    service: Service
    upload: UploadLimits
    uploads: Path  # a temporary folder, which goes with the server
    live_skill: SkillSettings
    verdict: VerdictSettings = field(hash=False)
    operator_password: str = field(repr=False)  # empty: nobody promotes, rolls back or silences here

    def session_of(self, symbol: str) -> Session:
        """Return the session of the symbol's stored bars, else of the symbol's file, else of the symbol shown first."""
        for stage in ("raw", "processed"):
            manifest = read_manifest(self.data / stage / check_symbol(symbol))
            if manifest.calendar:
                return Session(calendar=manifest.calendar, zone=manifest.zone)
        return self.symbols.get(symbol, self.symbols[self.symbol]).session

    def command(self, module: str, name: str, symbol: str = "") -> str:
        """Return the command, as one types it, for a registered model.

        symbol    of the model; if empty, that of this dashboard's own model, else the name
        """
        symbol = symbol or (self.symbol if name == self.name else name)
        return f"python -m lstm_ts.{module} {name_model(symbol, name)}{self.typed_paths}"

    def quote_of(self, symbol: str) -> Quote | None:
        """Return the quote of the symbol's file; without a file, a guess by the symbol's name."""
        known = self.symbols.get(symbol)
        return known.quote if known else guess_quote(symbol)
