"""Minute bars from Interactive Brokers, through TWS or IB Gateway; names of its API are used in this folder only.

One request fetches a session, or the part of it that has passed. `1 D` before the requested end is a calendar day or a
trading day, as TWS decides: either way it reaches back to the session's opening, and it is evidence for no more.
Only history, contracts, account names and the time are ever requested.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any

import polars as pl

from lstm_ts import clock
from lstm_ts.errors import BrokerError, BrokerUnavailable, ConfigError
from lstm_ts.market.bars import BAR_SCHEMA, AvailableSpan, BarBatch
from lstm_ts.market.session import MINUTE, Session
from lstm_ts.sources.ib.connection import EventLoopRunner, TwsConnection, TwsError
from lstm_ts.sources.ib.contract import find_contract
from lstm_ts.sources.ib.errors import Action, explain
from lstm_ts.sources.ib.history import check_stamps, read_answer
from lstm_ts.sources.ib.login import log_in
from lstm_ts.sources.ib.pacing import Pacing, TwsRetries
from lstm_ts.sources.retries import GIVE_UP, RetryableError

SHOW = {"whatToShow": "MIDPOINT", "useRTH": False, "formatDate": 2}  # format 2: seconds since 1970, in no zone
HISTORY = SHOW | {"durationStr": "1 D", "barSizeSetting": "1 min", "keepUpToDate": False, "timeout": 0}

log = logging.getLogger(__name__)


class InteractiveBrokers:
    def __init__(
        self,
        *,
        client: Callable[[], Any],
        session: Session,
        max_mismatch: float,
        contract: Mapping[str, str | int],
        host: str,
        port: int,
        client_id: int,
        live: bool,
        max_skew_s: float,
        connect_s: float,
        answer_s: float,
        outage_s: float,
        retries: Mapping[str, float],
        pacing: Pacing,
    ) -> None:
        if not 0 < port < 65536:
            raise ConfigError(f"Expected source.port within 1..65535, got {port}")
        if min(max_skew_s, connect_s, answer_s) <= 0:
            raise ConfigError(
                f"Expected source.max_skew_s, source.connect_s and source.answer_s above 0, got {max_skew_s:g}, "
                f"{connect_s:g} and {answer_s:g}; correct them"
            )
        maker: Any = client
        if isinstance(maker, partial):
            maker = maker.func
        if not hasattr(maker, "reqHistoricalDataAsync"):
            raise ConfigError(
                f"Expected source.client as ib_insync.IB or ib_async.IB, got {maker!r}, which is neither; correct "
                f"source.client._target_"
            )
        if not isinstance(session, Session):
            raise ConfigError(f"Expected source.session as in symbol.session, got {session}; leave it out")
        if not isinstance(contract, Mapping) or not contract.get("symbol"):
            raise ConfigError("Expected fields of IB's Contract in symbol.contract, got none of its symbol; give them")
        self.session, self.max_mismatch = session, max_mismatch
        self.contract = dict(contract)
        self.address, self.client_id, self.live = f"{host}:{port}", client_id, live
        self.max_skew_s, self.answer_s, self.outage_s = max_skew_s, answer_s, outage_s
        self.retries, self.pacing = TwsRetries(**retries), pacing  # type: ignore[arg-type]
        self._wire = EventLoopRunner(client, host, port, connect_s)
        self._line: TwsConnection | None = None
        self._contract: Any = None
        self._behind = timedelta()  # how far IB's clock is behind ours
        self._too_fast = False  # whether the last request for history violated IB's pacing

    @property
    def name(self) -> str:
        return f"IB {self.contract['symbol']} {HISTORY['whatToShow']} bars"

    # Connection

    def connect(self, requested_at: Sequence[datetime] = ()) -> AvailableSpan:
        """Raises    BrokerUnavailable: no answer; BrokerError: a live account, a wrong clock, no such contract"""
        try:
            self._line = self._open()
            self._contract = self._find_contract()
            head = self._retry(lambda line: line.ib.reqHeadTimeStampAsync(self._contract, **SHOW))
        except RetryableError as why:
            raise self._unavailable(why) from why
        if not isinstance(head, datetime):
            raise BrokerError(f"Expected the time of IB's first bar of {self._contract}, got {head}; try again")
        now, real = self._now(), time.monotonic()
        self.pacing.recall(real - (now - at).total_seconds() / clock.speed() for at in requested_at)
        return AvailableSpan(head.astimezone(UTC), now)

    def close(self) -> None:
        self._wire.close(self._line)
        self._line = None

    def _open(self) -> TwsConnection:
        try:
            line = log_in(self._wire, self.address, self.client_id, live=self.live)
        except TwsError as error:
            raise self._explained(error) from None
        log.info("Connected to IB at %s, connection %s", self.address, line.observer)
        return line

    def _check_clock(self, line: TwsConnection) -> None:
        """Check IB's clock, and so that IB answers at all."""
        try:
            stamp = self._wire.run(line.ask(line.ib.reqCurrentTimeAsync, timeout_s=self.answer_s))
        except TwsError as error:
            raise RetryableError(str(error)) from None
        self._behind = clock.now() - stamp.astimezone(UTC)
        if abs(self._behind.total_seconds()) / clock.speed() > self.max_skew_s + 1:  # IB's time is in whole seconds
            raise BrokerError(
                f"Expected IB's clock within {self.max_skew_s:g} s of this machine's, got one "
                f"{-self._behind.total_seconds():+.0f} s from it; {clock.fix_hint()}"
            )
        line.unsure = False

    def _now(self) -> datetime:
        return clock.now() - self._behind

    def _find_contract(self) -> Any:
        assert self._line is not None
        api = import_module(type(self._line.ib).__module__.partition(".")[0])
        return find_contract(api, self.contract, self._retry, self._request_once)

    def _request_once(self, request: Callable[[TwsConnection], Awaitable[Any]]) -> Any:
        assert self._line is not None
        return self._wire.run(self._line.ask(partial(request, self._line), timeout_s=self.answer_s))

    # Requests

    def fetch_batches(self, spans: Iterable[tuple[datetime, datetime]]) -> Iterator[BarBatch]:
        """Fetch past spans, each within one session; a span that stays without an answer yields an empty batch.

        Raises    BrokerUnavailable: no answer to any span, or none at all any more; WrongZone
        """
        failed, answered, unavailable = 0, False, None
        for start, end in spans:
            try:
                rows = self._retry(partial(self._history, end), key=end)
                failed, answered = 0, True
                yield self._read(rows, start, end)
            except RetryableError as why:
                failed = 0 if self._is_there() else failed + 1  # one span without an answer must not block the rest
                unavailable = self._unavailable(why)
                if self._line is None or failed == GIVE_UP:
                    raise unavailable from why
                log.warning("No answer for %s to %s: %s; its minutes stay unknown", start, end, why)
                yield BarBatch(pl.DataFrame(schema=BAR_SCHEMA))
        if unavailable and not answered:
            raise unavailable

    def _read(self, rows: Sequence[Any], start: datetime, end: datetime) -> BarBatch:
        """Raises    WrongZone"""
        assert self._line is not None
        check_stamps(rows, end, self.session, max_mismatch=self.max_mismatch)
        at = self._now()
        observer = f"IB {self._line.observer} {at:%Y-%m-%d}"
        return read_answer(rows, start, end, at=at, observer=observer, name=self.name)

    def _history(self, end: datetime, line: TwsConnection) -> Awaitable[Any]:
        return line.ib.reqHistoricalDataAsync(self._contract, endDateTime=end, **HISTORY)  # type: ignore[no-any-return]

    def _retry(self, request: Callable[[TwsConnection], Awaitable[Any]], *, key: datetime | None = None) -> Any:
        """Repeat a request until an undisturbed answer; a request for history has a key.

        Raises    RetryableError: no answer in as many attempts as `retries` allows; BrokerError: repeating is useless
        """
        return self.retries.call(partial(self._request, request, key), sleep=self._wire.sleep)

    def _request(self, request: Callable[[TwsConnection], Awaitable[Any]], key: datetime | None) -> Any:
        if key:
            self._wire.sleep(self.pacing.delay(key, time.monotonic()))
        line = self._ready_line(history=key is not None)
        if key:
            self.pacing.note(key, time.monotonic())
        try:
            answer = self._wire.run(line.ask(lambda: request(line), timeout_s=self.answer_s, history=key is not None))
            self._too_fast &= key is None
            return answer
        except TwsError as error:
            action = explain(error.code, error.text).action
            if action is Action.EMPTY:
                return []
            if action in (Action.FATAL, Action.ALERT):
                log.log(logging.ERROR if action is Action.ALERT else logging.INFO, "IB: %s", error)
                raise self._explained(error) from error
            raise RetryableError(str(error), self._pause_s() if action is Action.WAIT else 0.0) from None

    def _pause_s(self) -> float:
        """Return the pause after a pacing violation; after two in a row the whole window, as others must use it too."""
        pause_s = self.pacing.window_s if self._too_fast else self.pacing.identical_s
        self._too_fast = True
        return pause_s

    def _is_there(self) -> bool:
        try:
            self._check_clock(self._ready_line())
        except RetryableError:
            return False
        return True

    def _ready_line(self, *, history: bool = False) -> TwsConnection:
        """Return a connection that is up, through which IB is reachable, with a checked clock.

        Raises    RetryableError; BrokerError: a live account, a wrong clock
        """
        if self._line is None or self._line.closed:
            self._line = None
            try:
                self._line = self._open()
            except BrokerUnavailable as error:
                raise RetryableError(str(error), self._reconnect_s()) from None
        line = self._line
        if line.away(history=history) and not self._wire.run(line.wait_restored(self.outage_s)):
            raise RetryableError(f"{', '.join(sorted(line.down))} still unreachable after {self.outage_s:g} s")
        if line.unsure:
            self._check_clock(line)
        return line

    def _reconnect_s(self) -> float:
        """Return the shortest wait before reconnecting; it is longer while the market is closed."""
        now = self._now()
        return self.retries.closed_s if self.session.spans(now, now + MINUTE).is_empty() else 0.0

    def _unavailable(self, why: RetryableError) -> BrokerUnavailable:
        return BrokerUnavailable(f"Expected answers from IB at {self.address}, got none: {why}; try later")

    def _explained(self, error: TwsError) -> BrokerError:
        advice = explain(error.code, error.text).advice
        return BrokerError(
            f"Expected {' '.join(map(str, self.contract.values()))} from IB at {self.address}, got {error}; {advice}"
        )
