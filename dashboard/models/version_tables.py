"""Versions, the decisions about them, and the comparison of two of them, as tables and sentences.

Reads no store and calls no service.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from dashboard.ui.blocks import prose, table
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.version import PROMOTE, ROLLBACK, Version, describe_best_skill, describe_verdict
from lstm_ts.scoring.comparison import Comparison, StepComparison
from lstm_ts.scoring.records import SHOWN_STEPS
from lstm_ts.scoring.scores import CLAIM_P, p_text, read_best
from lstm_ts.scoring.tables import number

NONE = "-"
PASSED = {True: "✓ passed", False: "✗ failed", None: "? undecided"}
ACTIONS = {PROMOTE: "▲ promote", ROLLBACK: "▼ roll back"}
FOUND = "◆ moved outside"


def stamp(ts: datetime, zone: ZoneInfo) -> str:
    return f"{ts.astimezone(zone):%d %b %Y %H:%M}"


def day(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%d %b %Y}" if iso else NONE


def verdict(version: Version) -> str:
    return describe_verdict(version.tags).replace("_", " ")


def label(version: Version) -> str:
    """Return the entry of a version in a selection list."""
    return f"{version.number} ({', '.join(version.aliases) or verdict(version)})"


def versions_table(name: str, versions: Sequence[tuple[Version, Mapping[str, float]]], zone: ZoneInfo) -> str:
    """Return a table of the versions, each with the scores that were recorded at its registration."""
    rows = [
        (
            f"{version.number}",
            escape(", ".join(version.aliases)) or NONE,
            escape(verdict(version)),
            stamp(version.created, zone),
            day(version.tags.get("trained_until", "")),
            _number(metrics.get("pinball_1h_bps"), "{:.3f}"),
            escape(describe_best_skill(metrics)),
        )
        for version, metrics in versions
    ]
    heads = ("Version", "Alias", "Gate", f"Registered, {escape(zone.key)}", "Trained until", "Pinball 1 h, bps",
             "Skill over the best baseline 1 h")  # fmt: skip
    return table(f"Versions of {name}, the newest first", heads, rows, text=(1, 2))


def _number(value: float | None, form: str) -> str:
    return number(math.nan if value is None else value, form)


def _percent(share: float | None, form: str = "{:.1f} %") -> str:
    return _number(None if share is None else 100 * share, form)


def facts(version: Version, forecaster: Forecaster, gate: Mapping[str, Any], zone: ZoneInfo) -> str:
    provenance, tags = forecaster.provenance, version.tags
    against = f"against version {tags['judged_against']}" if tags.get("judged_against") else "without a champion"
    span = ""
    if "span_start" in gate:
        span = f" on held-out hours from {day(gate['span_start'])} to {day(gate['span_end'])}"
    experimental = ""
    if tags.get("experimental") == "true":
        experimental = " It is experimental: skill over every baseline of the gate was not shown."
    until, seen_until = day(provenance.trained_until), day(provenance.data_end)
    stopped = f", stopped on hours until {seen_until}" if seen_until != until else ""
    return (
        f"<p>Version {version.number}, registered {stamp(version.created, zone)} ({escape(zone.key)}). The gate said "
        f"<strong>{escape(verdict(version))}</strong>, judged {against}{span}.{experimental}</p>"
        f'<p class="quiet">Trained on {escape(provenance.source)} until {until}{stopped}; '
        f"seed {provenance.seed}, code {escape(provenance.code_revision[:7])}.</p>"
    )


def checks_table(version: Version, gate: Mapping[str, Any]) -> str:
    """Return a table of the gate's checks: failed ones first, then those that the data cannot decide."""
    order = (False, None, True)
    checks = sorted(gate.get("checks", ()), key=lambda check: order.index(check["passed"]))
    rows = [(f"{PASSED[c['passed']]}<br><small>{escape(c['name'])}</small>", prose(c["reason"])) for c in checks]
    if not rows:
        return '<p class="quiet">No check of the gate is written down for this version.</p>'
    return table(f"What the gate checked of version {version.number}", ("Check", "Why"), rows, text=(1,))


