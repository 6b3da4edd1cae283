"""An alias moves in three steps: the ledger says `intended`, MLflow moves it, the ledger says `done`.

What a killed process or MLflow's own pages left between the two is written down before an alias is moved or its
history read.
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
        """What was done, oldest first."""
        if self._missing_row(name, alias):
            with self.moving(name, alias):
                pass
        return self.done(name, alias)

    def done(self, name: str, alias: str) -> list[AliasChange]:
        return [row for row in self._ledger.alias_changes(name, alias) if row.state == DONE]

    @contextmanager
    def moving(self, name: str, alias: str) -> Iterator[int | None]:
        """Only one process moves a name's aliases; gives the version that the alias names now.

        The lock is not the one that a retraining holds for as long as it runs: a rollback need not wait for it.
        """
        with self._ledger.exclusive(f"{name}'s aliases"):
            yield self.settle(name, alias)

    def settle(self, name: str, alias: str) -> int | None:
        """Write down what is missing, within `moving`.    Returns    the version that the alias names"""
        if row := self._missing_row(name, alias):
            self._ledger.record_alias(row)
            log.info("Written down late: the %s of %s is version %s (%s)", alias, name, row.to_version, row.action)
            _tell(row)
        return self._store.aliases(name).get(alias)

    def move(self, name: str, alias: str, current: int | None, number: int | None, **why: str) -> None:
        """Move the alias from `current`, which `moving` has given; where `number` is None, remove it."""
        change = AliasChange(clock.now(), name, alias, from_version=current, to_version=number, state=INTENDED, **why)
        self._ledger.record_alias(change)
        if number is None:
            self._store.remove_alias(name, alias)
        else:
            self._store.set_alias(name, alias, number)
        self._ledger.record_alias(replace(change, state=DONE))
        _tell(change)

    def _missing_row(self, name: str, alias: str) -> AliasChange | None:
        rows, current = self._ledger.alias_changes(name, alias), self._store.aliases(name).get(alias)
        if any(row.state == DONE for row in rows) and not self._store.versions(name):
            raise RegistryError(
                f"Expected the registry that the ledger speaks of, got one without {name}; "
                f"check that registry.uri and registry.ledger belong together"
            )
        return missing_row(rows, name=name, alias=alias, current=current, now=clock.now())


def _tell(change: AliasChange) -> None:
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
