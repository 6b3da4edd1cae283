"""A forecast service over HTTP, asked for its health and its counters: within limits, a few times."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from lstm_ts.errors import ConfigError


class NoWholeAnswer(Exception):
    """Why, in words."""


def check_url(url: str) -> str:
    """Raises    ConfigError: no HTTP address, or one with a secret, which the message leaves out"""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise ConfigError("Expected a service such as http://127.0.0.1:8000, got something else; correct its address")
    return url.rstrip("/")


class ServiceClient:
    """HTTP client; `health` and `samples` return the service's answer, or a sentence about why there is none."""

    def __init__(self, base: str, *, answer_s: float, attempts: int, pause_s: float, max_bytes: int) -> None:
        """answer_s   deadline of a whole answer;  pause_s   between two attempts"""
        self._base, self._answer_s, self._max_bytes = base, answer_s, max_bytes
        self._attempts, self._pause_s = attempts, pause_s
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # the thread's own loop stays

    def close(self) -> None:
        self._runner.close()

    def health(self) -> Mapping[str, Any] | str:
        try:
            value = json.loads(self._runner.run(self._get_patiently("/health")))
        except NoWholeAnswer as error:
            return str(error)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("workers"), list):
            return f"What answers at {self._base} is no forecast service."
        return value

    def samples(self) -> list[Sample] | str:
        try:
            text = self._runner.run(self._get_patiently("/metrics")).decode(errors="replace")
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        except NoWholeAnswer as error:
            return str(error)
        except ValueError:
            samples = []
        if any(sample.name == "lstm_ts_workers" for sample in samples):
            return samples
        return f"What {self._base}/metrics answers is no count of a forecast service."

    async def _get_patiently(self, path: str) -> bytes:
        for _ in range(self._attempts - 1):
            try:
                return await self._get(path)
            except NoWholeAnswer:
                await asyncio.sleep(self._pause_s)
        return await self._get(path)

    async def _get(self, path: str) -> bytes:
        url, most = self._base + path, self._max_bytes
        http = httpx.AsyncClient(timeout=self._answer_s, trust_env=False)
        try:
            async with asyncio.timeout(self._answer_s), http, http.stream("GET", url) as response:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > most:
                        raise NoWholeAnswer(f"{url} answers with more than {most} bytes.")
                return bytes(body)
        except (TimeoutError, httpx.TimeoutException):
            raise NoWholeAnswer(f"{url} gives no whole answer within {self._answer_s:g} s.") from None
        except httpx.ConnectError:
            raise NoWholeAnswer(f"Nobody answers at {self._base}.") from None
        except httpx.HTTPError as error:
            raise NoWholeAnswer(f"{url} gives no whole answer: {type(error).__name__}.") from None
