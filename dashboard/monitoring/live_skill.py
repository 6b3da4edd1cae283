"""Live skill through time, with an anytime-valid interval.

Legend: D days.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, NumeralTickFormatter
from bokeh.plotting import figure

from dashboard.ui.blocks import legend
from dashboard.ui.text import proof_words
from dashboard.ui.views import Shade, date_axis, plain_figure
from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.monitoring.confidence import DailyLosses, LiveSkill, SkillSettings, describe_confidence, estimate_skill
from lstm_ts.monitoring.live_skill import list_losses
from lstm_ts.scoring.records import PERSISTENCE
from lstm_ts.scoring.tables import percent

DRAWN = 200  # points of a line, at most
Line = tuple[str, list[tuple[np.datetime64, LiveSkill]]]  # baseline, and skill over it after each day
COLUMNS = ("x", "skill", "low", "high", "between", "day", "n")


def skill_through_time(losses: DailyLosses, settings: SkillSettings) -> list[tuple[np.datetime64, LiveSkill]]:
    """Return the skill after each day, thinned to the points that a chart has room for; always after the last."""
    count = len(losses.day_D)
    ends = sorted({*np.linspace(1, count, min(count, DRAWN)).round().astype(int).tolist()}) if count else []
    found = []
    for end in ends:
        until = DailyLosses(losses.day_D[:end], losses.n_D[:end], losses.model_D[:end], losses.baseline_D[:end])
        found.append((losses.day_D[end - 1], estimate_skill(until, settings)))
    return found


def read_lines(days: Sequence[DailyScore], settings: SkillSettings) -> list[Line]:
    """Return skill over persistence, then over the best baseline if another; `days` of one step, at least one."""
    losses = list_losses(days)
    best = min(losses, key=lambda name: float(losses[name].baseline_D.sum()))
    return [(name, skill_through_time(losses[name], settings)) for name in dict.fromkeys([PERSISTENCE, best])]


def describe_skill(baseline: str, skill: LiveSkill, step: int, settings: SkillSettings, *, is_best: bool) -> str:
    """Return a sentence; it claims proven skill over the best baseline only."""
    over = f"{baseline}, the best baseline" if is_best else baseline
    ahead = f"{step} session hour{'s' * (step > 1)} ahead"
    if math.isnan(skill.skill):
        return f"Skill over {over}: not known yet."
    judged = f"{skill.n:,} forecasts {ahead} on {skill.days:,} days since {_day(skill.since)}"
    lead = f"{percent(skill.skill, signed=True)} over {over}, by {judged}"
    if math.isnan(skill.low):
        return f"{lead}; an interval is there after {settings.min_days} days."
    proof = f": {proof_words(skill.low, skill.high)}" if is_best else ""
    return f"{lead}; with {describe_confidence(skill.confidence)} confidence between {_between(skill)}{proof}."


def _day(day: np.datetime64 | None) -> str:
    assert day is not None
    return f"{day.astype('datetime64[D]').item():%d %b %Y}"


def skill_chart(lines: Sequence[tuple[str, Sequence[tuple[np.datetime64, LiveSkill]]]], colours: Shade) -> figure:
    """Draw at most two lines, one for each baseline."""
    plot = plain_figure(colours, height=260)
    plot.name, plot.y_range = "skill", DataRange1d(range_padding=0.1)
    plot.yaxis.formatter, plot.yaxis.axis_label = NumeralTickFormatter(format="+0.[0]"), "Skill, %"
    date_axis(plot)
    plot.hspan(y=[0], line_color=colours.ink, line_dash="dotted", line_width=1)
    for (baseline, points), colour in zip(lines, (colours.rising, colours.falling), strict=False):
        source = ColumnDataSource(skill_columns(points))
        plot.varea("x", "low", "high", source=source, fill_color=colour, fill_alpha=0.18)
        line = plot.line("x", "skill", source=source, color=colour, line_width=2)
        dots = plot.scatter("x", "skill", source=source, color=colour, size=4)
        told = [("Until", "@day"), (f"Over {baseline}", "@skill{+0.0} %"), ("Between", "@between")]
        hover = HoverTool(renderers=[line, dots], tooltips=[*told, ("Forecasts", "@n{0,0}")], visible=False)
        plot.add_tools(hover)
    return plot


def skill_columns(points: Sequence[tuple[np.datetime64, LiveSkill]]) -> dict[str, list[object]]:
    """Columns in percent."""
    rows = [
        (_noon(day), 100 * skill.skill, 100 * skill.low, 100 * skill.high, _between(skill), _day(day), skill.n)
        for day, skill in points
    ]
    return {name: list(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


def _between(skill: LiveSkill) -> str:
    if math.isnan(skill.low):
        return "not known yet"
    return f"{percent(skill.low, signed=True)} and {percent(skill.high, signed=True)}"


def _noon(day: np.datetime64) -> datetime:
    return (day.astype("datetime64[h]") + np.timedelta64(12, "h")).astype("datetime64[us]").item()  # type: ignore[no-any-return]


def skill_legend(baselines: Sequence[str], colours: Shade) -> str:
    entries = zip((colours.rising, colours.falling), baselines, strict=False)
    return legend((colour, f"over {escape(name)}, with its interval") for colour, name in entries)
