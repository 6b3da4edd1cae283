"""The pages' access to the registry and its ledger: reads versions and history, and moves aliases."""

from dataclasses import dataclass
from functools import cache
from threading import Lock

from lstm_ts.errors import RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import ALIASES, CHAMPION, ROLLBACK, Version, version_before


@dataclass(frozen=True)
class Move:
    """A move of an alias that a visitor has confirmed."""

    action: str  # promote | rollback
    alias: str
    current: int | None
    to: int


class RegistryClient:
    """Access shared by all visitors; its methods are thread-safe, and raise RegistryError or LedgerError."""

    def __init__(self, uri: str, ledger_url: str) -> None:
        """Raises    RegistryError: there is no registry yet"""
        check_there(uri)
        self.registry, self._moving = Registry(uri, Ledger(ledger_url, make=False)), Lock()

    def versions(self, name: str) -> list[Version]:
        """Return the versions, newest first."""
        return self.registry.versions(name)[::-1]

    def load(self, name: str, number: int) -> Forecaster:
        return self.registry.load(self.registry.version(name, number))

    def history(self, name: str) -> list[AliasChange]:
        """Return the completed moves of every alias, newest first."""
        done = [change for alias in ALIASES for change in self.registry.history(name, alias)]
        return sorted(done, key=lambda change: change.at, reverse=True)

    def rollback_of(self, name: str) -> Move | None:
        """Return the move that a rollback would make now; None: there is nothing to go back to."""
        before = version_before(self.registry.history(name, CHAMPION))
        return None if before is None else Move(ROLLBACK, CHAMPION, self._current(name, CHAMPION), before)

    def move(self, name: str, move: Move, *, actor: str, reason: str) -> None:
        """Raises    RegistryError: the alias has moved since the move was offered"""
        with self._moving:  # else two confirmations of one rollback would go back two versions
            now = self._current(name, move.alias)
            if now != move.current or (move.action == ROLLBACK and move != self.rollback_of(name)):
                raise RegistryError(
                    f"The {move.alias} was moved meanwhile and is version {now} now; look, and choose again."
                )
            if move.action == ROLLBACK:
                self.registry.rollback(name, actor=actor, reason=reason)
            else:
                self.registry.promote(name, move.to, alias=move.alias, actor=actor, reason=reason)

    def _current(self, name: str, alias: str) -> int | None:
        holder = self.registry.holder(name, alias)
        return holder.number if holder else None


registered_at = cache(RegistryClient)  # one for all visitors
