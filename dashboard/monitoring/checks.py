"""Table of the monitor's findings. Neither an unknown nor an outdated finding is shown as good."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from dashboard.monitoring.watched import Watched
from dashboard.ui.blocks import prose, table
from dashboard.ui.text import short
from lstm_ts.ledger.monitor_rows import FindingRow
from lstm_ts.monitoring.feed import FEED
from lstm_ts.monitoring.findings import Health
from lstm_ts.registry.version import ALIASES

MARKS = {Health.GOOD: "✓", Health.BAD: "✗", Health.UNKNOWN: "?"}
REGIME = "regime"  # alone it is no drift
# Causes of drift, which are listed even before their first finding.
CAUSES = {
    "data_stale": "Feed: bars come in time",
    "data_quality": "Feed: bars look like a market's",
    REGIME: "Regime: the market is like the training hours",
    "concept_drift": "Concept: the model errs no more than at its gate",
}
OTHERS = {
    "performance_drop": "Live skill: no baseline is proven to be better",
    "skew": "What is served is what the store gives",
}
NOT_YET = {
    "data_stale": "No data yet: each run of the monitor looks whether bars have come as the calendar says.",
    "data_quality": "No data yet: each run of the monitor looks for missing hours, prices that stand still "
    "or jump, and clocks that are wrong.",
    REGIME: "No data yet: volatility, price and inputs are compared with those of training once enough "
    "hours are stored.",
    "concept_drift": "No data yet: evidence adds up with each hour whose outcome is known.",
}


@dataclass(frozen=True)
class ShownFinding:
    """A finding as it is shown."""

    title: str
    subject: str
    health: Health
    sentence: str
    since: datetime | None  # None: nothing was found yet
    command: str


def find_checks(watched: Watched, symbol: str, command: str, *, is_late: bool) -> list[ShownFinding]:
    """Return the findings to show: the causes of drift first, even those without a finding.

    command   that runs the monitor
    is_late   the monitor has not run for longer than it should
    """
    held = [f"{watched.name} {alias}" for alias in ALIASES if watched.version_of(alias)]
    subjects = [watched.name, *held]
    mine = [row for row in watched.findings if row.subject in ([symbol] if row.rule in FEED else subjects)]
    mine.sort(key=lambda row: [symbol, *subjects].index(row.subject))
    checks = []
    for rule, title in (CAUSES | OTHERS).items():
        found = [make_check(title, row, watched.last_run, is_late=is_late) for row in mine if row.rule == rule]
        if not found and rule in CAUSES:
            found = [ShownFinding(title, "", Health.UNKNOWN, NOT_YET[rule], None, command)]
        checks += found
    return checks


def make_check(title: str, row: FindingRow, last_run: datetime | None, *, is_late: bool) -> ShownFinding:
    """Return the finding as it is shown: a good one that the last run did not renew is unknown."""
    health, sentence = Health(row.health), row.sentence
    is_old = is_late or (last_run is not None and row.at < last_run)
    if is_old and health is Health.GOOD:
        health, sentence = Health.UNKNOWN, f"Not looked at since {row.at:%Y-%m-%d %H:%M} UTC. Then: {sentence}"
    return ShownFinding(title, row.subject, health, sentence, row.since, row.command)


def badge(health: Health, *, noted: bool = False) -> str:
    """Return the mark as HTML; `noted`: a bad finding is a change, not a fault."""
    if noted and health is Health.BAD:
        return '<span class="unknown">≠ changed</span>'
    return f'<span class="{health}">{MARKS[health]} {health}</span>'


def of_words(check: ShownFinding) -> str:
    """Name the alias of a check that has one; HTML."""
    alias = check.subject.partition(" ")[2]
    return f" ({escape(alias)})" if alias else ""


def name_cell(check: ShownFinding) -> str:
    mark = badge(check.health, noted=check.title == CAUSES[REGIME])
    return f'<div class="name">{mark}<br><small>{escape(check.title)}{of_words(check)}</small></div>'


def checks_table(caption: str, checks: Sequence[ShownFinding], zone: ZoneInfo) -> str:
    rows = [
        (
            name_cell(check),
            prose(check.sentence, check.command),
            short(check.since, zone) if check.since else "-",
        )
        for check in checks
    ]
    return table(caption, ("Check", "What was found", f"Since, {escape(zone.key)}"), rows, text=(1, 2))
