"""Scores for a reader: the table for stdout with its verdicts in words, and one self-contained HTML report."""

import base64
import html
import io
import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.prices import significant
from lstm_ts.scoring.cards import CARDS, html_table, wide
from lstm_ts.scoring.pictures import draw_pictures
from lstm_ts.scoring.records import PERSISTENCE, ForecastRecord
from lstm_ts.scoring.scores import (
    CLAIM_P,
    Groups,
    GroupScores,
    Scores,
    StepScores,
    describe_skill,
    step_name,
)
from lstm_ts.scoring.tables import align, number, p_cell, percent

DPI = 110
MOST_COLUMNS = 120  # of a terminal
DROPPED = (4, 5, 6)  # columns of the score table that a narrow terminal does without: both MAE, then the direction
GROUP_CELLS = 6  # of a step in a table of groups

STYLE = Path(__file__).with_suffix(".css").read_text() + CARDS
WORDS = {
    "origin": "the close of an hour, from which the hours after it are forecast",
    "pinball": "the loss of a quantile forecast: the distance to the outcome, weighted by the quantile's level; here "
    "its mean over all levels. Lower is better",
    "bps": "basis points, hundredths of a percent, of the logarithm of the return",
    "skill": "the share by which the model's pinball lies below a baseline's: +1 % is a loss 1 % lower",
    "DM p": "the p-value of the Diebold-Mariano test: how often a difference as large would come by chance alone, were "
    "there none",
    "MAE": "the mean distance between the median and the outcome",
    "direction": "how often the median and the outcome lie on the same side of the last close",
    "in 80 % interval": "how often the outcome lay between the 10 % and the 90 % quantile; 80 % is right",
    "persistence": "the forecast that the price stays",
    "climatology": "the usual spread by step",
    "volatility": "that spread, scaled by how much the price moves lately and at that hour",
    "har": "volatility, from half-lives of 1, 4, 12 and 48 hours",
    "har_rolling": "har that keeps learning how much the price moves at each hour, and knows announcements",
    "lightgbm": "gradient-boosted quantile regression on the same windows",
    "garch": "GARCH(1,1) with Student t innovations, of returns over their usual size",
    "champion": "the registered model that a retraining's candidate is judged against",
    "from_previous": "the network whose training in each fold starts from the weights of the fold before",
    "from_scratch": "the network whose training in each fold starts from new weights",
}


def format_table(scores: Scores) -> str:
    """Return the score table and its verdicts as plain text, as wide as the terminal, at most MOST_COLUMNS."""
    width = min(shutil.get_terminal_size((MOST_COLUMNS, 24)).columns, MOST_COLUMNS)
    first, last = scores.span
    lead = f"{scores.symbol}, {scores.n:,} origins, {first} to {last}; skill and DM p: the model over each baseline"
    lines = textwrap.wrap(lead, width)
    known = {step: scores.horizons[step].n for step in scores.shown_steps}
    if set(known.values()) != {scores.n}:
        counts = ", ".join(f"{count:,} at {step} h" for step, count in known.items())
        note = f"A step is scored at the origins whose close that far ahead is known: {counts}."
        lines += textwrap.wrap(note, width)
    for step in scores.shown_steps:
        verdict = textwrap.wrap(describe_skill(step, scores.horizons[step]), width)
        lines += ["", *_fit(_score_rows(step, scores), width), *verdict]
    if len(align(_score_rows(scores.shown_steps[0], scores))[0]) > width:
        lines += ["", "A wider terminal shows MAE and direction, too."]
    return "\n".join(lines)


