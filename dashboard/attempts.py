"""Wrong passwords by address: each doubles the pause before that address may try again; others are not affected."""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Lock

PAUSE_S, LONGEST_S = 1.0, 60.0
FORGET_S = 900.0  # after the last failure
ADDRESSES = 10_000  # remembered; beyond that the one that failed longest ago is forgotten


@dataclass(frozen=True)
class Failures:
    count: int
    at: float

    @property
    def pause_s(self) -> float:
        return float(min(PAUSE_S * 2.0 ** min(self.count - 1, 16), LONGEST_S))


class Attempts:
    """Failed attempts by address; `now` is in seconds, of a monotonic clock."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, Failures] = OrderedDict()
        self._lock = Lock()

    def pause_s(self, address: str, *, now: float) -> float:
        """Return the remaining pause in seconds; 0 if the address may try."""
        with self._lock:
            failures = self._failed.get(source_of(address))
        return max(failures.at + failures.pause_s - now, 0.0) if failures else 0.0

    def fail(self, address: str, *, now: float) -> float:
        """Count a failed attempt; return the pause that follows it, in seconds."""
        source = source_of(address)
        with self._lock:
            before = self._failed.pop(source, None)
            count = before.count if before and now - before.at < FORGET_S else 0
            self._failed[source] = failures = Failures(count + 1, now)
            if len(self._failed) > ADDRESSES:
                self._failed.popitem(last=False)
        return failures.pause_s

    def succeed(self, address: str) -> None:
        with self._lock:
            self._failed.pop(source_of(address), None)


def source_of(address: str) -> str:
    """Return the address to count by: for IPv6 its /64 network, in which a single host may use any address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
