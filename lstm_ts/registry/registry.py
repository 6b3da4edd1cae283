"""The registry of models: versions, and the aliases that name them."""

import logging
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_ts.errors import ConfigError, RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.market.symbol import check_name
from lstm_ts.model.artifact import FILES, SUMS, load_forecaster
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.aliases import Aliases, another_one
from lstm_ts.registry.mlflow_store import MlflowStore
from lstm_ts.registry.model_folder import MODEL_SHA256, load_registered
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import (
    ALIASES,
    CHALLENGER,
    CHAMPION,
    MODEL,
    PROMOTE,
    RELEASE,
    ROLLBACK,
    Version,
    version_before,
)
from lstm_ts.store.disk import hash_file

log = logging.getLogger(__name__)


class Registry:
    def __init__(self, uri: str, ledger: Ledger | None, *, make: bool = True) -> None:
        """ledger   None: for callers that move no alias and read no history
        make     a SQLite file that is not there
        Raises   RegistryError: no answer; or, unless one may be made, none of the models that the ledger knows
        """
        if not make:
            check_there(uri)
        self.uri, self.store = uri, MlflowStore(uri)
        self._ledger = ledger
        if ledger and not make and (known := ledger.names()) and known.isdisjoint(self.names()):
            raise another_one(", ".join(sorted(known)))

    @property
    def _aliases(self) -> Aliases:
        assert self._ledger, "Expected a ledger"
        return Aliases(self.store, self._ledger)

    def register(
        self,
        name: str,
        model: Path,
        *,
        gate: Mapping[str, Any],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
    ) -> Version:
        """gate    `Decision.to_json()`
        Raises    ArtifactError: `model` is no model folder; ConfigError: `name` is no name
        """
        check_name(name)
        load_forecaster(model)
        tags = {**tags, MODEL_SHA256: hash_file(model / SUMS)}
        return self.store.add(name, model, gate=gate, tags=tags, metrics=metrics, params=params)

    def names(self) -> list[str]:
        """Return the names with a version."""
        return self.store.names()

    def metrics(self, version: Version) -> Mapping[str, float]:
        """Return the metrics of a version's registration, and of those logged by day the latest."""
        return self.store.metrics(version)

    def log_daily(self, version: Version, metrics: Mapping[date, Mapping[str, float]]) -> None:
        """Log metrics by day, once for each day and metric: an existing value stays."""
        self.store.log_daily(version, metrics)

    def versions(self, name: str) -> list[Version]:
        """Return the versions, oldest first; none for a name that is not registered."""
        return self.store.versions(name)

    def version(self, name: str, ref: int | str) -> Version:
        """Find a version by number or alias.    Raises    RegistryError: there is none; it names those that exist"""
        if found := self.store.find(name, ref):
            return found
        if not (versions := self.versions(name)):
            names = ", ".join(self.names()) or "none; python -m lstm_ts.retrain registers a first version"
            raise RegistryError(f"Expected name to be one that is registered, got {name}; there is {names}")
        numbers, aliases = [version.number for version in versions], sorted(self.store.aliases(name))
        raise RegistryError(f"Expected a version of {name} among {numbers} or an alias among {aliases}, got {ref}")

    def champion(self, name: str) -> Version | None:
        return self.holder(name, CHAMPION)

    def holder(self, name: str, alias: str) -> Version | None:
        return self.store.find(name, alias)

    def load(self, version: Version) -> Forecaster:
        """Raises    RegistryError: a file is not as it was registered"""
        with self.store.files(version, MODEL) as folder:
            return load_registered(version, folder)

    def export(self, version: Version, folder: Path) -> None:
        """Copy the model folder, which appears whole.    Raises    RegistryError: a file is not as it was registered"""
        if folder.exists():
            raise ConfigError(f"Expected a new folder for the model, got {folder}, which exists; give another to=…")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".") as staging, self.store.files(version, MODEL) as kept:
            staged = Path(staging) / MODEL
            load_registered(version, kept)
            shutil.copytree(kept, staged, ignore=lambda _, names: set(names) - {*FILES, SUMS})
            load_registered(version, staged)
            staged.replace(folder)

    def read_gate(self, version: Version) -> Mapping[str, Any]:
        """Raises    RegistryError: the report is not as it was registered"""
        return self.store.read_gate(version)

    def promote(self, name: str, number: int, *, alias: str, actor: str, reason: str, over: int | None = None) -> None:
        """Move an alias to a version that loads; if it names that version already, nothing is written.

        A challenger that becomes champion is no longer challenger.

        over     the only version that it may replace; None: any
        Raises   RegistryError: the champion as challenger
        """
        if alias not in ALIASES:
            raise ConfigError(f"Expected alias={' or '.join(ALIASES)}, got {alias}")
        with self._aliases.moving(name, alias) as current:
            if over not in (None, current):
                log.info("Version %d of %s does not become %s: version %s already is", number, name, alias, current)
                return
            self.load(self.version(name, number))
            if alias == CHALLENGER and (champion := self.champion(name)) and champion.number == number:
                raise RegistryError(
                    f"Expected a {CHALLENGER} beside the {CHAMPION}, got {champion}, which is the {CHAMPION}; "
                    f"promote another version"
                )
            if alias == CHAMPION:
                self._release_challenger(name, number, actor=actor)
            if number == current:
                log.info("The %s of %s is version %d already", alias, name, number)
            else:
                self._aliases.move(name, alias, current, number, action=PROMOTE, actor=actor, reason=reason)

    def rollback(self, name: str, *, actor: str, reason: str) -> Version:
        """Restore the previous champion; twice goes back two promotions.    Raises    RegistryError: nothing before"""
        with self._aliases.moving(name, CHAMPION) as current:
            self.version(name, CHAMPION)  # there is one
            before = version_before(self._aliases.done(name, CHAMPION))
            if before is None:
                raise RegistryError(
                    f"Expected an earlier {CHAMPION} of {name} to go back to, got none before version {current}; "
                    f"action=promote version=… reason=… takes another one"
                )
            self.load(self.version(name, before))
            self._release_challenger(name, before, actor=actor)
            self._aliases.move(name, CHAMPION, current, before, action=ROLLBACK, actor=actor, reason=reason)
        return self.version(name, before)

    def release(self, name: str, number: int, *, actor: str, reason: str) -> bool:
        """Remove a challenger's alias; return False if another version has it already, or none."""
        with self._aliases.moving(name, CHALLENGER) as current:
            if current != number:
                return False
            self._aliases.move(name, CHALLENGER, number, None, action=RELEASE, actor=actor, reason=reason)
            return True

    def _release_challenger(self, name: str, number: int, *, actor: str) -> None:
        """Release a challenger before it becomes champion: if killed in between, it has no role rather than two."""
        if self._aliases.record_missing(name, CHALLENGER) == number:
            reason = f"version {number} becomes {CHAMPION}"
            self._aliases.move(name, CHALLENGER, number, None, action=RELEASE, actor=actor, reason=reason)
            log.info("Version %d of %s is no longer %s: it becomes %s", number, name, CHALLENGER, CHAMPION)

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """Return the completed moves of an alias, oldest first."""
        return self._aliases.history(name, alias)
