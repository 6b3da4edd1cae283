"""`Finding`: the result of one check, as alerts, dashboard and log use it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

PYTHON = "python -m lstm_ts."


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
    command: str = ""  # that shows more, before `complete` without the folders; empty: the monitor's status


def complete(findings: Sequence[Finding], chosen: str, paths: str) -> list[Finding]:
    """Return the findings with commands that work as typed.

    chosen   overrides of the symbol and its model, as `name_model` returns them
    paths    overrides of the folders, as `typed_paths` returns them
    """

    def type_out(command: str) -> str:
        whole = command or f"{PYTHON}monitor action=status {chosen}"
        return whole + paths if whole.startswith(PYTHON) else whole

    return [replace(each, command=type_out(each.command)) for each in findings]
