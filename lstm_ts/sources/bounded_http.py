"""HTTP GET from an unreliable server, with a deadline and a size limit; an incomplete answer is an error."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.request import getproxies

import httpx

from lstm_ts.errors import ConfigError
from lstm_ts.sources.retries import RetryableError

NOBODY_THERE = "All connection attempts failed"  # httpx's words, which add nothing


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
    unwanted = parsed.userinfo or parsed.query or parsed.fragment
    if parsed.scheme not in ("http", "https") or not parsed.host or not _is_port(parsed.port) or unwanted:
        raise ConfigError(f"Expected {what}, without user, query or fragment, got something else; correct it")
    return str(url).rstrip("/")


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65536


def _check_proxies() -> None:
    """Raises    ConfigError: a variable names none; the message leaves its value out, as it may hold a password"""
    for kind, proxy in getproxies().items():
        if kind not in ("http", "https", "all"):
            continue
        try:
            url = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}").url
        except (httpx.InvalidURL, ValueError):
            url = httpx.URL("")
        lacks_library = url.scheme.startswith("socks") and not find_spec("socksio")
        if not url.host or not _is_port(url.port) or lacks_library:
            hint = "pip install 'httpx[socks]', or" if lacks_library else "correct or"
            raise ConfigError(
                f"Expected {kind.upper()}_PROXY as a usable proxy such as http://host:3128, got something else; {hint} "
                f"unset it"
            )


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
        Raises    RetryableError; ConfigError: no usable proxy or certificates in the environment
        """
        if self._runner is None or self._http is None:
            self._http = self._make_client()
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # leaves the thread's own loop alone
        return self._runner.run(self._fetch(self._http, httpx.URL(url, params=query or {}), check))

    def close(self) -> None:
        if self._runner is not None and self._http is not None:
            self._runner.run(self._http.aclose())
            self._runner.close()
        self._runner = self._http = None

    def _make_client(self) -> httpx.AsyncClient:
        if self._trust_env:
            _check_proxies()
        try:
            return httpx.AsyncClient(headers=self._headers, timeout=self._answer_s, trust_env=self._trust_env)
        except (OSError, httpx.InvalidURL) as error:
            what = "SSL_CERT_FILE as a file of certificates" if isinstance(error, OSError) else "NO_PROXY as hosts"
            raise ConfigError(f"Expected {what}, got something else: {error}; correct or unset it") from None

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
        except httpx.ConnectError as error:
            why = f"{error}".replace(NOBODY_THERE, "")
            raise NoConnection(f"no connection to {url}{why and f': {why}'}") from None
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
