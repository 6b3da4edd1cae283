"""The gate's decision: a verdict, and checks with their reasons. Pure."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    PROMOTE = "promote"
    REJECT = "reject"
    INSUFFICIENT = "insufficient_evidence"


@dataclass(frozen=True)
class GateCheck:
    name: str
    passed: bool | None  # None: undecidable from the data
    reason: str


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    experimental: bool  # promoted without skill over each of the gate's baselines: a first model, or one after a drift
    checks: tuple[GateCheck, ...]
    better: bool | None = None  # than the champion, by what counts; None without one. Promoted anyway if fresher

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons of failed checks first, then of open ones, then of passed ones."""
        return tuple(check.reason for passed in (False, None, True) for check in self.checks if check.passed is passed)

    def to_json(self) -> dict[str, Any]:
        checks = [asdict(check) for check in self.checks]
        verdict = {"verdict": self.verdict.value, "experimental": self.experimental, "better": self.better}
        return {**verdict, "checks": checks}
