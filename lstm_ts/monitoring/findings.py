"""`Finding`: the result of one check, as alerts, dashboard and log use it."""

from dataclasses import dataclass
from enum import StrEnum

STATUS = "python -m lstm_ts.monitor action=status name={name}"


class Health(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # nothing to judge by; never counts as good


@dataclass(frozen=True)
class Finding:
    rule: str  # a key of conf/alerts, such as concept_drift
    subject: str  # a symbol, a registered model and its alias, or a service's address
    health: Health
    sentence: str  # what a person needs to know first, with its numbers
    command: str  # command that shows more
