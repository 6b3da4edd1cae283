"""The desk that answers requests about contracts, each of which may meet a fault."""

import asyncio
import time
from contextlib import suppress
from random import Random

import polars as pl

from . import answers
from .faults import FAULTS, Meets, Schedule, Seen
from .history import Asked, History, Pace
from .journal import Clock, Journal
from .line import OUTAGES, Connection, Line, Outage
from .market import DAY_S, BadRequest, Market, parse_span
from .wire import ResponseType, contract_fields, error, frame


class Desk:
    def __init__(
        self, market: Market, schedule: Schedule, pace: Pace, *, line: Line, clock: Clock, journal: Journal
    ) -> None:
        self.market = market
        self.schedule = schedule
        self.pace = pace
        self.line = line
        self.clock = clock
        self.journal = journal
        self.history = History(market)

    async def contract_details(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[2])
        fault, _ = self.schedule.next(Meets.LOOKUP)
        symbol = self.market.find(contract_fields(fields[3:15]))
        if symbol is None:
            await connection.send(error(request, *answers.UNKNOWN))
            return
        if fault:
            self.journal.note(fault, Meets.LOOKUP)
        zone = "EST" if fault == "time_zone" else "US/Eastern"
        now = int(self.clock.now)
        for second in (False, True) if fault == "two_contracts" else (False,):
            details = answers.contract_details(request, self.market, symbol, now=now, zone=zone, second=second)
            await connection.send(details)
        await connection.send(frame(ResponseType.CONTRACT_DATA_END, 1, request))

    async def head_timestamp(self, connection: Connection, fields: list[str]) -> None:
        request, symbol = int(fields[1]), self.market.find(contract_fields(fields[2:14]))
        if symbol is None:
            await connection.send(error(request, *answers.UNKNOWN))
        else:
            head = answers.head_timestamp(request, self.market.head(symbol), format_date=fields[17])
            await connection.send(head)

    async def historical_data(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[1])
        try:
            asked = self._parse(connection, fields)
        except BadRequest as bad:
            await connection.send(error(request, bad.code, bad.text))
            return
        task = asyncio.get_running_loop().create_task(self._answer(connection, asked, fields))
        connection.histories[request] = task
        task.add_done_callback(lambda _: connection.histories.pop(request, None))

    async def cancel_historical_data(self, connection: Connection, fields: list[str]) -> None:
        request = int(fields[2])
        if task := connection.histories.get(request):
            task.cancel()
            await connection.send(answers.refusal("cancelled", request, ""))
        else:
            await connection.send(error(request, 366, f"No historical data query found for ticker id:{request}"))

    def _parse(self, connection: Connection, fields: list[str]) -> Asked:
        """Raises   BadRequest"""
        symbol = self.market.find(contract_fields(fields[2:14]))
        end, bar_size, duration, _, show, format_date, keep_up = fields[15:22]
        if symbol is None:
            raise BadRequest(*answers.UNKNOWN)
        if bar_size != "1 min" or keep_up != "0":
            raise BadRequest(321, "Error validating request.-'bM' : cause - This simulator has 1 min bars, no updates")
        if show != "MIDPOINT":
            raise BadRequest(162, f"{answers.SERVICE}No historical market data for {symbol}/CMDTY@SMART {show} 60")
        now = int(self.clock.now)
        span = parse_span(end, duration, now=now)
        return Asked(connection.number, now // DAY_S, int(fields[1]), symbol, span, format_date)

    async def _answer(self, connection: Connection, asked: Asked, fields: list[str]) -> None:
        """The first step, up to `await`, runs in the order of arrival: so the same requests meet the same faults."""
        with suppress(ConnectionError):
            if self.pace.breaks(asked.symbol, tuple(fields[2:]), time.monotonic()):
                self.journal.pace_violations += 1
                await connection.send(answers.refusal("pacing", asked.request, asked.symbol))
                return
            fault, draws = (None, Random()) if self.line.outage else self.schedule.next(Meets.HISTORY, asked.span)
            rows, touched = self.history.answer(asked, fault, draws, now=int(self.clock.now))
            if fault and (touched or FAULTS[fault].seen in (Seen.SAID, Seen.LATE)):
                self.journal.note(fault, Meets.HISTORY, asked.span.start, touched)
            await self._live_through(connection, asked, fault)
            if fault in answers.REFUSALS and fault != "no_data":
                await connection.send(answers.refusal(fault, asked.request, asked.symbol))
            else:
                await self._send_rows(connection, asked, fault, rows)

    async def _live_through(self, connection: Connection, asked: Asked, fault: str | None) -> None:
        """Returns when an answer may be sent: soon, late, or never."""
        line = self.line
        if fault in OUTAGES:
            await line.begin(Outage(*OUTAGES[fault]))
        outage = line.outage
        if outage:
            if not outage.lost:
                await connection.send(error(asked.request, *answers.HMDS_RETRIES))
            await outage.over.wait()
        if fault == "inactive":
            line.asleep = True
            await line.tell_all(answers.INACTIVE)
        elif fault == "refused":
            line.go_away(abort=True)
        elif fault == "daily_reset":
            await line.reset()
        if (outage and not outage.answers) or fault in ("inactive", "refused", "daily_reset", "silence"):
            await asyncio.get_running_loop().create_future()  # until the client cancels, or goes

    async def _send_rows(self, connection: Connection, asked: Asked, fault: str | None, rows: pl.DataFrame) -> None:
        await self.line.wake()
        if rows.is_empty():
            data = answers.refusal("no_data", asked.request, asked.symbol)
        else:
            data = answers.history(asked.request, rows, asked.span, format_date=asked.format_date)
        if fault == "cut":
            await connection.cut(data)
        elif fault == "slow":
            await connection.send_slowly(data, self.line.outage_s)
        else:
            await connection.send(data)
        self.journal.bars_sent += rows.height