def _fit(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Return the lines of a score table, without those of DROPPED that have no room."""
    lines = align(rows)
    for count in range(1, len(DROPPED) + 1):
        if len(lines[0]) > width:
            kept = [[cell for at, cell in enumerate(row) if at not in DROPPED[:count]] for row in rows]
            lines = align([tuple(row) for row in kept])
    return lines


def _score_rows(step: str, scores: Scores) -> list[tuple[str, ...]]:
    """The headings, then a row of cells per forecaster, the model first."""
    horizon, mae = scores.horizons[step], f"MAE {scores.currency or 'price'}"
    headings = ("pinball bps", "skill", "DM p", "MAE bps", mae, "direction (95 % CI)", "in 80 % interval")
    rows = [(step_name(int(step)), *headings), _score_row(scores.model, horizon, "", "")]
    for name, theirs in horizon.baselines.items():
        rows.append(_score_row(name, theirs, _skill_cell(horizon.skill[name]), p_cell(horizon.dm_p[name])))
    return rows


def _score_row(name: str, scores: StepScores, skill: str, p: str) -> tuple[str, ...]:
    low, high = scores.directional_accuracy_ci
    direction = f"{100 * scores.directional_accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return (
        name,
        number(scores.pinball_bps, "{:.3f}"),
        skill,
        p,
        number(scores.mae_bps, "{:.2f}"),
        significant(scores.mae_price),
        "-" if math.isnan(scores.directional_accuracy) else direction,
        percent(scores.coverage.get("0.8", math.nan)),
    )


def write_report(
    folder: Path,
    record: ForecastRecord,
    scores: Scores,
    source_name: str,
    *,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html, with every picture inside it, and the pictures as PNGs beside it.

    about    what was scored: model, folder, …; `notes` follow it
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for name, figure in draw_pictures(record, scores, source_name).items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
        (folder / f"{name}.png").write_bytes(png.getvalue())
        data = base64.b64encode(png.getvalue()).decode()
        words = name.replace("_", " ")
        image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
        images.append(wide(words, image))
    path = folder / "report.html"
    path.write_text(_page(scores, source_name, images, about or {}, notes), encoding="utf-8")
    return path


def _page(
    scores: Scores, source_name: str, images: Sequence[str], about: Mapping[str, str], notes: Sequence[str]
) -> str:
    symbol, source = html.escape(scores.symbol), html.escape(source_name)
    badge = '<span class="synthetic">synthetic data</span> ' if is_synthetic(source_name) else ""
    first, last = scores.span
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{symbol} forecast scores</title><style>{STYLE}</style></head><body>
<h1>{symbol}: forecasts scored</h1>
<p>{badge}Source: {source}. {scores.n:,} origins from {first} to {last}.</p>
{_definitions(about)}
{"".join(f"<{tag}>{html.escape(note)}</{tag}>" for note in notes for tag in ["pre" if chr(10) in note else "p"])}
<h2>Scores</h2>
<p class="note">Losses are means over the origins and, for pinball, the {len(scores.levels)} levels. Skill is
1 &minus; the model's pinball / the baseline's; DM p is two-sided, and skill is claimed below {CLAIM_P}.</p>
{"".join(_score_table(step, scores) for step in scores.shown_steps)}
{"".join(images)}
{_group_table("By hour of day of the origin, session's zone", scores.by_hour_of_day, scores)}
{_fold_section(scores)}{_group_table("By year", scores.by_year, scores)}
{_group_table("By quarter", scores.by_quarter, scores)}
{_group_table("By volatility of the window", scores.by_volatility_tercile, scores)}
<footer><h2>What the words mean</h2>
{_definitions(WORDS)}</footer>
</body></html>
"""


def _definitions(fields: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in fields.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _fold_section(scores: Scores) -> str:
    """A table for each step: a row per fold, with the model's skill over every baseline and its test."""
    if not scores.by_fold:
        return ""
    return "<h2>By fold</h2>" + "".join(_fold_table(step, scores) for step in scores.shown_steps)


def _fold_table(step: str, scores: Scores) -> str:
    over = [name for baseline in scores.horizons[step].baselines for name in (f"vs {baseline}", "DM p")]
    rows = []
    for label, by_step in scores.by_fold.items():
        n, pinball, *_, coverage = _group_cells(fold := by_step[step], PERSISTENCE)
        pairs = [cell for name in fold.skill for cell in (_skill_cell(fold.skill[name]), p_cell(fold.dm_p[name]))]
        rows.append((label, n, pinball, *pairs, coverage))
    heads = (step_name(int(step)), "n", "pinball bps", *over, "in 80 %")
    return _table(f"By fold, {heads[0]}", heads, rows)


def _table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, above: str = "") -> str:
    """above    a row of HTML over the headings"""
    cells = [list(map(html.escape, row)) for row in rows]
    return html_table(name, list(map(html.escape, heads)), cells, above=above)


def _skill_cell(skill: float) -> str:
    return percent(skill, signed=True)


def _score_table(step: str, scores: Scores) -> str:
    heads, *rows = _score_rows(step, scores)
    sentence = html.escape(describe_skill(step, scores.horizons[step]))
    return f"<p><b>{sentence}</b></p>{_table(f'Scores, {heads[0]}', heads, rows)}"


def _group_table(name: str, groups: Groups, scores: Scores) -> str:
    """A row per group and, per step, the model's pinball, its skill over persistence and the best baseline, coverage.

    The best baseline is that of all origins.
    """
    best = {step: scores.horizons[step].best for step in scores.shown_steps}
    over = "".join(f'<th class="step" colspan="{GROUP_CELLS}">{step_name(int(step))}</th>' for step in best)
    heads = [
        head
        for step, name in best.items()
        for head in (f"n,\u00a0{step}\u00a0h", "pinball bps", f"vs {PERSISTENCE}", f"vs {name}", "DM p", "in 80 %")
    ]
    rows = [
        (label, *(cell for step, name in best.items() for cell in _group_cells(by_step[step], name)))
        for label, by_step in groups.items()
    ]
    return f"<h2>{name}</h2>{_table(name, ('', *heads), rows, above=f'<tr><th></th>{over}</tr>')}"


def _group_cells(group: GroupScores, best: str) -> tuple[str, ...]:
    return (
        f"{group.n:,}",
        number(group.pinball_bps, "{:.3f}"),
        _skill_cell(group.skill[PERSISTENCE]),
        _skill_cell(group.skill[best]),
        p_cell(group.dm_p[best]),
        percent(group.coverage.get("0.8", math.nan)),
    )
