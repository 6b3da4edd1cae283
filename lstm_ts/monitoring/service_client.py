"""A forecast service over HTTP, queried for its health and its counters: within limits, a few times."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lstm_ts.monitoring.service_counters import ServiceCounters
from lstm_ts.sources.bounded_http import BoundedHttp
from lstm_ts.sources.retries import RetryableError


class ServiceClient:
    """`health` and `counters` return the service's answer, or a sentence about why there is none."""

    def __init__(self, base: str, *, answer_s: float, attempts: int, pause_s: float, max_bytes: int) -> None:
        """answer_s   for a whole answer;  pause_s   between two attempts"""
        self._base, self._attempts, self._pause_s = base, attempts, pause_s
        self._http = BoundedHttp(answer_s=answer_s, max_bytes=max_bytes, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def health(self) -> Mapping[str, Any] | str:
        try:
            value = json.loads(self._get("/health"))
        except RetryableError as error:
            return _sentence(error)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("workers"), list):
            return f"What answers at {self._base} is no forecast service."
        return value

    def counters(self) -> ServiceCounters | str:
        try:
            text = self._get("/metrics").decode(errors="replace")
            counters = ServiceCounters.parse(text)
        except RetryableError as error:
            return _sentence(error)
        except ValueError:
            counters = ServiceCounters(())
        if any(counters.named("lstm_ts_workers")):
            return counters
        return f"What {self._base}/metrics answers is no count of a forecast service."

    def _get(self, path: str) -> bytes:
        """Raises    RetryableError: as often as `attempts` allows"""
        for _ in range(self._attempts - 1):
            with suppress(RetryableError):
                return self._http.fetch(self._base + path)[1]
            time.sleep(self._pause_s)
        return self._http.fetch(self._base + path)[1]


def _sentence(error: RetryableError) -> str:
    why = str(error)
    return f"{why[0].upper()}{why[1:]}."
