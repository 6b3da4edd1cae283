"""Choice of a request's arm, and whether to stop the challenger. Pure: counts in, a reason to stop or none out."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from lstm_ts.errors import ConfigError
from lstm_ts.scoring.tables import percent


class Arm(StrEnum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"  # the challenger's forecast of a request that the champion answers


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """Limits of the challenger's shares of failed and slow requests over the champion's."""

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
    challenger_share: float  # share of the keys that the challenger answers
    shadow: bool  # whether the challenger also forecasts what the champion answers
    guardrails: Guardrails | None

    def __post_init__(self) -> None:
        if not 0 <= self.challenger_share <= 1:
            raise ConfigError(f"Expected traffic.challenger_share in 0..1, got {self.challenger_share}")
        if not isinstance(self.guardrails, Guardrails | None):
            raise ConfigError(
                f"Expected traffic.guardrails as null or as in traffic=canary, got {self.guardrails}; leave it out, or "
                f"set its values, such as traffic.guardrails.slow_ms"
            )

    @property
    def needs_challenger(self) -> bool:
        return self.shadow or self.challenger_share > 0


@dataclass(frozen=True)
class Tally:
    """Counts of one arm's requests; tallies of several processes add up."""

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.requests + other.requests, self.errors + other.errors, self.slow + other.slow)

    def with_request(self, *, failed: bool, took_ms: float, guardrails: Guardrails) -> "Tally":
        return self + Tally(1, int(failed), int(took_ms > guardrails.slow_ms))

    def halved(self) -> "Tally":
        return Tally(self.requests // 2, self.errors // 2, self.slow // 2)


def choose_arm(key: str, traffic: Traffic) -> Arm:
    """Return the arm of a client's or request's key, the same in every process; a larger share moves no key back."""
    return Arm.CHALLENGER if _position(key) < traffic.challenger_share else Arm.CHAMPION


def _position(key: str) -> float:
    """Return the key's hash as a number in [0, 1), from its first 53 bits: a float holds them without rounding."""
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:7]) >> 3) / 2**53


def decide_stop(champion: Tally, challenger: Tally, guardrails: Guardrails) -> str | None:
    """Return why the challenger is to be stopped, by both tallies over the same time: what slows both stops neither.

    None    it is not, or has had too few requests to tell
    """
    seen = challenger.requests
    if seen < guardrails.min_requests:
        return None
    slow = f"took longer than {guardrails.slow_ms:g} ms"
    for what, own, others, allowed in (
        ("failed", challenger.errors, champion.errors, guardrails.max_more_errors),
        (slow, challenger.slow, champion.slow, guardrails.max_more_slow),
    ):
        share, usual = own / seen, others / max(champion.requests, 1)
        if share - usual > allowed:
            return (
                f"{own} of the challenger's {seen} requests {what} ({percent(share)}), against {percent(usual)} of the "
                f"champion's {champion.requests}: more than {percent(allowed)} more"
            )
    return None
