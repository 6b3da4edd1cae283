"""The parts of an installation that a backup holds, and checks of the place that it is restored into."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_ts.errors import ConfigError
from lstm_ts.ledger import dumps
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.registry.uri import ARTIFACTS, sqlite_path
from lstm_ts.store.manifest import stores_in

LEDGER, REGISTRY = "ledger.dump", "registry.dump"
SCHEMAS = {"processed": HOURLY_SCHEMA, "raw": BAR_SCHEMA}  # in the order they are written


@dataclass(frozen=True)
class Place:
    """The locations of an installation's bars, registry and ledger."""

    data: Path
    registry: str
    ledger: str

    @property
    def artifacts(self) -> Path | None:
        """Folder of the registry's models; None: they do not lie beside the registry's database."""
        path = sqlite_path(self.registry)
        return path.parent / ARTIFACTS if path else None

    @property
    def databases(self) -> dict[str, str]:
        """Database URL by dump file; a registry behind a server or in the ledger's database has none of its own."""
        own = self.registry != self.ledger and not self.registry.startswith(("http://", "https://"))
        return {LEDGER: self.ledger} | ({REGISTRY: self.registry} if own else {})

    @property
    def left_out(self) -> list[str]:
        """Sentences about what must be backed up by other means; empty: nothing."""
        if self.artifacts is not None:
            return []
        served = self.registry != self.ledger and REGISTRY not in self.databases
        what = "MLflow's server" if served else "the models, which MLflow's artifact store has"
        return [f"Not in it: {what}; back that up next, by its own means"]


def check_parts(summary: Mapping[str, Any], place: Place) -> None:
    """Raises    ConfigError: the place has other databases than the backup; LedgerError: they are of another kind"""
    if summary["databases"].keys() != place.databases.keys():
        raise ConfigError(
            f"Expected a place for {' and '.join(summary['databases'])}, got one for {' and '.join(place.databases)}: "
            f"with its registry in a database of its own, or else behind a server or in the ledger's; set registry.uri"
        )
    for file, url in place.databases.items():
        dumps.check_target(url, summary["databases"][file]["kind"])


def check_empty(summary: Mapping[str, Any], place: Place) -> None:
    """Raises    ConfigError"""
    stores = {f"{stage}/{symbol}" for stage in SCHEMAS for symbol in stores_in(place.data / stage)}
    folders = [place.data / store for store in sorted(stores | summary["stores"].keys())]
    folders += [place.artifacts] if place.artifacts else []
    taken = [str(path) for path in folders if path.exists() and any(path.iterdir())]
    taken += [name for name, url in place.databases.items() if not dumps.is_empty(url)]
    if taken:
        raise ConfigError(
            f"Expected an empty place to restore into, got {', '.join(taken)}; set another paths.data and paths.outputs"
        )
