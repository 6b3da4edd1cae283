"""Which arm answers a request, and when the challenger's is stopped. Pure: counts in, a decision and its reason out."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from lstm_ts.errors import ConfigError
from lstm_ts.scoring.tables import percent


class Arm(StrEnum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"  # the challenger's forecast of a request that the champion answers


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """How much worse than the champion's, as a share of its own requests, the challenger's may be."""

    min_requests: int
    max_more_errors: float
    max_more_slow: float
    slow_ms: float

    def __post_init__(self) -> None:
        if not isinstance(self.min_requests, int) or self.min_requests < 1:
            raise ConfigError(f"Expected traffic.guardrails.min_requests >= 1, got {self.min_requests}")
        for name in ("max_more_errors", "max_more_slow"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"Expected traffic.guardrails.{name} from 0 to below 1, got {getattr(self, name)}")
        if not self.slow_ms > 0:
            raise ConfigError(f"Expected traffic.guardrails.slow_ms > 0, got {self.slow_ms}")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    challenger_share: float  # of the keys, answered by the challenger
    shadow: bool  # whether the challenger also forecasts what the champion answers
    guardrails: Guardrails | None

    def __post_init__(self) -> None:
        if not 0 <= self.challenger_share <= 1:
            raise ConfigError(f"Expected traffic.challenger_share in 0..1, got {self.challenger_share}")

    @property
    def needs_challenger(self) -> bool:
        return self.shadow or self.challenger_share > 0

    def stopped(self) -> "Traffic":
        """The champion answers everything, and nobody else is asked."""
        return replace(self, challenger_share=0.0, shadow=False)


@dataclass(frozen=True)
class Tally:
    """What one version did in one arm; tallies of several processes add up."""

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.requests + other.requests, self.errors + other.errors, self.slow + other.slow)

    def with_request(self, *, failed: bool, took_ms: float, guardrails: Guardrails) -> "Tally":
        return self + Tally(1, int(failed), int(took_ms > guardrails.slow_ms))

    def halved(self) -> "Tally":
        return Tally(self.requests // 2, self.errors // 2, self.slow // 2)


@dataclass(frozen=True)
class StopDecision:
    stop: bool
    reason: str


def choose_arm(key: str, traffic: Traffic) -> Arm:
    """The same in every process, for a key of the client's or the request's. A larger share moves no key back."""
    return Arm.CHALLENGER if _position(key) < traffic.challenger_share else Arm.CHAMPION


def _position(key: str) -> float:
    """Position of the key's hash in [0, 1), by its first 53 bits, which a float holds without rounding up to 1."""
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:7]) >> 3) / 2**53


def decide_stop(champion: Tally, challenger: Tally, guardrails: Guardrails) -> StopDecision:
    """Both tallies over the same time, so that what slows both arms down stops neither."""
    seen = challenger.requests
    if seen < guardrails.min_requests:
        return StopDecision(False, f"{seen} requests of the challenger, at least {guardrails.min_requests} asked for")
    slow = f"took longer than {guardrails.slow_ms:g} ms"
    for what, own, others, allowed in (
        ("failed", challenger.errors, champion.errors, guardrails.max_more_errors),
        (slow, challenger.slow, champion.slow, guardrails.max_more_slow),
    ):
        share, usual = own / seen, others / max(champion.requests, 1)
        if share - usual > allowed:
            return StopDecision(
                True,
                f"{own} of the challenger's {seen} requests {what} ({percent(share)}), against {percent(usual)} of the "
                f"champion's {champion.requests}: more than {percent(allowed)} more",
            )
    return StopDecision(False, f"errors and latency of the challenger's {seen} requests within the guardrails")
