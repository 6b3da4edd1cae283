"""Minute bars from Interactive Brokers, through TWS or IB Gateway; the names of its API stop here.

One request fetches a session, or what has passed of it. `1 D` before the end asked for is a day by the clock or a
trading day, as TWS sees fit: either way it reaches back to the session's opening, and it is evidence for no more.
Only history, contract, account names and time are ever asked for.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

import polars as pl
import tenacity

from lstm_ts.bars import BAR_SCHEMA, BarBatch, Reach, count_by_hour, make_answers, reject_reason
from lstm_ts.errors import BrokerAway, BrokerError, ConfigError, WrongZone
from lstm_ts.session import Session
from lstm_ts.sources.ib_errors import Action, explain
from lstm_ts.sources.ib_line import Again, Line, Said, Wire
from lstm_ts.sources.pacing import Pacing

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SHOW = {"whatToShow": "MIDPOINT", "useRTH": False, "formatDate": 2}  # format 2: seconds since 1970, in no zone
HISTORY = SHOW | {"durationStr": "1 D", "barSizeSetting": "1 min", "keepUpToDate": False, "timeout": 0}
CLIENT_IDS = 16  # to try, from the first on
LATE = 5 * MINUTE  # after the end asked for, and a stamp is in a wrong zone
GIVE_UP = 3  # spans in a row without an answer
REASONS = (
    "start it and log in, enable its API (Settings > API: ActiveX and Socket Clients), "
    "or correct source.host and source.port (paper: 7497 for TWS, 4002 for Gateway)"
)

Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    attempts: int
    first_s: float
    longest_s: float
    closed_s: float  # the shortest wait before connecting again while the market is closed

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.first_s, self.longest_s, self.closed_s) < 0:
            raise ConfigError(f"Expected source.retries of at least one attempt, and waits of seconds, got {self}")


class InteractiveBrokers:
    def __init__(
        self,
        *,
        client: Callable[[], Any],
        session: Session,
        max_mismatch: float,
        contract: Mapping[str, str],
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
            raise ConfigError("Expected source.max_skew_s, source.connect_s and source.answer_s above 0")
        self.session, self.max_mismatch = session, max_mismatch
        self.contract = dict(contract)
        self.address, self.client_id, self.live = f"{host}:{port}", client_id, live
        self.max_skew_s, self.answer_s, self.outage_s = max_skew_s, answer_s, outage_s
        self.retries, self.pacing = Retries(**retries), pacing  # type: ignore[arg-type]
        self._wire = Wire(client, host, port, connect_s)
        self._line: Line | None = None
        self._contract: Any = None
        self._behind = timedelta()  # of IB's clock

    @property
    def name(self) -> str:
        return f"IB {self.contract['symbol']} {HISTORY['whatToShow']} bars"

    # Connection

    def connect(self) -> Reach:
        """Raises    BrokerAway: nobody there; BrokerError: a live account, a clock that is off, no such contract"""
        try:
            self._line = self._open()
            self._contract = self._find_contract()
            head = self._persist(lambda line: line.ib.reqHeadTimeStampAsync(self._contract, **SHOW))
        except Again as why:
            raise BrokerAway(f"Expected answers from IB at {self.address}, got none: {why}; try later") from why
        if not isinstance(head, datetime):
            raise BrokerError(f"Expected the time of IB's first bar of {self._contract}, got {head}; try again")
        return Reach(head.astimezone(UTC), self._now())

    def close(self) -> None:
        self._wire.close(self._line)
        self._line = None

    def _open(self) -> Line:
        line = self._greet()
        try:
            self._check_account(line)
            self._check_clock(line)
        except (Again, BrokerError):
            line.ib.disconnect()
            raise
        log.info("Connected to IB at %s, connection %s", self.address, line.witness)
        return line

    def _greet(self) -> Line:
        """Raises    BrokerAway"""
        for client_id in range(self.client_id, self.client_id + CLIENT_IDS):
            try:
                return self._wire.connect(client_id)
            except Said as said:
                if explain(said.code, said.text).action is not Action.NEXT_ID:
                    raise self._explained(said) from None
            except TimeoutError:
                raise BrokerAway(f"Expected TWS at {self.address}, got no greeting from there; {REASONS}") from None
            except OSError as error:
                raise BrokerAway(f"Expected TWS at {self.address}, got {error or 'its hang-up'}; {REASONS}") from None
        last = self.client_id + CLIENT_IDS - 1
        raise BrokerAway(
            f"Expected a free client id in {self.client_id}..{last} at {self.address}, got all in use; "
            f"close other programs or set another source.client_id"
        )

    def _check_account(self, line: Line) -> None:
        live = [account for account in line.ib.client.getAccounts() if not account.startswith("D")]
        if live and not self.live:
            raise BrokerError(
                f"Expected a paper account at {self.address}, got the live account {live[0]}; log in to paper trading, "
                f"whose ports are 7497 and 4002, or set source.live=true"
            )

    def _check_clock(self, line: Line) -> None:
        """Also whether IB answers at all."""
        try:
            stamp = self._wire.run(line.ask(line.ib.reqCurrentTimeAsync, timeout_s=self.answer_s))
        except Said as said:
            raise Again(str(said)) from None
        self._behind = datetime.now(UTC) - stamp.astimezone(UTC)
        if abs(self._behind.total_seconds()) > self.max_skew_s + 1:  # IB's time is in whole seconds
            raise BrokerError(
                f"Expected IB's clock within {self.max_skew_s:g} s of this machine's, got one "
                f"{-self._behind.total_seconds():+.0f} s from it; synchronise this machine's clock"
            )
        line.unsure = False

    def _now(self) -> datetime:
        return datetime.now(UTC) - self._behind

    def _find_contract(self) -> Any:
        assert self._line is not None
        api = import_module(type(self._line.ib).__module__.partition(".")[0])
        wanted = api.Contract(**self.contract)
        shown = " ".join(self.contract.values())
        try:
            found = self._persist(lambda line: line.ib.reqContractDetailsAsync(wanted))
        except BrokerError as error:
            raise BrokerError(f"{error}; IB knows {self._list_similar()}") from None
        if len(found) != 1:
            candidates = ", ".join(_shown(details.contract) for details in found) or self._list_similar()
            raise BrokerError(f"Expected one contract for {shown}, got {len(found)}: {candidates}; set source.contract")
        contract = found[0].contract
        contract.exchange = self.contract.get("exchange", contract.exchange)
        return contract

    def _list_similar(self) -> str:
        line = self._line
        assert line is not None
        request = partial(line.ib.reqMatchingSymbolsAsync, self.contract["symbol"])
        try:
            similar = self._wire.run(line.ask(request, timeout_s=self.answer_s)) or []
        except (Again, Said):
            similar = []
        return ", ".join(_shown(found.contract) for found in similar) or "nothing similar"

    # Requests

    def fetch_batches(self, spans: Sequence[tuple[datetime, datetime]]) -> Iterator[BarBatch]:
        """Each span lies in one session, and has passed. One that stays without an answer is an empty batch."""
        failed = 0
        for start, end in spans:
            try:
                rows = self._persist(partial(self._history, end), key=end)
                failed = 0
                yield self._read(rows, start, end)
            except Again as why:
                failed += 1
                if self._line is None or failed == GIVE_UP:
                    raise BrokerAway(f"Expected answers from IB at {self.address}, got none: {why}; try later") from why
                log.warning("No answer for %s to %s: %s; its minutes stay unknown", start, end, why)
                yield BarBatch(pl.DataFrame(schema=BAR_SCHEMA))

    def _history(self, end: datetime, line: Line) -> Awaitable[Any]:
        return line.ib.reqHistoricalDataAsync(self._contract, endDateTime=end, **HISTORY)  # type: ignore[no-any-return]

    def _persist(self, request: Callable[[Line], Awaitable[Any]], *, key: datetime | None = None) -> Any:
        """Ask until there is an answer that nothing disturbed. With a key, it is a request for history.

        Raises    Again: as often as `retries` allows; BrokerError: asking again is no use
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.retries.attempts),
            retry=tenacity.retry_if_exception_type(Again),
            wait=self._wait_s,
            sleep=self._wire.sleep,
            before_sleep=_say,
            reraise=True,
        )
        return retrying(self._ask, request, key)

    def _ask(self, request: Callable[[Line], Awaitable[Any]], key: datetime | None) -> Any:
        if key:
            self._wire.sleep(self.pacing.delay(key, time.monotonic()))
        line = self._ready_line()
        if key:
            self.pacing.note(key, time.monotonic())
        try:
            return self._wire.run(line.ask(lambda: request(line), timeout_s=self.answer_s, history=key is not None))
        except Said as said:
            action = explain(said.code, said.text).action
            if action is Action.EMPTY:
                return []
            if action in (Action.FATAL, Action.ALERT):
                log.log(logging.ERROR if action is Action.ALERT else logging.INFO, "IB: %s", said)
                raise self._explained(said) from None
            pause_s = self.pacing.identical_s if action is Action.WAIT else 0.0
            raise Again(str(said), pause_s) from None

    def _ready_line(self) -> Line:
        """Connected, and with word of IB being there."""
        if self._line is None or self._line.closed:
            self._line = None
            try:
                self._line = self._open()
            except BrokerAway as away:
                raise Again(str(away), self._reconnect_s()) from None
        line = self._line
        if line.down and not self._wire.run(line.wait_restored(self.outage_s)):
            raise Again(f"{', '.join(sorted(line.down))} still away after {self.outage_s:g} s")
        if line.unsure:
            self._check_clock(line)
        return line

    def _reconnect_s(self) -> float:
        """No storm of connections over a weekend."""
        now = self._now()
        return self.retries.closed_s if self.session.spans(now, now + MINUTE).is_empty() else 0.0

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        jittered = tenacity.wait_random_exponential(multiplier=self.retries.first_s, max=self.retries.longest_s)
        return jittered(state) + (error.pause_s if isinstance(error, Again) else 0.0)

    def _explained(self, said: Said) -> BrokerError:
        advice = explain(said.code, said.text).advice
        return BrokerError(
            f"Expected {' '.join(self.contract.values())} from IB at {self.address}, got {said}; {advice}"
        )

    # Answers

    def _read(self, rows: Sequence[Any], start: datetime, end: datetime) -> BarBatch:
        """Bars of the day before `end`, evidence for the span only.

        Raises    WrongZone: stamps after the end, or in closed hours as a wrong zone would put them
        """
        assert self._line is not None
        told = _frame(rows)
        shift = self.session.shift_hours(count_by_hour(told), max_mismatch=self.max_mismatch) if len(rows) else 0
        last = max(told["ts"], default=end)
        if shift or last >= end + LATE:
            off = (
                f"stamps that {abs(shift)} hours {'later' if shift > 0 else 'earlier'} fit the sessions"
                if shift
                else last
            )
            raise WrongZone(
                f"Expected bars up to {end} from IB, got {off}; check the zone of TWS and of this machine; "
                f"nothing of this answer was stored"
            )
        told = told.filter(pl.col("ts") >= end - DAY, pl.col("ts") < end)
        bars = told.filter(pl.col("reason").is_null()).select(BAR_SCHEMA.names())
        bad = told.filter(pl.col("reason").is_not_null())
        at = self._now()
        witness = f"IB {self._line.witness} {at:%Y-%m-%d}"
        answers = make_answers(start, end, good=bars["ts"], bad=bad["ts"], at=at, witness=witness)
        return BarBatch(bars, rejects=_rejects(bad, self.name), answers=answers)


