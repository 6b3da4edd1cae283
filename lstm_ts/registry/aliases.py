"""Move an alias in three steps: the ledger records `intended`, MLflow moves it, the ledger records `done`.

Moves that a killed process or MLflow's own pages left unrecorded are recorded before an alias is moved or its history
is read.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lstm_ts import clock
from lstm_ts.errors import RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.logs import audit
from lstm_ts.registry.mlflow_store import MlflowStore
from lstm_ts.registry.version import DONE, FOUND, INTENDED, PROMOTE, RELEASE, ROLLBACK, missing_row

EVENTS = {PROMOTE: "promoted", ROLLBACK: "rolled_back", RELEASE: "released", FOUND: "found_moved"}  # of the audit

log = logging.getLogger(__name__)


class Aliases:
    def __init__(self, store: MlflowStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """Return the completed moves, oldest first."""
        if self._missing_row(name, alias):
            with self.moving(name, alias):
                pass
        return self.done(name, alias)

    def done(self, name: str, alias: str) -> list[AliasChange]:
        return [row for row in self._ledger.alias_changes(name, alias) if row.state == DONE]

    @contextmanager
    def moving(self, name: str, alias: str) -> Iterator[int | None]:
        """Lock a name's aliases, which one process moves at a time; yield the version that the alias names now.

        A retraining holds another lock for as long as it runs, so a rollback need not wait for it.
        """
        with self._ledger.exclusive(f"{name}'s aliases"):
            yield self.record_missing(name, alias)

    def record_missing(self, name: str, alias: str) -> int | None:
        """Record a missing move, within `moving`; return the version that the alias names."""
        if row := self._missing_row(name, alias):
            self._ledger.record_alias(row)
            log.info(
                "Recorded a missing move: the %s of %s is version %s (%s)", alias, name, row.to_version, row.action
            )
            _audit_change(row)
        return self._store.aliases(name).get(alias)

    def move(self, name: str, alias: str, current: int | None, number: int | None, **why: str) -> None:
        """Move the alias from `current`, which `moving` yields, to `number`; None removes it."""
        change = AliasChange(clock.now(), name, alias, from_version=current, to_version=number, state=INTENDED, **why)
        self._ledger.record_alias(change)
        if number is None:
            self._store.remove_alias(name, alias)
        else:
            self._store.set_alias(name, alias, number)
        self._ledger.record_alias(replace(change, state=DONE))
        _audit_change(change)

    def _missing_row(self, name: str, alias: str) -> AliasChange | None:
        rows, current = self._ledger.alias_changes(name, alias), self._store.aliases(name).get(alias)
        if any(row.state == DONE for row in rows) and not self._store.versions(name):
            raise another_one(name)
        return missing_row(rows, name=name, alias=alias, current=current, now=clock.now())


def another_one(lacking: str) -> RegistryError:
    return RegistryError(
        f"Expected the registry that the ledger refers to, got one without {lacking}; "
        f"check that registry.uri and registry.ledger belong together"
    )


def _audit_change(change: AliasChange) -> None:
    audit(
        EVENTS[change.action],
        f"The {change.alias} of {change.name} is version {change.to_version or 'none'}",
        model=change.name,
        alias=change.alias,
        version=change.to_version,
        from_version=change.from_version,
        actor=change.actor,
        reason=change.reason,
    )
