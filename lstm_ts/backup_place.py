"""The parts of an installation that a backup holds, its summary, and checks of the place that it is restored into."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from lstm_ts.errors import ConfigError, DataError
from lstm_ts.ledger import dumps
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.symbol import SYMBOL
from lstm_ts.registry.uri import ARTIFACTS, sqlite_path
from lstm_ts.store.manifest import MANIFEST, stores_in

Dump = Literal["ledger.dump", "registry.dump"]
LEDGER, REGISTRY = get_args(Dump)
PATHS = "paths.data and paths.outputs"
SETTINGS = {LEDGER: "registry.ledger (LSTM_TS_LEDGER)", REGISTRY: "registry.uri (MLFLOW_TRACKING_URI)"}
SUMMARY, BARS = "backup.json", "bars"
Format = Literal[1]
(FORMAT,) = get_args(Format)
SCHEMAS = {"processed": HOURLY_SCHEMA, "raw": BAR_SCHEMA}  # in the order they are written
STORE = rf"^({'|'.join(SCHEMAS)})/{SYMBOL.pattern}$"


class Summary(BaseModel):
    """The contents of `backup.json`."""

    model_config = ConfigDict(strict=True)

    format: Format
    lstm_ts: str
    at: str  # ISO
    databases: dict[Dump, dumps.Content]
    stores: dict[Annotated[str, StringConstraints(pattern=STORE)], int]  # rows
    files: dict[str, str]  # hashes


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
    def is_served(self) -> bool:
        """Whether the registry is behind MLflow's server."""
        return self.registry.startswith(("http://", "https://"))

    @property
    def databases(self) -> dict[str, str]:
        """Database URL by dump file; a registry behind a server or in the ledger's database has none of its own."""
        own = self.registry != self.ledger and not self.is_served
        return {LEDGER: self.ledger} | ({REGISTRY: self.registry} if own else {})

    @property
    def left_out(self) -> list[str]:
        """Sentences about what must be backed up by other means; empty: nothing."""
        if self.artifacts is not None:
            return []
        what = "MLflow's server" if self.is_served else "the models, which MLflow's artifact store has"
        return [f"Not included: {what}; back that up separately"]


def check_new(folder: Path, place: Place) -> None:
    """Raises    ConfigError: the folder exists, or lies in what is copied into it or in another backup"""
    if folder.exists():
        raise ConfigError(f"Expected a new folder for the backup, got {folder}, which exists; give another folder=…")
    if other := next((parent for parent in folder.parents if (parent / SUMMARY).exists()), None):
        raise ConfigError(f"Expected a folder outside of the backup {other}, got {folder}; give another folder=…")
    for copied in filter(None, (place.data, place.artifacts)):
        if folder.is_relative_to(copied.resolve()):
            raise ConfigError(
                f"Expected a folder outside of {copied}, which is backed up, got {folder}; give another one"
            )


def read_summary(folder: Path) -> dict[str, Any]:
    """Raises    DataError: the folder holds no backup, one of another format, or a summary of another content"""
    try:
        summary = Summary.model_validate_json((folder / SUMMARY).read_bytes()).model_dump()
    except OSError:
        raise DataError(f"Expected a backup in {folder}, got no {SUMMARY} of one; give its folder") from None
    except ValidationError as error:
        first = error.errors()[0]
        got = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise DataError(
            f"Expected {folder / SUMMARY} as this lstm_ts writes it, got {got}; "
            f"use the lstm_ts that wrote it, or take another backup"
        ) from None
    named = {f"{BARS}/{store}/{MANIFEST}" for store in summary["stores"]} | summary["databases"].keys()
    if lacking := named - summary["files"].keys():
        raise DataError(f"Expected {min(lacking)} among the files of {folder / SUMMARY}, got none; take another backup")
    return summary


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
    taken = {str(path): PATHS for path in folders if path.exists() and any(path.iterdir())}
    for file, url in place.databases.items():
        path = dumps.sqlite_file(url)
        if not dumps.is_empty(url):
            taken[dumps.show(url)] = PATHS if path else SETTINGS[file]
        elif path:
            taken |= dict.fromkeys(map(str, dumps.logs(path)), PATHS)
    if taken:
        others = " and ".join(dict.fromkeys(taken.values()))
        raise ConfigError(f"Expected an empty place to restore into, got {', '.join(taken)}; set another {others}")


def list_moves(summary: Mapping[str, Any], folder: Path, place: Place) -> list[tuple[Path, Path]]:
    """Return what is copied from where to where.    Raises    ConfigError: the place lies within the backup"""
    moves = [(folder / BARS / store, place.data / store) for store in summary["stores"]]
    if (folder / ARTIFACTS).exists() and place.artifacts:
        moves.append((folder / ARTIFACTS, place.artifacts))
    moves += [(folder / file, path) for file, url in place.databases.items() if (path := dumps.sqlite_file(url))]
    for _, target in moves:
        if target.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"Expected a place outside of the backup {folder}, got {target}; set paths.data and paths.outputs"
            )
    return moves