def _frame(rows: Sequence[Any]) -> pl.DataFrame:
    """BAR_SCHEMA, ascending and unique in `ts`, and `reason` where a row is bad."""
    values = [(row.date, row.open, row.high, row.low, row.close, row.volume) for row in rows]
    told = pl.DataFrame(values, schema=BAR_SCHEMA, orient="row").unique("ts", keep="last").sort("ts")
    off = pl.when(pl.col("ts") != pl.col("ts").dt.truncate("1m")).then(pl.lit("not on a whole minute"))
    volume = pl.when(pl.col("volume") >= 0).then("volume")  # -1 where there is none
    return told.with_columns(volume=volume, reason=pl.coalesce(off, reject_reason()))


def _rejects(bad: pl.DataFrame, name: str) -> pl.DataFrame:
    values = [pl.col(column).cast(pl.String).fill_null("") for column in BAR_SCHEMA.names()]
    return bad.with_row_index("line", 1).select(
        file=pl.lit(name),
        line=pl.col("line").cast(pl.Int64),
        reason="reason",
        text=pl.concat_str(values, separator=","),
    )


def _shown(contract: Any) -> str:
    return f"{contract.symbol} {contract.secType} {contract.exchange or contract.primaryExchange} {contract.currency}"


def _say(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None and state.next_action is not None
    log.info(
        "Again in %.1f s, after attempt %d: %s",
        state.next_action.sleep,
        state.attempt_number,
        state.outcome.exception(),
    )