def scores_table(version: Version, scores: Mapping[str, Any]) -> str:
    """Return a table of the scores that are stored with the version, on the hours that it was judged on."""
    horizons = scores.get("horizons", {})
    steps = [str(step) for step in SHOWN_STEPS if str(step) in horizons]
    if not steps:
        return '<p class="quiet">No scores are written down for this version.</p>'
    baselines = list(horizons[steps[0]]["baselines"])
    rows = [
        (
            f"{step} h",
            _number(scored["pinball_bps"], "{:.3f}"),
            *(_number(scored["baselines"][name]["pinball_bps"], "{:.3f}") for name in baselines),
            _best_words(scored),
            _percent(scored["coverage"].get("0.8")),
            f"{scored['n']:,}",
        )
        for step, scored in ((step, horizons[step]) for step in steps)
    ]
    heads = ("Ahead", "Model", *(escape(name.capitalize()) for name in baselines), "Over the best",
             "80 % interval covers", "Hours")  # fmt: skip
    return table(f"Mean pinball loss of version {version.number} in bps, lower is better", heads, rows)


def _best_words(scored: Mapping[str, Any]) -> str:
    best = read_best(scored)
    return f"{_percent(scored['skill'][best], '{:+z.1f} %')} {p_words(scored['dm_p'][best])}"


def p_words(p: float | None) -> str:
    return "(not tested)" if p is None or math.isnan(p) else f"({escape(p_text(p))})"


def history_table(changes: Sequence[AliasChange], zone: ZoneInfo) -> str:
    rows = [
        (
            stamp(change.at, zone),
            escape(change.alias),
            ACTIONS.get(change.action, FOUND),
            f"{change.from_version or NONE} → {change.to_version or NONE}",
            escape(change.actor),
            prose(change.reason),
        )
        for change in changes
    ]
    heads = (f"At, {escape(zone.key)}", "Alias", "What", "Version", "Who", "Why")
    return table("Every move of an alias, the newest first", heads, rows, text=(1, 2, 3, 4, 5))


def comparison_table(found: Comparison, first: int, second: int) -> str:
    rows = [
        (
            f"{step.step} h",
            *(f"{bps:.3f}" for bps in (*step.pinball_bps, step.persistence_bps)),
            f"{step.difference_bps:+z.3f}",
            difference_words(step, first, second),
            *(_percent(share) for share in step.coverage_80),
            f"{step.n:,}",
        )
        for step in found.steps
    ]
    heads = ("Ahead", f"Version {first}", f"Version {second}", "Persistence", "Difference", "What it shows",
             f"80 % covers, {first}", f"80 % covers, {second}", "Hours")  # fmt: skip
    return table("Mean pinball loss in bps, lower is better", heads, rows, text=(5,))


def difference_words(step: StepComparison, first: int, second: int) -> str:
    if math.isnan(step.p):
        same = step.n > step.step and step.difference_bps == 0
        return "the same forecasts" if same else "too few hours to tell"
    if step.p >= CLAIM_P:
        return f"no proven difference {p_words(step.p)}"
    return f"version {first if step.difference_bps < 0 else second} is better {p_words(step.p)}"


def comparison_words(found: Comparison, zone: ZoneInfo) -> str:
    begin, end = (
        stamp(datetime.fromisoformat(f"{np.datetime_as_string(ts, unit='s')}+00:00"), zone)
        for ts in (found.first_origin, found.last_origin)
    )
    return (
        f"<p>Both forecast the same {found.n:,} hours, from {begin} to {end} ({escape(zone.key)}). Each step is tested "
        "by itself (Diebold-Mariano): where nothing differs, one test in twenty says that something does.</p>"
    )


def overlap_words(version: int, forecaster: Forecaster, first_origin: np.datetime64) -> str:
    """Return why the span is not fair for this version; empty if it is fair."""
    seen_until = forecaster.provenance.data_end
    if not seen_until or first_origin >= np.datetime64(datetime.fromisoformat(seen_until).replace(tzinfo=None)):
        return ""
    return (
        f"Version {version} was trained and chosen on bars until {day(seen_until)}, and this span begins before: it "
        "has seen some of these hours, so this is no honest comparison. Choose a shorter span, or wait for later bars."
    )
