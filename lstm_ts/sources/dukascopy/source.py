"""Minute bars from Dukascopy's public feed: mid prices of its bid and ask candles, a UTC day and side a request.

Its candles are in `candles.py`. A side's answer is one observer, so the two of a day prove its silent minutes empty. A
day that is running, or has just ended, may lack its latest candles: it proves nothing after the last one it brought.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import polars as pl

from lstm_ts import clock
from lstm_ts.errors import BrokerError, BrokerUnavailable, ConfigError
from lstm_ts.market.bars import BAR_SCHEMA, PRICES, AvailableSpan, BarBatch, make_answers, make_rejects
from lstm_ts.market.session import DAY, MINUTE, midnight
from lstm_ts.sources.bounded_http import DamagedAnswer, NoConnection
from lstm_ts.sources.dukascopy.candles import InvalidAnswer, decode, make_mid, rate
from lstm_ts.sources.dukascopy.json_client import JsonClient, JsonReply, NotFound
from lstm_ts.sources.retries import LONGEST_S, Retries, RetryableError

SIDES = {"mid": ("BID", "ASK"), "bid": ("BID",), "ask": ("ASK",)}
FEW = 3  # candles whose bid may be the ask
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Dukascopy:
    def __init__(
        self,
        *,
        base: str,
        code: str | None,
        prices: str,
        pace_s: float,
        answer_s: float,
        patience_s: float,
        max_bytes: int,
        settled_s: float,
        max_skew_s: float,
        retries: Mapping[str, float],
    ) -> None:
        if prices not in SIDES:
            raise ConfigError(f"Expected source.prices as one of {', '.join(SIDES)}, got {prices}")
        if not CODE.fullmatch(str(code or "")):
            raise ConfigError(
                f"Expected symbol.feed_code as Dukascopy's code such as XAG-USD, got {code or 'none'}; set it"
            )
        if min(pace_s, settled_s, max_skew_s) < 0 or max(pace_s, settled_s, max_skew_s) > LONGEST_S:
            raise ConfigError(
                f"Expected source.pace_s, source.settled_s and source.max_skew_s within 0..{LONGEST_S:g}, got "
                f"{pace_s:g}, {settled_s:g} and {max_skew_s:g}; correct them"
            )
        self.code, self.prices, self.sides = str(code), prices, SIDES[prices]
        self.pace_s, self.max_skew_s = pace_s, max_skew_s
        self.settled = timedelta(seconds=settled_s)
        self.retries = Retries(**retries)  # type: ignore[arg-type]
        self._client = JsonClient(base, answer_s=answer_s, patience_s=patience_s, max_bytes=max_bytes)
        self._run = uuid4().hex[:12]
        self._requested_at = -pace_s  # by the monotonic clock
        self._answered = False
        self._known = False  # is the code to the feed

    @property
    def name(self) -> str:
        return f"Dukascopy {self.code} {self.prices} bars"

    def connect(self, requested_at: Sequence[datetime] = ()) -> AvailableSpan:
        """requested_at    unused: the feed itself reports too many requests

        Raises    BrokerUnavailable: no answer; BrokerError: an invalid answer, or a clock that is off
        """
        try:
            reply = self._get(f"instruments/{self.code}")
        except NotFound as unknown:
            log.warning("%s; requesting its candles anyway", unknown)
            return AvailableSpan(EPOCH, clock.now(), by_day=True)
        except RetryableError as why:
            raise self._unavailable(why) from why
        self._check_clock(reply.at)
        head = self._read(reply, _read_head)
        self._known = head is not None
        return AvailableSpan(head or EPOCH, clock.now(), by_day=True)

    def close(self) -> None:
        self._client.close()

    def fetch_batches(self, spans: Iterable[tuple[datetime, datetime]]) -> Iterator[BarBatch]:
        """Each span lies in one UTC day. One that stays without a usable answer is an empty batch.

        Raises    BrokerUnavailable
        """
        for start, end in spans:
            batch = BarBatch(pl.DataFrame(schema=BAR_SCHEMA))
            try:
                batch = self._fetch_day(start, end)
            except RetryableError as why:
                batch = replace(batch, refused=self._unavailable(why))
            except BrokerUnavailable:
                raise
            except BrokerError as why:
                batch = replace(batch, refused=why)
            yield batch

    def _fetch_day(self, start: datetime, end: datetime) -> BarBatch:
        day = midnight(start)
        settled = clock.now() >= day + DAY + self.settled
        sides = [self._fetch_side(side, day) for side in self.sides]
        self._check_sides(sides, day)
        sides = [bars.filter(pl.col("ts") >= start, pl.col("ts") < end) for bars in sides]
        if not settled:  # each as far as all have come
            end = min(end, *(max([start, *(ts + MINUTE for ts in bars["ts"].tail(1))]) for bars in sides))
        rows = make_mid(*sides) if len(sides) == 2 else rate(sides[0])
        return self._make_batch(rows.filter(pl.col("ts") < end), start, end)

    def _fetch_side(self, side: str, day: datetime) -> pl.DataFrame:
        """BAR_SCHEMA."""
        path, first_ms = f"candles/minute/{self.code}/{side}", _epoch_ms(day)
        if clock.now() >= day + DAY:
            until = day + DAY
            reply = self._get(f"{path}/{day.year}/{day.month}/{day.day}")
        else:
            reply = self._get(path, {"from": first_ms})
            until = clock.now() + timedelta(seconds=self.max_skew_s)  # midnight may have passed
        return self._read(reply, partial(decode, first_ms=first_ms, until_ms=_epoch_ms(until)))

    def _check_sides(self, sides: Sequence[pl.DataFrame], day: datetime) -> None:
        """Raises    BrokerError: both sides are one, as a cache that mixes them up answers"""
        prices = [bars.select("ts", *PRICES) for bars in sides]
        common = prices[0].join(prices[-1], on="ts").height
        if len(sides) == 2 and common > FEW and prices[0].join(prices[1], on=["ts", *PRICES]).height == common:
            raise BrokerError(
                f"Expected bid and ask of {self.code} on {day:%Y-%m-%d}, got the same prices as both in {common:,} "
                f"candles; nothing of them was stored; try later, or correct source.base"
            )

    def _make_batch(self, rows: pl.DataFrame, start: datetime, end: datetime) -> BarBatch:
        bars = rows.filter(pl.col("reason").is_null())
        bad = rows.filter(pl.col("reason").is_not_null())
        rejects = make_rejects(bad, self.name)
        self._known |= bars.height > 0
        bars = bars.select(BAR_SCHEMA.names())
        if start >= end or not self._known:
            return BarBatch(bars, rejects=rejects)
        at = clock.now()
        observers = [f"Dukascopy {side} {self._run} {at:%Y-%m-%d}" for side in self.sides]
        answers_of = partial(make_answers, start, end, good=bars["ts"], bad=bad["ts"], at=at)
        answers = tuple(answer for observer in observers for answer in answers_of(observer=observer))
        return BarBatch(bars, rejects=rejects, answers=answers)

    # Requests

    def _get(self, path: str, query: Mapping[str, int | str] | None = None) -> JsonReply:
        """Ask until there is a whole answer.

        Raises    RetryableError: as often as `retries` allows; BrokerError: asking again is no use
        """
        try:
            return self.retries.call(partial(self._ask, path, query or {}), sleep=time.sleep)
        except DamagedAnswer as why:
            raise BrokerError(
                f"Expected JSON from Dukascopy's feed, got {why}; try later, or correct source.base"
            ) from why

    def _ask(self, path: str, query: Mapping[str, int | str]) -> JsonReply:
        time.sleep(max(0.0, self._requested_at + self.pace_s - time.monotonic()))
        self._requested_at = time.monotonic()
        try:
            reply = self._client.get(path, query)
        except NoConnection as why:
            if self._answered:
                raise
            raise self._unavailable(why) from None
        self._answered = True
        return reply

    def _read(self, reply: JsonReply, read: Callable[[Any], Result]) -> Result:
        try:
            return read(reply.value)
        except InvalidAnswer as why:
            raise BrokerError(
                f"Expected {why} in the answer of {reply.url}; nothing of it was stored; try later, or correct "
                f"source.base"
            ) from why

    def _check_clock(self, theirs: datetime | None) -> None:
        """Raises    BrokerError: with a clock that is ahead, future days would be taken for empty ones"""
        ahead_s = (clock.now() - theirs).total_seconds() if theirs else 0.0
        if abs(ahead_s) / clock.speed() > self.max_skew_s + 1:  # theirs is in whole seconds
            raise BrokerError(
                f"Expected the clock of {self._client.base} within {self.max_skew_s:g} s of this machine's, got one "
                f"{-ahead_s:+.0f} s from it; {clock.fix_hint()}"
            )

    def _unavailable(self, why: RetryableError) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"Expected answers from Dukascopy's feed at {self._client.base}, got none: {why}; try later, or correct "
            f"source.base"
        )


def _read_head(instrument: Any) -> datetime | None:
    """The first minute of an instrument; None where the feed does not say.    Raises    InvalidAnswer"""
    if not isinstance(instrument, dict):
        raise InvalidAnswer(f"an object that describes the instrument, got {str(instrument)[:40]}")
    histories = instrument.get("histories", [])
    if not isinstance(histories, list) or not all(isinstance(history, dict) for history in histories):
        raise InvalidAnswer("a list of objects as histories, got something else")
    heads = [history.get("from") for history in histories if history.get("period") == "MINUTE"]
    if not heads:
        return None
    head = heads[0]
    if type(head) is not int or not 0 <= head <= _epoch_ms(clock.now()):
        raise InvalidAnswer(f"the first moment of its minutes as epoch ms, got {str(head)[:40]}")
    return EPOCH + timedelta(milliseconds=head)


def _epoch_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)
