"""Group incidents with one cause, so that one message reports them all. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lstm_ts.ledger.alert_rows import IncidentRow


def group_incidents(incidents: Sequence[IncidentRow], causes: Mapping[str, str]) -> list[list[IncidentRow]]:
    """Group incidents by subject and root cause; within a group the root cause comes first.

    causes   rule → the rule that causes it; no cycle
    """
    groups: dict[tuple[str, str], list[IncidentRow]] = defaultdict(list)
    for incident in incidents:
        groups[find_chain(incident.rule, causes)[-1], incident.subject].append(incident)
    return [sorted(group, key=lambda row: (len(find_chain(row.rule, causes)), row.number)) for group in groups.values()]


def find_chain(rule: str, causes: Mapping[str, str]) -> list[str]:
    """Return the rule, its cause, the cause of that, …

    Raises    ValueError: a cycle
    """
    chain = [rule]
    while (cause := causes.get(chain[-1])) is not None:
        if cause in chain:
            raise ValueError(f"Expected causes without a circle, got {' → '.join([*chain, cause])}")
        chain.append(cause)
    return chain


def is_held(ended: IncidentRow, group: Sequence[IncidentRow]) -> bool:
    """Return whether to hold the resolution back: open incidents of the group, not checked since, may be over too."""
    assert ended.ended_at is not None
    return any(row.found_at <= ended.ended_at for row in group if row.ended_at is None)
