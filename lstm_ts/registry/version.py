"""The registry's contents as values: versions, the ledger's rows about an alias, and both as text.

Rows about one alias are ordered from the oldest on. A move with an `intended` row and no `done` row did not happen,
unless the alias names its target.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from lstm_ts.ledger.rows import AliasChange
from lstm_ts.scoring.tables import percent

PROMOTE, ROLLBACK, RELEASE, FOUND = "promote", "rollback", "release", "found"
INTENDED, DONE = "intended", "done"
MODEL = "model"  # the folder of a version's run
GATE_SHA256 = "gate_sha256"  # a tag of each version
CHAMPION, CHALLENGER = ALIASES = ("champion", "challenger")
WIDTH = 120
SKILL = re.compile(r"skill_(\w+)_1h")  # metrics of a version
CHECK_RESULTS = {True: "passed", False: "failed", None: "open"}


@dataclass(frozen=True)
class Version:
    name: str
    number: int
    created: datetime  # by MLflow, in real time whatever LSTM_TS_CLOCK says; to compare, take the decision's `at`
    source: str  # artifact URI of the model folder
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"version {self.number} of {self.name}"


def missing_row(
    rows: Sequence[AliasChange], *, name: str, alias: str, current: int | None, now: datetime
) -> AliasChange | None:
    """Return the row that the ledger lacks if the alias names another version than its last `done` row."""
    last = next((row.to_version for row in reversed(rows) if row.state == DONE), None)
    if current == last:
        return None
    if rows and rows[-1].state == INTENDED and rows[-1].to_version == current:
        return replace(rows[-1], state=DONE)
    reason = "moved outside lstm_ts (MLflow's UI?)"
    return AliasChange(now, name, alias, FOUND, last, current, actor="unknown", reason=reason, state=DONE)


def version_before(done: Sequence[AliasChange]) -> int | None:
    """Return a rollback's target: promotions push a version on a stack, a rollback pops those above its target."""
    pile: list[int] = []
    for row in done:
        if row.action == ROLLBACK:
            while pile and pile[-1] != row.to_version:
                pile.pop()
        elif row.to_version is not None and pile[-1:] != [row.to_version]:
            pile.append(row.to_version)
    if done and pile[-1:] == [done[-1].to_version]:
        pile.pop()
    return pile[-1] if pile else None


def describe(tags: Mapping[str, str], gate: Mapping[str, Any]) -> str:
    """Return Markdown: the verdict in the first line, which MLflow's lists show, then the checks."""
    against = f", judged against version {tags['judged_against']}" if tags["judged_against"] else ""
    checks = [f"- {check['name']} {CHECK_RESULTS[check['passed']]}: {check['reason']}" for check in gate["checks"]]
    return "\n".join([f"{describe_verdict(tags)}{against}", "", *checks])


def describe_verdict(tags: Mapping[str, str]) -> str:
    verdict = tags.get("verdict", "-")
    return f"{verdict} (experimental)" if tags.get("experimental") == "true" else verdict


def format_versions(versions: Sequence[Version], metrics: Sequence[Mapping[str, float]]) -> str:
    heads = ("version", "created (UTC)", "aliases", "verdict", "trained until", "pinball 1 h", "skill over the best")
    rows: list[tuple[str, ...]] = [heads]
    for version, scores in zip(versions, metrics, strict=True):
        row = (
            str(version.number),
            f"{version.created:%Y-%m-%d %H:%M}",
            ", ".join(version.aliases) or "-",
            describe_verdict(version.tags),
            version.tags.get("trained_until", "-")[:10],
            f"{scores['pinball_1h_bps']:.3f} bps" if "pinball_1h_bps" in scores else "-",
            describe_best_skill(scores),
        )
        rows.append(row)
    return _table(rows)


def page_address(uri: str, name: str) -> str:
    """Return the URL of MLflow's page of the versions, without a password; empty: the registry is no server."""
    if not uri.startswith(("http://", "https://")):
        return ""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/#/models/{name}"


def describe_pages(uri: str, name: str) -> str:
    """Describe how to open MLflow's page of the versions, without an address that may hold a password."""
    if address := page_address(uri, name):
        return f"MLflow's page of them: {address}"
    store = uri if uri.startswith("sqlite:") else '"$MLFLOW_TRACKING_URI"'
    return f"MLflow's page of them: mlflow ui --backend-store-uri {store}, then http://127.0.0.1:5000/#/models/{name}"


def describe_best_skill(metrics: Mapping[str, float]) -> str:
    """Return the skill one hour ahead over the baseline with the lowest loss, and its name."""
    skills = {found[1]: value for key, value in metrics.items() if (found := SKILL.fullmatch(key))}
    if not skills:
        return "-"
    best = min(skills, key=lambda name: skills[name])
    return f"{percent(skills[best], signed=True)} ({best})"


def format_version(
    version: Version, provenance: Mapping[str, Any], metrics: Mapping[str, float], gate: Mapping[str, Any]
) -> str:
    facts = {
        "aliases": ", ".join(version.aliases) or "-",
        "verdict": describe_verdict(version.tags),
        "judged against": f"version {version.tags['judged_against']}" if version.tags.get("judged_against") else "-",
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "files": version.source,
    }
    facts |= {key: str(value) for key, value in provenance.items() if isinstance(value, str | int)}
    facts |= {key: f"{value:.6g}" for key, value in sorted(metrics.items())}
    width = max(map(len, facts))
    lines = [f"{version.name}, version {version.number}", *(f"  {key:<{width}}  {facts[key]}" for key in facts)]
    checks = [f"{CHECK_RESULTS[check['passed']]}: {check['reason']}" for check in gate.get("checks", ())]
    for check in ["The gate:", *checks] if checks else []:
        lines += textwrap.wrap(check, WIDTH, subsequent_indent="    ", initial_indent="  " if check in checks else "")
    return "\n".join(lines)


def format_history(done: Sequence[AliasChange]) -> str:
    rows = [("when (UTC)", "alias", "from → to", "action", "who", "why")]
    for row in done:
        moved = f"{_shown(row.from_version)} → {_shown(row.to_version)}"
        rows.append((f"{row.at:%Y-%m-%d %H:%M:%S}", row.alias, moved, row.action, row.actor, row.reason))
    return _table(rows)


def format_in_force(done: Sequence[AliasChange], name: str, alias: str, at: datetime) -> str:
    """Return a sentence: which version the alias named at a moment, and why."""
    moved = next((row for row in reversed(done) if row.at <= at), None)
    when = f"At {at:%Y-%m-%d %H:%M} UTC"
    if moved is None or moved.to_version is None:
        return f"{when} {name} had no {alias}."
    return (
        f"{when} the {alias} of {name} was version {moved.to_version}, since {moved.at:%Y-%m-%d %H:%M:%S}.\n"
        f"{moved.action} by {moved.actor}: {moved.reason}"
    )


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Pad columns, and wrap the last one, so that no line is wider than WIDTH."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for *cells, last in rows:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + "  "
        parts = textwrap.wrap(last, max(20, WIDTH - len(padded))) or [""]
        lines += [(padded + parts[0]).rstrip(), *(" " * len(padded) + part for part in parts[1:])]
    return "\n".join(lines)
