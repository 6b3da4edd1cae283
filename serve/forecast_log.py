"""Served forecasts on their way to the ledger: whoever adds one never waits for the database.

A forecast leaves the queue when the ledger has it, so an outage loses only what the queue has no room for. What a
killed process had in its queue is lost.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from lstm_ts.errors import ConfigError, LedgerError, RowRefused
from lstm_ts.ledger import Ledger
from lstm_ts.rows import ForecastRow

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogCounts:
    queued: int
    written: int
    dropped: int  # the queue was full, or the log closed
    refused: int  # by the ledger, for what was in them


class ForecastLog:
    """Threads may share one. Its own thread starts with the first forecast, so it may be made before a fork."""

    def __init__(
        self, *, url: str, capacity: int, batch: int, interval_s: float, retry_s: float, close_s: float
    ) -> None:
        if not 1 <= batch <= capacity:
            raise ConfigError(f"Expected forecast_log.batch from 1 to capacity={capacity}, got {batch}")
        if not (interval_s >= 0 and retry_s > 0 and close_s >= 0):
            raise ConfigError(
                f"Expected forecast_log.interval_s >= 0, retry_s > 0 and close_s >= 0, "
                f"got {interval_s}, {retry_s} and {close_s}"
            )
        self._url, self._capacity, self._batch = url, capacity, batch
        self._interval_s, self._retry_s, self._close_s = interval_s, retry_s, close_s
        self._queue: deque[ForecastRow] = deque()
        self._changed = threading.Condition()  # held for queue and counts, never while the ledger is asked
        self._closing = False
        self._written = self._dropped = self._refused = 0
        self._writer = threading.Thread(target=self._write_all, name="forecast log", daemon=True)

    def add(self, row: ForecastRow) -> None:
        """Queue it; where there is no room, drop it and count that."""
        with self._changed:
            if self._closing or len(self._queue) >= self._capacity:
                self._dropped += 1
                return
            self._queue.append(row)
            if self._writer.ident is None:
                self._writer.start()
            elif len(self._queue) in (1, self._batch):
                self._changed.notify()

    def counts(self) -> LogCounts:
        with self._changed:
            return LogCounts(len(self._queue), self._written, self._dropped, self._refused)

    def close(self) -> None:
        """Write what is queued, as far as the ledger takes it within `close_s`; what is left is said and lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._writer.ident is not None:
            self._writer.join(self._close_s)
        if queued := self.counts().queued:
            log.error("%d forecasts were not written: the ledger did not take them in %g s", queued, self._close_s)

    def _write_all(self) -> None:
        with closing(self._retried(partial(Ledger, self._url))) as ledger:
            while self._wait_for_batch():
                self._retried(partial(self._write_batch, ledger))

    def _retried(self, task: Callable[[], Result]) -> Result:
        """Until it raises no LedgerError; each sentence is said once."""
        said = None
        while True:
            try:
                result = task()
            except LedgerError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("%d forecasts wait: %s", self.counts().queued, said)
                with self._changed:
                    self._changed.wait(self._retry_s)
            else:
                if said:
                    log.info("The ledger answers again; %d forecasts wait", self.counts().queued)
                return result

    def _wait_for_batch(self) -> bool:
        """Until one is full, or has waited long enough; False where the log is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            self._changed.wait_for(lambda: len(self._queue) >= self._batch or self._closing, self._interval_s)
            return bool(self._queue)

    def _write_batch(self, ledger: Ledger) -> None:
        """One by one where the ledger refuses one of them, so that no other is lost with it."""
        with self._changed:
            rows = list(islice(self._queue, self._batch))
        try:
            ledger.record_forecasts(rows)
            self._take_off(written=len(rows))
        except RowRefused:
            for row in rows:
                self._write_one(ledger, row)

    def _write_one(self, ledger: Ledger, row: ForecastRow) -> None:
        try:
            ledger.record_forecasts([row])
            self._take_off(written=1)
        except RowRefused as error:
            log.error("The forecast of request %s is lost: %s", row.request_id, error)
            self._take_off(refused=1)

    def _take_off(self, *, written: int = 0, refused: int = 0) -> None:
        """From the old end of the queue."""
        with self._changed:
            for _ in range(written + refused):
                self._queue.popleft()
            self._written += written
            self._refused += refused
