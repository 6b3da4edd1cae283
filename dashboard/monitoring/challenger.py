"""The challenger beside the champion: its version, its verdict, and its evidence so far."""

from html import escape
from zoneinfo import ZoneInfo

from dashboard.monitoring.checks import badge
from dashboard.monitoring.watched import Watched
from dashboard.ui.blocks import table
from dashboard.ui.text import short
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.monitoring.challenge import Challenge
from lstm_ts.monitoring.findings import Health
from lstm_ts.monitoring.verdict import ChallengeVerdict, Evidence, VerdictSettings
from lstm_ts.registry.version import CHALLENGER, CHAMPION

HEALTH = dict.fromkeys(ChallengeVerdict, Health.UNKNOWN) | {
    ChallengeVerdict.HARM: Health.BAD,
    ChallengeVerdict.BETTER: Health.GOOD,
    ChallengeVerdict.NO_WORSE: Health.GOOD,
}
NONE = (
    "<p>No version is challenger of {name}. On the Models page, or by <code>python -m lstm_ts.registry action=promote "
    "name={name} version=N alias=challenger reason=…{paths}</code>, one is set beside the champion: from then on both "
    "are compared at every session hour, until the challenger is found to be worse, no worse or better.</p>"
)
NO_VERDICT = (
    '<p class="quiet">No data yet: evidence adds up with each hour that both have forecast and whose outcome '
    "is known, from the next run of the monitor on.</p>"
)


def challenger_view(watched: Watched, settings: VerdictSettings, zone: ZoneInfo, *, is_late: bool, paths: str) -> str:
    """Return HTML; `paths` are the overrides of the folders in a command."""
    version, change = watched.version_of(CHALLENGER), watched.holders.get(CHALLENGER)
    if version is None or change is None:
        return last_one(change, zone) + NONE.format(name=escape(watched.name), paths=escape(paths))
    champion = watched.version_of(CHAMPION)
    lead = f"<p>Version {version} is challenger of version {champion or '-'} since {moved_words(change, zone)}</p>"
    if watched.challenge is None:
        return lead + NO_VERDICT
    challenge = Challenge.from_json(watched.challenge)
    old = "Not looked at since the monitor's last run. " * is_late
    said = f"<p>{badge(HEALTH[challenge.verdict])} {escape(old + challenge.sentence)}</p>"
    return lead + said + (evidence_table(challenge.evidence, settings) if challenge.evidence else NO_VERDICT)


def last_one(change: AliasChange | None, zone: ZoneInfo) -> str:
    if change is None:
        return ""
    return f"<p>Version {change.from_version} stopped being challenger {moved_words(change, zone)}</p>"


def moved_words(change: AliasChange, zone: ZoneInfo) -> str:
    at = f"{short(change.at, zone)} ({zone.key}), by {change.actor}: {change.reason}"
    return escape(at)


def evidence_table(evidence: Evidence, settings: VerdictSettings) -> str:
    margin = f"{100 * settings.margin:g} %"
    questions = (
        (f"worse by more than {margin}", evidence.harm, evidence.needed),
        ("better", evidence.better, evidence.needed),
        ("better, by live hours alone", evidence.better_live, evidence.needed_live),
        (f"no worse by {margin}", evidence.no_worse, evidence.needed),
        (f"no worse by {margin}, by live hours alone", evidence.no_worse_live, evidence.needed_live),
    )
    rows = [
        (f"It is {question}", f"10^{value:.1f}", f"10^{needed:.1f}", bar(value / needed))
        for question, value, needed in questions
    ]
    heads = ("What would be shown", "Evidence", "Decides at", "How far")
    return table("Evidence for each verdict; 10^0 says nothing, below it speaks against", heads, rows)


def bar(share: float) -> str:
    done = round(100 * min(max(share, 0.0), 1.0))
    return f'<div class="bar" aria-hidden="true"><div style="width: {done}%"></div></div>{done} %'
