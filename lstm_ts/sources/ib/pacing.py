"""Rate limits of IB on requests for history.

https://interactivebrokers.github.io/tws-api/historical_limitations.html: no identical request within 15 seconds, fewer
than 6 for one contract within 2 seconds, at most 60 within 10 minutes.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from lstm_ts.errors import ConfigError
from lstm_ts.sources.retries import Retries


class Pacing:
    """Pacing of requests for one contract. Times are seconds of any monotonic clock; `scale` 0 disables all waits."""

    def __init__(
        self,
        *,
        identical_s: float,
        burst_s: float,
        burst_requests: int,
        window_s: float,
        window_requests: int,
        scale: float,
    ) -> None:
        if min(burst_requests, window_requests) < 1 or min(identical_s, burst_s, window_s, scale) < 0:
            raise ConfigError("Expected source.pacing of at least one request, and of seconds that are not negative")
        self.identical_s, self.window_s = identical_s * scale, window_s * scale
        self.rules = ((burst_s * scale, burst_requests), (window_s * scale, window_requests))
        self._sent: deque[tuple[float, Hashable]] = deque()

    def delay(self, request: Hashable, now: float) -> float:
        """Return the seconds to wait before the request may be sent."""
        times = [at for at, _ in self._sent]
        free = [at + self.identical_s for at, other in self._sent if other == request]
        free += [times[-count] + seconds for seconds, count in self.rules if len(times) >= count]
        return max(0.0, *(at - now for at in free), 0.0)

    def recall(self, times: Iterable[float]) -> None:
        """Record the times of requests by other processes, ascending; the requests themselves are unknown."""
        for at in times:
            self.note(None, at)

    def note(self, request: Hashable, now: float) -> None:
        """Record a request that is sent now."""
        self._sent.append((now, request))
        kept = max(self.identical_s, *(seconds for seconds, _ in self.rules))
        while self._sent[0][0] < now - kept:
            self._sent.popleft()


@dataclass(frozen=True)
class TwsRetries(Retries):
    """Number of attempts of a request to TWS, and the waits before retries and before reconnecting."""

    closed_s: float  # the shortest wait before connecting again while the market is closed

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.closed_s < 0:
            raise ConfigError(f"Expected source.retries.closed_s of at least 0, got {self.closed_s}")
