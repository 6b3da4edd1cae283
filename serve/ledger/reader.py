"""Read the ledger in a thread, so that neither a request nor a scrape waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lstm_ts.errors import LedgerError
from lstm_ts.http_schema import Worker
from lstm_ts.ledger.ledger import Ledger

TICK_S = 0.1

Value = TypeVar("Value")
VersionKey = tuple[str, int]  # name of the registered model, and number
Read = Callable[[Ledger, frozenset[VersionKey]], Value]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LedgerAddress:
    url: str
    identity: str | None  # of the only ledger that is read; None: the first one that answers
    poll_s: float


@dataclass(frozen=True)
class Reading(Generic[Value]):
    value: Value | None = None  # None: nothing was read yet
    at: float | None = None  # time.monotonic of the last time that the ledger answered
    trouble: str | None = None  # why the ledger does not answer


def find_versions(workers: Iterable[Worker]) -> frozenset[VersionKey]:
    """Return the versions that are loaded, of either role."""
    models = (model for worker in workers for model in (worker.model, worker.challenger) if model)
    return frozenset((model.name, model.version) for model in models)


class LedgerReader(Generic[Value]):
    """Reader in a thread; the last values stay while the ledger is unreachable or replaced by another one."""

    def __init__(self, address: LedgerAddress, read: Read[Value], wanted: Callable[[], frozenset[VersionKey]]) -> None:
        """read     reads the values of these versions
        wanted   returns the loaded versions; after a change, they are read at once
        """
        self._address, self._read, self._wanted = address, read, wanted
        self._identity = address.identity
        self._ledger: Ledger | None = None
        self.last: Reading[Value] = Reading()

    def start(self) -> None:
        threading.Thread(target=self._follow, name="ledger reader", daemon=True).start()

    def _follow(self) -> None:
        known, read_at = self._wanted(), float("-inf")
        while True:
            wanted = self._wanted()
            if wanted != known or time.monotonic() - read_at >= self._address.poll_s:
                self._refresh(wanted)
                known, read_at = wanted, time.monotonic()
            time.sleep(min(TICK_S, self._address.poll_s))

    def _refresh(self, wanted: frozenset[VersionKey]) -> None:
        before = self.last
        try:
            self.last = Reading(self._read(self._open(), wanted), time.monotonic())
        except LedgerError as error:
            self._set_trouble(str(error))
        except Exception as error:  # whatever the database raises, the thread continues
            log.debug("Reading failed", exc_info=True)
            self._set_trouble(f"Expected the monitor's results from the ledger, got {type(error).__name__}: {error}")
        if before.trouble and not self.last.trouble:
            log.info("The ledger is readable again")

    def _set_trouble(self, error: str) -> None:
        """Log each sentence once, and close the ledger."""
        if error != self.last.trouble:
            log.warning("Cannot read the monitor's results: %s", error)
        self.last = replace(self.last, trouble=error)
        if self._ledger:
            self._ledger.close()
        self._ledger = None

    def _open(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self._address.url, make=False, identity=self._identity)
            self._identity = self._ledger.identity
        return self._ledger
