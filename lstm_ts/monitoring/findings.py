"""What one check of the monitor found, in the form that alerts, the dashboard and the log take."""

from dataclasses import dataclass
from enum import StrEnum

STATUS = "python -m lstm_ts.monitor action=status name={name}"


class Health(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # nothing to judge by, which is never good


@dataclass(frozen=True)
class Finding:
    rule: str  # a key of conf/alerts, such as concept_drift
    subject: str  # what it was found of: a symbol, a registered model and its alias, a service's address
    health: Health
    sentence: str  # what a person needs to know first, with its numbers
    command: str  # shows more
