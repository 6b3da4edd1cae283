"""The pages' access to the registry and its ledger: reads versions and history, and moves aliases."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from lstm_ts.errors import RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import ALIASES, CHAMPION, ROLLBACK, Version, version_before

ACTOR = "dashboard"


@dataclass(frozen=True)
class Move:
    """A move of an alias that a visitor has confirmed."""

    action: str  # promote | rollback
    alias: str
    current: int | None
    to: int


@dataclass(frozen=True)
class Details:
    """Gate decision and forecaster of one version."""

    gate: Mapping[str, Any]  # `Decision.to_json()`, and the span it was judged on
    forecaster: Forecaster


class RegistryClient:
    """Access shared by all visitors; its methods are thread-safe, and raise RegistryError or LedgerError."""

    def __init__(self, uri: str, ledger_url: str) -> None:
        """Raises    RegistryError: there is no registry yet"""
        check_there(uri)
        self._registry, self._moving = Registry(uri, Ledger(ledger_url, make=False)), Lock()

    def names(self) -> list[str]:
        return self._registry.names()

    def versions(self, name: str) -> list[Version]:
        """Return the versions, newest first."""
        return self._registry.versions(name)[::-1]

    def metrics(self, version: Version) -> Mapping[str, float]:
        return self._registry.metrics(version)

    def details(self, version: Version) -> Details:
        """Raises    RegistryError: a file differs from the registered one"""
        return Details(self._registry.read_gate(version), self._registry.load(version))

    def load(self, name: str, number: int) -> Forecaster:
        return self._registry.load(self._registry.version(name, number))

    def history(self, name: str) -> list[AliasChange]:
        """Return the completed moves of every alias, newest first."""
        done = [change for alias in ALIASES for change in self._registry.history(name, alias)]
        return sorted(done, key=lambda change: change.at, reverse=True)

    def rollback_of(self, name: str) -> Move | None:
        """Return the move that a rollback would make now; None: there is nothing to go back to."""
        before = version_before(self._registry.history(name, CHAMPION))
        return None if before is None else Move(ROLLBACK, CHAMPION, self._current(name, CHAMPION), before)

    def move(self, name: str, move: Move, *, reason: str, user: str | None) -> None:
        """Raises    RegistryError: the alias has moved since the move was offered"""
        actor = f"{ACTOR} ({user})" if user else ACTOR
        with self._moving:  # else two confirmations of one rollback would go back two versions
            now = self._current(name, move.alias)
            if now != move.current or (move.action == ROLLBACK and move != self.rollback_of(name)):
                raise RegistryError(
                    f"The {move.alias} was moved meanwhile and is version {now} now; look, and choose again."
                )
            if move.action == ROLLBACK:
                self._registry.rollback(name, actor=actor, reason=reason)
            else:
                self._registry.promote(name, move.to, alias=move.alias, actor=actor, reason=reason)

    def _current(self, name: str, alias: str) -> int | None:
        holder = self._registry.holder(name, alias)
        return holder.number if holder else None


registered_at = cache(RegistryClient)  # one for all visitors
