"""JSON over HTTP: what an answer's status means, and how long its server wants to be left alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from lstm_ts import __version__, clock
from lstm_ts.errors import BrokerError, BrokerUnavailable, ConfigError
from lstm_ts.sources.bounded_http import AnswerTooLarge, BoundedHttp, DamagedAnswer, Head, check_url
from lstm_ts.sources.retries import RetryableError

SHOWN = 80  # bytes of an answer that is no JSON, in the error
ASK_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class NotFound(BrokerError):
    """The server answered with status 404."""


@dataclass(frozen=True)
class JsonReply:
    url: str
    value: Any
    at: datetime | None  # by the server's clock, in whole seconds


class JsonClient:
    def __init__(self, base: str, *, answer_s: float, patience_s: float, max_bytes: int) -> None:
        """patience_s   the longest `Retry-After` that is waited for"""
        self.base = check_url(base, "source.base such as https://host/v1")
        if min(answer_s, max_bytes) <= 0 or patience_s < 0:
            raise ConfigError(
                f"Expected source.answer_s and source.max_bytes above 0 and source.patience_s of at least 0, got "
                f"{answer_s:g}, {max_bytes} and {patience_s:g}; correct them"
            )
        self._patience_s, self._max_bytes = patience_s, max_bytes
        headers = {"User-Agent": f"lstm_ts/{__version__}", "Accept": "application/json"}
        self._http = BoundedHttp(answer_s=answer_s, max_bytes=max_bytes, headers=headers)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, int | str]) -> JsonReply:
        """Raises    RetryableError: no whole answer; NotFound; BrokerError: refused, or too much; BrokerUnavailable"""
        try:
            head, body = self._http.fetch(f"{self.base}/{path}", query, check=self._check_status)
        except AnswerTooLarge as error:
            raise BrokerError(
                f"Expected at most source.max_bytes={self._max_bytes} bytes, got {error}; correct source.base; nothing "
                f"of this answer was stored"
            ) from None
        return JsonReply(head.url, _parse(body, head.url), _date(head.headers.get("Date", "")))

    def _check_status(self, head: Head) -> None:
        status, url = head.status, head.url
        if status == HTTPStatus.OK:
            return
        if status in ASK_LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RetryableError(f"status {status} from {url}", self._pause_s(head))
        if status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"Expected {url} to exist, got status 404; correct symbol.feed_code or source.base")
        moved = f" to {head.headers['Location']}" if "Location" in head.headers else ""
        raise BrokerError(f"Expected an answer from {url}, got status {status}{moved}; correct source.base")

    def _pause_s(self, head: Head) -> float:
        """Raises    BrokerUnavailable: the server wants to be left alone for longer than `patience_s`"""
        pause_s = _retry_after_s(head.headers.get("Retry-After", ""))
        if pause_s > self._patience_s:
            raise BrokerUnavailable(
                f"Expected {self.base} to answer within source.patience_s={self._patience_s:g} s, got status "
                f"{head.status} and a wish to be left alone for {pause_s:.0f} s; try again then"
            )
        return pause_s


def _parse(body: bytes, url: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        cut = body.lstrip().startswith((b"{", b"[")) and not body.rstrip().endswith((b"}", b"]"))
        what = f"a truncated answer that ends with {body[-SHOWN:]!r}" if cut else f"{body[:SHOWN]!r}"
        raise DamagedAnswer(f"{what} from {url}") from None


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # OverflowError: of a year or an offset of many digits
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _retry_after_s(text: str) -> float:
    """Parse `Retry-After`, seconds or a date; 0 for anything else."""
    if text.strip().isdecimal():
        return float(text)
    at = _date(text)
    return max(0.0, (at - clock.now()).total_seconds() / clock.speed()) if at else 0.0
