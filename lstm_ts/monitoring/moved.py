"""Findings about an alias that was removed or now names another version: whether their incidents are over."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import ALIASES, CHAMPION


def resolve_moves(
    ledger: Ledger,
    registry: Registry,
    name: str,
    findings: Sequence[Finding],
    *,
    session: Session,
    over_hours: float,
    now: datetime,
) -> list[Finding]:
    """Return the findings for the alerts, adjusted where an incident began with an alias's previous version.

    Such an incident is over if nothing is known of the new version yet. Drift is a property of the market, which a new
    champion does not change: its incident stays until no alarm has been active for `over_hours` session hours.
    """
    alias_of = _list_subjects(name)
    with ledger.transaction() as connection:
        incidents = {(row.rule, row.subject): row for row in read_active(connection)}

    def take(finding: Finding) -> Health:
        incident, alias = incidents.get((finding.rule, finding.subject)), alias_of.get(finding.subject)
        if not incident or not alias or incident.began_at >= registry.history(name, alias)[-1].at:
            return finding.health
        if (finding.rule, alias) == ("concept_drift", CHAMPION):
            is_quiet = incident.good or session.time_open(incident.found_at, now) >= over_hours * HOUR
            return finding.health if is_quiet or finding.health is Health.BAD else Health.UNKNOWN
        return Health.GOOD if finding.health is Health.UNKNOWN else finding.health

    return [replace(each, health=take(each)) for each in findings]


def find_gone(ledger: Ledger, registry: Registry, name: str, findings: Sequence[Finding]) -> list[Finding]:
    """Return a good finding for each recorded finding or active incident about an alias that no version holds."""
    alias_of = _list_subjects(name)
    with ledger.transaction() as connection:
        known = {(row.rule, row.subject) for row in tables.read_findings(connection)}
        known |= {(row.rule, row.subject) for row in read_active(connection)}
    left = sorted(known - {(each.rule, each.subject) for each in findings})
    own = [(rule, subject, alias_of[subject]) for rule, subject in left if subject in alias_of]
    return [
        Finding(rule, subject, Health.GOOD, f"{name} has no {alias} any more.")
        for rule, subject, alias in own
        if not registry.holder(name, alias)
    ]


def _list_subjects(name: str) -> dict[str, str]:
    return {f"{name} {alias}": alias for alias in ALIASES}
