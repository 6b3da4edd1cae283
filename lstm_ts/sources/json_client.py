"""Fetch JSON over HTTP from an unreliable server: an answer has a deadline and a size limit, and is complete."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from lstm_ts import __version__, clock
from lstm_ts.errors import BrokerAway, BrokerError, ConfigError
from lstm_ts.sources.retries import RetryableError

SHOWN = 80  # bytes of an answer that is no JSON, in the error
ASK_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class NoConnection(RetryableError):
    """No connection to the server."""


class NotJson(RetryableError):
    """The answer is no JSON: a proxy's page, or a truncated answer."""


class NotFound(BrokerError):
    """The server answered with status 404."""


@dataclass(frozen=True)
class JsonReply:
    url: str
    value: Any
    at: datetime | None  # by the server's clock, in whole seconds


class JsonClient:
    """Keeps a connection; one request at a time."""

    def __init__(self, base: str, *, answer_s: float, patience_s: float, max_bytes: int) -> None:
        """answer_s     deadline of a whole answer
        patience_s   the longest `Retry-After` to wait for
        max_bytes    size limit of an answer, decompressed
        """
        self.base = _check_base(base)
        if min(answer_s, max_bytes) <= 0 or patience_s < 0:
            raise ConfigError(
                f"Expected source.answer_s and source.max_bytes above 0 and source.patience_s of at least 0, got "
                f"{answer_s:g}, {max_bytes} and {patience_s:g}; correct them"
            )
        self._answer_s, self._patience_s, self._max_bytes = answer_s, patience_s, max_bytes
        self._runner: asyncio.Runner | None = None
        self._http: httpx.AsyncClient | None = None

    def get(self, path: str, query: Mapping[str, int | str]) -> JsonReply:
        """Raises    RetryableError: no whole answer; NotFound; BrokerError: a refusal, or too many bytes; BrokerAway"""
        if self._runner is None or self._http is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # leaves the thread's own loop alone
            headers = {"User-Agent": f"lstm_ts/{__version__}", "Accept": "application/json"}
            self._http = httpx.AsyncClient(headers=headers, timeout=self._answer_s)
        url = httpx.URL(f"{self.base}/{path}", params=query)
        return self._runner.run(self._get(self._http, url))

    def close(self) -> None:
        if self._runner is not None and self._http is not None:
            self._runner.run(self._http.aclose())
            self._runner.close()
        self._runner = self._http = None

    async def _get(self, http: httpx.AsyncClient, url: httpx.URL) -> JsonReply:
        try:
            async with asyncio.timeout(self._answer_s), http.stream("GET", url) as response:
                self._check_status(response)
                return JsonReply(str(url), _parse(await self._read(response), url), _date_of(response))
        except (TimeoutError, httpx.TimeoutException):
            raise RetryableError(f"no whole answer within {self._answer_s:g} s from {url}") from None
        except httpx.ConnectError:
            raise NoConnection(f"no connection to {url}") from None
        except httpx.DecodingError as error:
            raise NotJson(f"a damaged answer from {url}: {error}") from None
        except httpx.RequestError as error:
            raise RetryableError(f"the connection to {url} was lost: {error}") from None

    def _check_status(self, response: httpx.Response) -> None:
        status, url = response.status_code, response.url
        if status == HTTPStatus.OK:
            return
        if status in ASK_LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RetryableError(f"status {status} from {url}", self._pause_s(response))
        if status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"Expected {url} to exist, got status 404; correct symbol.feed_code or source.base")
        moved = f" to {response.headers['Location']}" if "Location" in response.headers else ""
        raise BrokerError(f"Expected an answer from {url}, got status {status}{moved}; correct source.base")

    def _pause_s(self, response: httpx.Response) -> float:
        """Return `Retry-After` in s.    Raises    BrokerAway: it is longer than `patience_s`"""
        pause_s = _retry_after_s(response.headers.get("Retry-After", ""))
        if pause_s > self._patience_s:
            raise BrokerAway(
                f"Expected {self.base} to answer within source.patience_s={self._patience_s:g} s, got status "
                f"{response.status_code} and a wish to be left alone for {pause_s:.0f} s; try again then"
            )
        return pause_s

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                raise BrokerError(
                    f"Expected at most source.max_bytes={self._max_bytes} bytes from {response.url}, got more; "
                    f"correct source.base; nothing of this answer was stored"
                )
        return bytes(body)


def _check_base(base: str) -> str:
    try:
        url = httpx.URL(base)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ConfigError("Expected source.base such as https://host/v1, got something else; correct it")
    return str(base).rstrip("/")


def _parse(body: bytes, url: httpx.URL) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson(f"{body[:SHOWN]!r} from {url}") from None


def _date_of(response: httpx.Response) -> datetime | None:
    return _date(response.headers.get("Date", ""))


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _retry_after_s(text: str) -> float:
    """Parse `Retry-After`, seconds or a date; 0 for anything else."""
    if text.strip().isdecimal():
        return float(text)
    at = _date(text)
    return max(0.0, (at - clock.now()).total_seconds() / clock.speed()) if at else 0.0
