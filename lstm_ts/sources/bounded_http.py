"""HTTP GET from an unreliable server, with a deadline and a size limit; an incomplete answer is an error."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from lstm_ts.errors import ConfigError
from lstm_ts.sources.retries import RetryableError


class NoConnection(RetryableError):
    """Failure to connect to the server."""


class DamagedAnswer(RetryableError):
    """A proxy's page, or a truncated answer."""


class AnswerTooLarge(RetryableError):
    """An answer over the size limit."""


@dataclass(frozen=True)
class Head:
    url: str
    status: int
    headers: Mapping[str, str]  # by name, in upper or lower case


def check_url(url: str, what: str) -> str:
    """Raises    ConfigError: no URL, or one with credentials, which the message leaves out"""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    known = parsed.scheme in ("http", "https") and parsed.host and (parsed.port is None or 0 < parsed.port < 65536)
    if not known or parsed.userinfo or parsed.query or parsed.fragment:
        raise ConfigError(f"Expected {what}, got something else; correct it")
    return str(url).rstrip("/")


class BoundedHttp:
    """HTTP client that keeps its connection; one request at a time."""

    def __init__(
        self, *, answer_s: float, max_bytes: int, headers: Mapping[str, str] | None = None, trust_env: bool = True
    ) -> None:
        """answer_s     deadline of a whole answer
        max_bytes    size limit of an answer, decompressed
        trust_env    use the proxy that the environment names
        """
        self._answer_s, self._max_bytes, self._headers, self._trust_env = answer_s, max_bytes, headers, trust_env
        self._runner: asyncio.Runner | None = None
        self._http: httpx.AsyncClient | None = None

    def fetch(
        self, url: str, query: Mapping[str, int | str] | None = None, *, check: Callable[[Head], None] = lambda _: None
    ) -> tuple[Head, bytes]:
        """Return status and headers, and the body.

        check     called before the body is read; its exceptions pass through
        Raises    RetryableError
        """
        if self._runner is None or self._http is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # leaves the thread's own loop alone
            self._http = httpx.AsyncClient(headers=self._headers, timeout=self._answer_s, trust_env=self._trust_env)
        return self._runner.run(self._fetch(self._http, httpx.URL(url, params=query or {}), check))

    def close(self) -> None:
        if self._runner is not None and self._http is not None:
            self._runner.run(self._http.aclose())
            self._runner.close()
        self._runner = self._http = None

    async def _fetch(
        self, http: httpx.AsyncClient, url: httpx.URL, check: Callable[[Head], None]
    ) -> tuple[Head, bytes]:
        try:
            async with asyncio.timeout(self._answer_s), http.stream("GET", url) as response:
                head = Head(str(url), response.status_code, response.headers)
                check(head)
                return head, await self._read(response)
        except (TimeoutError, httpx.TimeoutException):
            raise RetryableError(f"no whole answer within {self._answer_s:g} s from {url}") from None
        except httpx.ConnectError:
            raise NoConnection(f"no connection to {url}") from None
        except httpx.DecodingError as error:
            raise DamagedAnswer(f"a damaged answer from {url}: {error}") from None
        except httpx.RequestError as error:
            raise RetryableError(f"the connection to {url} was lost: {error}") from None

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                raise AnswerTooLarge(f"more than {self._max_bytes} bytes from {response.url}")
        return bytes(body)
