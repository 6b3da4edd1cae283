"""The server: connections, requests, and the faults that meet them."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from . import answers
from .faults import Meets, Schedule
from .history import History
from .market import BadRequest, Market, Span, parse_span
from .wire import ORDERS, Ask, Tell, contract_fields, error, frame, read_frame, read_handshake

log = logging.getLogger("tws")

MESSAGES_A_SECOND = 50  # https://interactivebrokers.github.io/tws-api/order_limitations.html and introduction
PIECES = 50  # of a slow answer


@dataclass(frozen=True)
class Settings:
    account: str
    clock_skew_s: float  # IB's clock against this machine's
    pace: float  # seconds of IB's pacing rules times this; 0 for none
    outage_s: float  # how long what comes back stays away, and how long a slow answer takes
    reset: str | None  # HH:MM, UTC, by IB's clock


@dataclass(eq=False)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    client: int = -1
    asked: deque[float] = field(default_factory=deque)  # when the last messages came
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def send(self, data: bytes) -> None:
        async with self.lock:
            self.writer.write(data)
            await self.writer.drain()

    async def send_slowly(self, data: bytes, seconds: float) -> None:
        size = max(1, -(-len(data) // PIECES))
        async with self.lock:
            for at in range(0, len(data), size):
                self.writer.write(data[at : at + size])
                await self.writer.drain()
                await asyncio.sleep(seconds / PIECES)

    async def cut(self, data: bytes) -> None:
        async with self.lock:
            self.writer.write(data[: len(data) // 2])
            await self.writer.drain()
            self.writer.close()


@dataclass(frozen=True)
class Asked:
    """One request for history."""

    request: int
    symbol: str
    span: Span
    format_date: str


@dataclass(frozen=True)
class Outage:
    maintained: bool
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Server:
    def __init__(self, market: Market, schedule: Schedule, settings: Settings) -> None:
        self.market = market
        self.schedule = schedule
        self.settings = settings
        self.skew_s = settings.clock_skew_s
        self.history = History(market, pace=settings.pace)
        self.connections: set[Connection] = set()
        self.port = 0
        self.messages: Counter[str] = Counter()
        self.orders: list[str] = []
        self.met: list[dict[str, object]] = []
        self.accepted = self.bars_sent = 0
        self._listener: asyncio.Server | None = None
        self._outage: Outage | None = None
        self._asleep = False
        self._away: asyncio.Task[None] | None = None
        self._handlers: dict[Ask, Callable[[Connection, list[str]], Awaitable[None]]] = {
            Ask.CONTRACT_DETAILS: self._contract_details,
            Ask.HISTORICAL_DATA: self._historical_data,
            Ask.CANCEL_HISTORICAL_DATA: self._cancel_historical_data,
            Ask.HEAD_TIMESTAMP: self._head_timestamp,
        }
        self._histories: dict[tuple[Connection, int], asyncio.Task[None]] = {}

    @property
    def now(self) -> float:
        """IB's clock, seconds since 1970."""
        return time.time() + self.skew_s

    def status(self) -> dict[str, object]:
        return {
            "connections": self.accepted,
            "messages": dict(self.messages),
            "orders": self.orders,
            "faults": self.met,
            "pace_violations": self.history.pace_violations,
            "bars_sent": self.bars_sent,
        }

    # Listening

    async def listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", port or self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._away:
            self._away.cancel()
        if self._listener:
            self._listener.close()
        for connection in list(self.connections):
            connection.writer.close()
        await asyncio.sleep(0)

    def _go_away(self, *, abort: bool) -> None:
        """End every connection and refuse new ones for a while."""
        if self._listener:
            self._listener.close()
            self._listener = None
            self._away = asyncio.get_running_loop().create_task(self._come_back())
        for connection in self.connections:
            if abort:
                connection.writer.transport.abort()
            else:
                connection.writer.close()

    async def _come_back(self) -> None:
        await asyncio.sleep(self.settings.outage_s)
        await self.listen(self.port)

    async def reset_daily(self) -> None:
        while self.settings.reset:
            hour, minute = map(int, self.settings.reset.split(":"))
            now = datetime.fromtimestamp(self.now, UTC)
            at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            at += timedelta(days=1) if at <= now else timedelta()
            # Short naps, since the clock can be set meanwhile.
            while (left := (at - datetime.fromtimestamp(self.now, UTC)).total_seconds()) > 0:
                await asyncio.sleep(min(left, 0.05))
            self._note("daily_reset", "clock", int(at.timestamp()))
            await self._reset()

    async def _reset(self) -> None:
        await self._tell_all(answers.LOST)
        self._go_away(abort=False)

    # Connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(reader, writer, self.accepted)
        self.connections.add(connection)
        try:
            await self._serve(connection)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as gone:
            log.debug("connection %d: %s", connection.number, gone)
        finally:
            self.connections.discard(connection)
            for task in connection.tasks:
                task.cancel()
            writer.close()

    async def _serve(self, connection: Connection) -> None:
        version = await read_handshake(connection.reader)
        if version is None:
            await connection.send(error(-1, 503, "The TWS is out of date and must be upgraded."))
            return
        await connection.send(frame(version, datetime.fromtimestamp(self.now, UTC).strftime("%Y%m%d %H:%M:%S UTC")))
        start = await read_frame(connection.reader)
        if Ask(int(start[0])) is not Ask.START_API or not await self._start(connection, int(start[2])):
            return
        while True:
            await self._dispatch(connection, await read_frame(connection.reader))

    async def _start(self, connection: Connection, client: int) -> bool:
        fault, _ = self.schedule.next(Meets.CONNECTION)
        if fault:
            self._note(fault, "connection", None)
        if fault == "client_id" or any(other.client == client for other in self.connections):
            await connection.send(answers.notice(answers.ID_IN_USE))
            return False
        connection.client = client
        await connection.send(frame(Tell.MANAGED_ACCOUNTS, 1, self.settings.account))
        await connection.send(frame(Tell.NEXT_VALID_ID, 1, 1))
        for message in (*answers.FARMS_OK, answers.SECDEF_OK):
            await connection.send(answers.notice(message))
        return True

    async def _dispatch(self, connection: Connection, fields: list[str]) -> None:
        number = int(fields[0])
        ask = Ask(number) if number in Ask.__members__.values() else None
        self.messages[ask.name.lower() if ask else f"message_{number}"] += 1
        if self._too_fast(connection):
            await connection.send(answers.notice(answers.TOO_FAST))
        elif ask in ORDERS:
            await self._refuse_order(connection, ask, fields)
        elif ask in self._handlers:
            await self._handlers[ask](connection, fields)
        elif (empty := self._empty_answer(ask, fields)) is not None:
            await connection.send(empty)
        else:
            await connection.send(error(-1, 321, f"This simulator does not answer message {number}"))

    def _too_fast(self, connection: Connection) -> bool:
        moment, second = time.monotonic(), self.settings.pace
        connection.asked.append(moment)
        while connection.asked[0] <= moment - second:
            connection.asked.popleft()
            if not connection.asked:
                return False
        return len(connection.asked) > MESSAGES_A_SECOND

    async def _refuse_order(self, connection: Connection, ask: Ask, fields: list[str]) -> None:
        self.orders.append(ask.name.lower())
        request = (
            -1 if ask is Ask.GLOBAL_CANCEL else int(fields[2 if ask in (Ask.CANCEL_ORDER, Ask.EXERCISE_OPTIONS) else 1])
        )
        log.warning("refused an order message: %s", ask.name)
        await connection.send(error(request, *answers.READ_ONLY))

    def _empty_answer(self, ask: Ask | None, fields: list[str]) -> bytes | None:
        """Of an account that holds nothing and has never traded."""
        match ask:
            case Ask.CURRENT_TIME:
                return frame(Tell.CURRENT_TIME, 1, int(self.now))
            case Ask.MANAGED_ACCOUNTS:
                return frame(Tell.MANAGED_ACCOUNTS, 1, self.settings.account)
            case Ask.IDS:
                return frame(Tell.NEXT_VALID_ID, 1, 1)
            case Ask.OPEN_ORDERS | Ask.ALL_OPEN_ORDERS:
                return frame(Tell.OPEN_ORDERS_END, 1)
            case Ask.POSITIONS:
                return frame(Tell.POSITIONS_END, 1)
            case Ask.COMPLETED_ORDERS:
                return frame(Tell.COMPLETED_ORDERS_END)
            case Ask.ACCOUNT_UPDATES:
                return frame(Tell.ACCOUNT_DOWNLOAD_END, 1, self.settings.account)
            case Ask.ACCOUNT_UPDATES_MULTI:
                return frame(Tell.ACCOUNT_UPDATES_MULTI_END, 1, fields[2])
            case Ask.EXECUTIONS:
                return frame(Tell.EXECUTIONS_END, 1, fields[2])
            case (
                Ask.AUTO_OPEN_ORDERS
                | Ask.CANCEL_POSITIONS
                | Ask.CANCEL_ACCOUNT_UPDATES_MULTI
                | Ask.CANCEL_HEAD_TIMESTAMP
            ):
                return b""
        return None

    # Requests about a contract

    async def _contract_details(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[2])
        fault, _ = self.schedule.next(Meets.LOOKUP)
        symbol = self.market.find(contract_fields(fields[3:15]))
        if symbol is None:
            await connection.send(error(request, *answers.UNKNOWN))
            return
        if fault:
            self._note(fault, "look-up", None)
        zone = "EST" if fault == "time_zone" else "US/Eastern"
        now = int(self.now)
        for second in (False, True) if fault == "two_contracts" else (False,):
            details = answers.contract_details(request, self.market, symbol, now=now, zone=zone, second=second)
            await connection.send(details)
        await connection.send(frame(Tell.CONTRACT_DATA_END, 1, request))

    async def _head_timestamp(self, connection: Connection, fields: list[str]) -> None:
        request, symbol = int(fields[1]), self.market.find(contract_fields(fields[2:14]))
        if symbol is None:
            await connection.send(error(request, *answers.UNKNOWN))
        else:
            head = answers.head_timestamp(request, self.market.head(symbol), format_date=fields[17])
            await connection.send(head)

    async def _historical_data(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[1])
        try:
            asked = self._parse(fields)
        except BadRequest as bad:
            await connection.send(error(request, bad.code, bad.text))
            return
        self.history.pace(asked.symbol, tuple(fields[2:]), time.monotonic())
        task = asyncio.get_running_loop().create_task(self._answer(connection, asked))
        connection.tasks.add(task)
        self._histories[connection, request] = task
        task.add_done_callback(connection.tasks.discard)
        task.add_done_callback(lambda _: self._histories.pop((connection, request), None))

    async def _cancel_historical_data(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[2])
        if task := self._histories.get((connection, request)):
            task.cancel()
            await connection.send(answers.refusal("cancelled", request, ""))
        else:
            await connection.send(error(request, 366, f"No historical data query found for ticker id:{request}"))

    def _parse(self, fields: list[str]) -> Asked:
        """Raises   BadRequest"""
        symbol = self.market.find(contract_fields(fields[2:14]))
        end, bar_size, duration, _, show, format_date, keep_up = fields[15:22]
        if symbol is None:
            raise BadRequest(*answers.UNKNOWN)
        if bar_size != "1 min" or keep_up != "0":
            raise BadRequest(
                321, "Error validating request.-'bM' : cause - This simulator has 1 min bars and no updates"
            )
        if show != "MIDPOINT":
            raise BadRequest(162, f"{answers.SERVICE}No historical market data for {symbol}/CMDTY@SMART {show} 60")
        return Asked(int(fields[1]), symbol, parse_span(end, duration, now=int(self.now)), format_date)

    async def _answer(self, connection: Connection, asked: Asked) -> None:
        rows = self.market.select(asked.symbol, asked.span, now=int(self.now))
        await self._send_rows(connection, asked, rows)

    async def _send_rows(self, connection: Connection, asked: Asked, rows: pl.DataFrame) -> None:
        await connection.send(self._bytes(asked, rows))

    def _bytes(self, asked: Asked, rows: pl.DataFrame) -> bytes:
        if rows.is_empty():
            return answers.refusal("no_data", asked.request, asked.symbol)
        self.bars_sent += rows.height
        return answers.history(asked.request, rows, asked.span, format_date=asked.format_date)

    async def _tell_all(self, *messages: tuple[int, str]) -> None:
        for connection in list(self.connections):
            with suppress(ConnectionError):
                await connection.send(b"".join(map(answers.notice, messages)))

    def _note(self, fault: str, meets: str, start: int | None) -> None:
        log.info("%s: %s", meets, fault)
        self.met.append({"fault": fault, "meets": meets, "start": start})
