"""What was found of an alias that nobody holds any more, or that another version holds by now: it is over."""

from collections.abc import Sequence
from dataclasses import replace

from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.findings import STATUS, Finding, Health
from lstm_ts.registry.registry import ALIASES, Registry


def settle(ledger: Ledger, registry: Registry, name: str, findings: Sequence[Finding]) -> list[Finding]:
    """The findings as alerts take them: good where an incident is of the version before, and nothing is known of this
    one yet.
    """
    alias_of = _list_subjects(name)
    with ledger.transaction() as connection:
        began_at = {(row.rule, row.subject): row.began_at for row in read_active(connection)}

    def is_over(finding: Finding) -> bool:
        began = began_at.get((finding.rule, finding.subject))
        if began is None or finding.health is not Health.UNKNOWN or finding.subject not in alias_of:
            return False
        return began < registry.history(name, alias_of[finding.subject])[-1].at

    return [replace(each, health=Health.GOOD) if is_over(each) else each for each in findings]


def find_gone(ledger: Ledger, registry: Registry, name: str, findings: Sequence[Finding]) -> list[Finding]:
    """A good finding of whatever was found of an alias that no version has now."""
    alias_of = _list_subjects(name)
    with ledger.transaction() as connection:
        known = {(row.rule, row.subject) for row in tables.read_findings(connection)}
        known |= {(row.rule, row.subject) for row in read_active(connection)}
    left = sorted(known - {(each.rule, each.subject) for each in findings})
    own = [(rule, subject, alias_of[subject]) for rule, subject in left if subject in alias_of]
    return [_end(rule, subject, name, alias) for rule, subject, alias in own if not registry.holder(name, alias)]


def _list_subjects(name: str) -> dict[str, str]:
    return {f"{name} {alias}": alias for alias in ALIASES}


def _end(rule: str, subject: str, name: str, alias: str) -> Finding:
    return Finding(rule, subject, Health.GOOD, f"{name} has no {alias} any more.", STATUS.format(name=name))
