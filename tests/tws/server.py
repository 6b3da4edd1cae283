"""The server: who connects, and which message goes where."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from time import monotonic

from . import answers
from .desk import Desk
from .faults import Meets, Schedule
from .history import Pace
from .journal import Clock, Journal
from .line import Connection, Line
from .market import Market
from .wire import ORDERS, RequestType, ResponseType, error, frame, read_frame, read_handshake

log = logging.getLogger("tws")

MESSAGES_A_SECOND = 50  # https://interactivebrokers.github.io/tws-api/introduction.html
RESET_LOOK_S = 0.05
LATE_S = 0.02  # after the greeting, when the client asks already
LATE_NOTICES = {"idle": answers.INACTIVE, "other_farm": answers.OTHER_FARM}


@dataclass(frozen=True)
class Settings:
    account: str
    clock_skew_s: float
    pace: float  # seconds of IB's pacing rules times this; 0 for none
    outage_s: float


class Server:
    def __init__(self, market: Market, schedule: Schedule, settings: Settings) -> None:
        self.settings = settings
        self.schedule = schedule
        self.clock = Clock(settings.clock_skew_s)
        self.journal = Journal()
        self.line = Line(self._accept, outage_s=settings.outage_s)
        pace = Pace(settings.pace)
        self.desk = Desk(market, schedule, pace, line=self.line, clock=self.clock, journal=self.journal)
        self._handlers: dict[RequestType, Callable[[Connection, list[str]], Awaitable[None]]] = {
            RequestType.CONTRACT_DETAILS: self.desk.contract_details,
            RequestType.HISTORICAL_DATA: self.desk.historical_data,
            RequestType.CANCEL_HISTORICAL_DATA: self.desk.cancel_historical_data,
            RequestType.HEAD_TIMESTAMP: self.desk.head_timestamp,
        }

    async def reset_daily(self, at: time) -> None:
        """At that time UTC by IB's clock; a look at it now and then, since it can be set."""
        last = self._latest(at)
        while True:
            await asyncio.sleep(RESET_LOOK_S)
            before, last = last, self._latest(at)
            if last > before:
                self.journal.note("daily_reset", None, int(last.timestamp()))
                await self.line.reset()

    def _latest(self, at: time) -> datetime:
        now = datetime.fromtimestamp(self.clock.now, UTC)
        today = datetime.combine(now.date(), at, UTC)
        return today if today <= now else today - timedelta(days=1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.line.away:  # accepted a moment before
            writer.transport.abort()
            return
        self.journal.connections += 1
        connection = Connection(reader, writer, self.journal.connections)
        self.line.connections.add(connection)
        try:
            await self._serve(connection)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, IndexError) as gone:
            log.debug("connection %d: %s", connection.number, gone)
        finally:
            self.line.connections.discard(connection)
            connection.close()

    async def _serve(self, connection: Connection) -> None:
        version = await read_handshake(connection.reader)
        if version is None:
            await connection.send(error(-1, 503, "The TWS is out of date and must be upgraded."))
            return
        await connection.send(frame(version, f"{datetime.fromtimestamp(self.clock.now, UTC):%Y%m%d %H:%M:%S UTC}"))
        start = await read_frame(connection.reader)
        if RequestType(int(start[0])) is not RequestType.START_API or not await self._start(connection, int(start[2])):
            return
        while True:
            await self._dispatch(connection, await read_frame(connection.reader))

    async def _start(self, connection: Connection, client: int) -> bool:
        fault, _ = self.schedule.next(Meets.CONNECTION)
        if fault:
            self.journal.note(fault, Meets.CONNECTION)
        if fault == "client_id" or any(other.client == client for other in self.line.connections):
            await connection.send(answers.notice(answers.ID_IN_USE))
            return False
        connection.client = client
        await connection.send(frame(ResponseType.MANAGED_ACCOUNTS, 1, self.settings.account))
        await connection.send(frame(ResponseType.NEXT_VALID_ID, 1, 1))
        lost = self.line.outage is not None and self.line.outage.lost
        broken = lost or fault == "unsettled"
        for message in (answers.BROKEN,) if broken else (*answers.FARMS_OK, answers.SECDEF_OK):
            await connection.send(answers.notice(message))
        if fault in LATE_NOTICES:
            self.line.tell_later(connection, LATE_S, LATE_NOTICES[fault])
        elif fault == "unsettled" and not lost:
            self.line.tell_later(connection, self.settings.outage_s, answers.MAINTAINED)
        return True

    async def _dispatch(self, connection: Connection, fields: list[str]) -> None:
        number = int(fields[0])
        request_type = RequestType(number) if number in RequestType.__members__.values() else None
        self.journal.messages[request_type.name.lower() if request_type else f"message_{number}"] += 1
        account = self.settings.account
        if self._too_fast(connection):
            await connection.send(answers.notice(answers.TOO_FAST))
        elif request_type in ORDERS:
            await self._refuse_order(connection, request_type, fields)
        elif request_type in self._handlers:
            await self._handlers[request_type](connection, fields)
        elif (empty := answers.of_account(request_type, fields, account=account, now=int(self.clock.now))) is not None:
            await connection.send(empty)
        else:
            await connection.send(error(-1, 321, f"This simulator does not answer message {number}"))

    def _too_fast(self, connection: Connection) -> bool:
        moment = monotonic()
        connection.asked.append(moment)
        while connection.asked[0] < moment - self.settings.pace:
            connection.asked.popleft()
        return self.settings.pace > 0 and len(connection.asked) > MESSAGES_A_SECOND

    async def _refuse_order(self, connection: Connection, request_type: RequestType, fields: list[str]) -> None:
        self.journal.orders.append(request_type.name.lower())
        log.warning("refused an order message: %s", request_type.name)
        with_version = request_type in (RequestType.CANCEL_ORDER, RequestType.EXERCISE_OPTIONS)
        request = (
            -1
            if request_type in (RequestType.GLOBAL_CANCEL, RequestType.REPLACE_FA)
            else int(fields[2 if with_version else 1])
        )
        await connection.send(error(request, *answers.READ_ONLY))
