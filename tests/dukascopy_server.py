"""A feed on loopback that speaks as Dukascopy's does, and misbehaves where it is told to."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
from webhook import answering

from lstm_ts import clock

UNIT = 0.0001  # a mid price and half a spread are whole multiples of it
MINUTE_MS = 60_000
DAY_MS = 86_400_000
PRICES = ("open", "high", "low", "close")
Change = Callable[[dict[str, Any]], Any]


def encode(candles: pl.DataFrame, *, first_ms: int, multiplier: float = UNIT) -> dict[str, Any]:
    """candles    `ts, open, high, low, close, volume`, ascending; prices are whole multiples of `multiplier`"""
    units = {name: np.rint(candles[name].to_numpy() / multiplier).astype(int) for name in PRICES}
    ms = candles["ts"].dt.epoch("ms").to_numpy()
    first = {name: round(float(units[name][0]) * multiplier, 10) if len(ms) else None for name in PRICES}
    steps = {f"{name}s": np.diff(units[name], prepend=units[name][:1]).tolist() for name in PRICES}
    start_ms = int(ms[0]) if len(ms) else first_ms
    times = {"times": (np.diff(ms, prepend=ms[:1]) // MINUTE_MS).tolist()}
    volumes = {"volumes": candles["volume"].cast(pl.Float64).to_list()}
    return {"timestamp": start_ms, "multiplier": multiplier, **first, "shift": MINUTE_MS, **times, **steps, **volumes}


def make_sides(minutes: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """minutes    `ts, open, high, low, close, volume, spread` of the mid"""
    half = (pl.col("spread") / 2 / UNIT).round() * UNIT
    return {
        side: minutes.with_columns((pl.col(name) + sign * half).round(4) for name in PRICES).drop("spread")
        for side, sign in (("BID", -1), ("ASK", 1))
    }


class FakeFeed:
    """Requests that hold `part` in their address meet the faults planned for it, one each, the last one for ever if so
    said: a status ("429", "503", …), "cut", "slow", "drip", "huge", "html", or what changes the answer.
    """

    def __init__(self, minutes: pl.DataFrame, *, code: str = "XAG-USD", history_ms: int = 0) -> None:
        self.sides, self.code, self.history_ms = make_sides(minutes), code, history_ms
        self.retry_after: str | timedelta = ""  # a timedelta: as a date so long after the answer
        self.clock_ahead = timedelta()
        self.requests: list[tuple[float, str]] = []
        self.held = threading.Event()  # what slow answers wait for
        self._faults: dict[str, list[str | Change]] = {}
        self._forever: set[str] = set()
        self._lock = threading.Lock()

    def plan(self, part: str, *faults: str | Change, forever: bool = False) -> None:
        self._faults[part] = list(faults)
        self._forever = self._forever | {part} if forever else self._forever - {part}

    def format_retry_after(self) -> str:
        after = self.retry_after
        return after if isinstance(after, str) else f"{datetime.now(UTC) + after:%a, %d %b %Y %H:%M:%S GMT}"

    def behave(self) -> None:
        self._faults.clear()

    @property
    def asked(self) -> list[str]:
        """Addresses of candles, in order."""
        return [address.partition("/candles/minute/")[2] for _, address in self.requests if "/candles/" in address]

    def count(self) -> dict[str, int]:
        counts: defaultdict[str, int] = defaultdict(int)
        for address in self.asked:
            counts[address] += 1
        return dict(counts)

    def note(self, address: str) -> str | Change | None:
        with self._lock:
            self.requests.append((time.monotonic(), address))
            for part, faults in self._faults.items():
                if part in address and faults:
                    return faults[0] if len(faults) == 1 and part in self._forever else faults.pop(0)
        return None

    def answer(self, path: Sequence[str], query: dict[str, list[str]]) -> dict[str, Any] | None:
        match path:
            case ["v1", "instruments", self.code]:
                histories = [{"period": period, "from": self.history_ms} for period in ("TICK", "MINUTE", "HOUR")]
                return {"code": self.code, "priceScale": 3, "holidays": [], "histories": histories}
            case ["v1", "candles", "minute", self.code, side, year, month, day]:
                first_ms = int(datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp() * 1000)
                return self._candles(side, first_ms, first_ms + DAY_MS)
            case ["v1", "candles", "minute", self.code, side] if "from" in query:
                return self._candles(side, int(query["from"][0]), 2**60)
        return None

    def _candles(self, side: str, first_ms: int, until_ms: int) -> dict[str, Any]:
        ms = pl.col("ts").dt.epoch("ms")
        return encode(self.sides[side].filter(ms >= first_ms, ms < until_ms), first_ms=first_ms)


def _make_handler(feed: FakeFeed) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fault = feed.note(self.path)
            url = urlsplit(self.path)
            answer = feed.answer(url.path.strip("/").split("/"), parse_qs(url.query))
            if isinstance(fault, str) and fault.isdecimal():
                return self._send(int(fault), b"later")
            if answer is None:
                return self._send(404, b"{}")
            if callable(fault):
                answer = fault(answer)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            return self._send(200, body, fault if isinstance(fault, str) else "")

        def _send(self, status: int, body: bytes, fault: str = "") -> None:
            if fault == "slow":
                feed.held.wait(60)
            if fault == "html":
                body = b"<html>Just a moment...</html>"
            if fault == "huge":
                body = b"[" + b"0," * 3_000_000 + b"0]"
            self.send_response(status)
            if status in (429, 503) and feed.retry_after:
                self.send_header("Retry-After", feed.format_retry_after())
            if fault == "unframed cut":
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if "cut" in fault:
                self.close_connection = True
                body = body[: len(body) // 2]
            if fault != "drip":
                self.wfile.write(body)
                return
            for byte in body:
                self.wfile.write(bytes([byte]))
                if feed.held.wait(0.02):
                    break
            self.close_connection = True

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or clock.now().timestamp()) + feed.clock_ahead.total_seconds())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(feed: FakeFeed) -> Iterator[str]:
    """Base address."""
    with answering(_make_handler(feed)) as port:
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            feed.held.set()
