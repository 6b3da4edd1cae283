"""Queue of served forecasts and traffic reports to the ledger: adding one never waits for the database.

A forecast leaves the queue once the ledger has it, so an outage loses only forecasts beyond the queue's capacity. A
ledger that was removed, or replaced by another one, is an outage until it is back. A killed process loses its queue;
the next one counts it (`service_folder`), and checks in the ledger whether the last batch was written.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lstm_ts.errors import ConfigError, LedgerError, RowRefused
from lstm_ts.ledger.database import has_place
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.ledger.traffic import TrafficRow, put_traffic
from serve.ledger.reader import LedgerAddress
from serve.ledger.service_folder import noted
from serve.metrics import FORECASTED, LOGGED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogCounts:
    queued: int
    written: int
    dropped: int  # the queue was full, or the log closed
    refused: int  # by the ledger, for what was in them


class ForecastLog:
    """Log that threads may share. Its thread starts with `start` or the first forecast, so a fork may come before."""

    def __init__(
        self,
        *,
        folder: Path,
        url: str,
        capacity: int,
        batch: int,
        interval_s: float,
        poll_s: float,
        retry_s: float,
        close_s: float,
    ) -> None:
        """folder   of the service, for the note of a batch that is being written"""
        if not 1 <= batch <= capacity:
            raise ConfigError(f"Expected forecast_log.batch from 1 to capacity={capacity}, got {batch}")
        if not (interval_s >= 0 and poll_s > 0 and retry_s > 0 and close_s >= 0):
            raise ConfigError(
                f"Expected forecast_log.interval_s >= 0, poll_s > 0, retry_s > 0 and close_s >= 0, "
                f"got {interval_s}, {poll_s}, {retry_s} and {close_s}"
            )
        self._folder, self._url, self._capacity, self._batch = folder, url, capacity, batch
        self._interval_s, self._poll_s, self._retry_s, self._close_s = interval_s, poll_s, retry_s, close_s
        self._queue: deque[ForecastRow] = deque()
        self._traffic: Sequence[TrafficRow] = ()  # that the ledger does not have yet
        self._changed = threading.Condition()  # held for queue, counts and error, never while the ledger is queried
        self._closing = self._full = False
        self._written = self._dropped = self._refused = 0
        self._trouble: str | None = None
        self._ledger: Ledger | None = None
        self._identity: str | None = None  # of the ledger that was opened first: no other one is written to
        self._writer = threading.Thread(target=self._write_all, name="forecast log", daemon=True)

    def find_ledger(self, *, make: bool) -> None:
        """Store the ledger's identity before a fork; upgrade the ledger, or create it if its folder exists.

        make      False: one that is not there is lost
        Raises    LedgerError: its address is none
        """
        make &= has_place(self._url)
        try:
            with closing(Ledger(self._url, make=make)) as ledger:
                self._identity = ledger.identity
        except LedgerError as error:
            self._set_trouble(str(error))

    @property
    def address(self) -> LedgerAddress:
        """Address of the ledger that is written to, for its readers."""
        return LedgerAddress(self._url, self._identity, self._poll_s)

    def start(self) -> None:
        """Check the ledger every `poll_s` from now on, whether or not there are forecasts."""
        with self._changed:
            if self._writer.ident is None:
                self._writer.start()

    @property
    def trouble(self) -> str | None:
        """Reason why the ledger takes no forecasts; None: it takes them."""
        with self._changed:
            return self._trouble

    def add(self, row: ForecastRow) -> None:
        """Queue a forecast; if the queue is full, drop and count it."""
        FORECASTED.inc()
        with self._changed:
            if self._closing or len(self._queue) >= self._capacity:
                self._drop()
                return
            self._queue.append(row)
            if self._writer.ident is None:
                self._writer.start()
            elif len(self._queue) in (1, self._batch):
                self._changed.notify()

    def queue_traffic(self, traffic: Sequence[TrafficRow]) -> None:
        """Queue the service's traffic report, in place of an earlier one."""
        with self._changed:
            self._traffic = traffic
            self._changed.notify()

    def _drop(self) -> None:
        self._dropped += 1
        LOGGED.labels("dropped").inc()
        if not self._full:
            self._full = True
            log.error("The forecast queue is full (%d): dropping forecasts", len(self._queue))

    def counts(self) -> LogCounts:
        with self._changed:
            return LogCounts(len(self._queue), self._written, self._dropped, self._refused)

    def close(self) -> None:
        """Write the queue, as far as the ledger takes it within `close_s`; the rest is logged and lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._writer.ident is not None:
            self._writer.join(self._close_s)
        if queued := self.counts().queued:
            log.error("%d forecasts were not written: the ledger did not accept them in %g s", queued, self._close_s)

    def _write_all(self) -> None:
        while self._wait_for_batch():
            self._write_until_taken()
        self._close()

    def _wait_for_batch(self) -> bool:
        """Wait until a batch is full or old enough, or for `poll_s`; return False once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._traffic or self._closing, self._poll_s)
            if self._queue:
                self._changed.wait_for(lambda: len(self._queue) >= self._batch or self._closing, self._interval_s)
            return bool(self._queue) or not self._closing

    def _write_until_taken(self) -> None:
        while True:
            try:
                self._write_traffic(self._open())
                self._write_batch(self._open())
            except LedgerError as error:
                self._set_trouble(str(error))
            except Exception as error:  # whatever a database does, the thread that writes to it continues
                log.debug("Writing failed", exc_info=True)
                self._set_trouble(f"Expected the ledger to accept forecasts, got {type(error).__name__}: {error}")
            else:
                self._set_trouble(None)
                return
            self._close()
            with self._changed:
                self._changed.wait(self._retry_s)
                if self._closing and not self._queue:
                    return

    def _open(self) -> Ledger:
        """Open the ledger if it is not open; one that has been removed is not recreated."""
        if self._ledger is None:
            self._ledger = Ledger(self._url, make=False, identity=self._identity)
            self._identity = self._ledger.identity
        return self._ledger

    def _close(self) -> None:
        if self._ledger:
            self._ledger.close()
        self._ledger = None

    def _set_trouble(self, error: str | None) -> None:
        """Store the error, and log each sentence once; None: the ledger answers."""
        with self._changed:
            before, self._trouble, queued = self._trouble, error, len(self._queue)
            self._full &= error is not None
        if error and error != before:
            log.warning("%d forecasts are queued: %s", queued, error)
        elif before and not error:
            log.info("The ledger is reachable again; %d forecasts are queued", queued)

    def _write_traffic(self, ledger: Ledger) -> None:
        with self._changed:
            rows = self._traffic
        if rows:
            with ledger.transaction() as connection:
                put_traffic(connection, rows)
        with self._changed:
            if self._traffic is rows:
                self._traffic = ()

    def _write_batch(self, ledger: Ledger) -> None:
        """Write a batch; if the ledger refuses a row, write them one by one, so that no other is lost with it."""
        with self._changed:
            rows = list(islice(self._queue, self._batch))
        if not rows:
            ledger.check()
            return
        try:
            self._record(ledger, rows)
        except RowRefused:
            for row in rows:
                self._write_one(ledger, row)

    def _write_one(self, ledger: Ledger, row: ForecastRow) -> None:
        try:
            self._record(ledger, [row])
        except RowRefused as error:
            log.error("The forecast of request %s is lost: %s", row.request_id, error)
            self._take_off(refused=1)

    def _record(self, ledger: Ledger, rows: Sequence[ForecastRow]) -> None:
        with noted(self._folder, rows, self._written):
            ledger.record_forecasts(rows)
            self._take_off(written=len(rows))

    def _take_off(self, *, written: int = 0, refused: int = 0) -> None:
        """Take a batch off the old end of the queue."""
        LOGGED.labels("written").inc(written)
        LOGGED.labels("refused").inc(refused)
        with self._changed:
            for _ in range(written + refused):
                self._queue.popleft()
            self._written += written
            self._refused += refused
