"""Scores of runs by parameter: what can be compared, and its picture."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, TapTool

from dashboard.experiments.runs import Run, Value
from dashboard.experiments.scoreboard import NONE, format_value, label
from dashboard.ui.views import Shade, plain_figure
from lstm_ts.scoring.records import SHOWN_STEPS
from lstm_ts.scoring.scores import HorizonScores, step_name

HEIGHT, DECADE, TICKS = 340, 10, 8


@dataclass(frozen=True)
class RunScore:
    """A number that runs are compared by, and the best baseline's on the same origins."""

    label: str
    of: Callable[[Run], float | None]
    baseline: Callable[[Run], float | None]


def scores_of(runs: Sequence[Run]) -> list[RunScore]:
    """Those that some run has."""
    steps = [str(step) for step in SHOWN_STEPS if any(str(step) in run.horizons for run in runs)]
    scores = [_at(step, "pinball, bps (lower is better)", lambda h: h.pinball_bps, _baseline_loss) for step in steps]
    scores += [_at(step, "skill over the best baseline, % (higher is better)", _skill, lambda _: 0.0) for step in steps]
    loss = RunScore(
        "Validation loss over har_rolling's on the same hours (lower is better)", lambda run: run.loss, lambda _: 1.0
    )
    return scores + [loss] * any(run.loss is not None for run in runs)


def _baseline_loss(horizon: HorizonScores) -> float:
    return horizon.baselines[horizon.best].pinball_bps


def _skill(horizon: HorizonScores) -> float:
    return 100 * horizon.skill[horizon.best]


def _at(
    step: str, words: str, of: Callable[[HorizonScores], float], baseline: Callable[[HorizonScores], float]
) -> RunScore:
    def read(run: Run, take: Callable[[HorizonScores], float]) -> float | None:
        value = take(run.horizons[step]) if step in run.horizons else math.nan
        return value if math.isfinite(value) else None

    return RunScore(f"{step_name(int(step))}: {words}", partial(read, take=of), partial(read, take=baseline))


class Scatter:
    """A value that is no number has a place of its own. `choose` hears of a point that is clicked."""

    def __init__(
        self,
        runs: Sequence[Run],
        parameter: str,
        score: RunScore,
        colours: Shade,
        zone: ZoneInfo,
        choose: Callable[[Run], None],
    ) -> None:
        self._runs = [run for run in runs if score.of(run) is not None and parameter in run.config]
        values = [run.config[parameter] for run in self._runs]
        self.plot = plot = plain_figure(colours, height=HEIGHT, **_axis(values))
        plot.xaxis.axis_label, plot.yaxis.axis_label = parameter, score.label.partition(" (")[0]
        plot.yaxis.formatter = NumeralTickFormatter(format="0.000")
        numbers = _numbers(values)
        if ticks := _ticks(numbers):
            plot.xaxis.ticker = ticks
        self._columns: dict[str, Sequence[Any]] = {
            "x": numbers or [format_value(value) for value in values],
            "y": [score.of(run) for run in self._runs],
            "baseline": [score.baseline(run) for run in self._runs],
            "run": [label(run, zone) for run in self._runs],
            "value": [format_value(value) for value in values],
            "span": [run.span or NONE for run in self._runs],
        }
        source, self._ring = ColumnDataSource(self._columns), ColumnDataSource({"x": [], "y": []})
        plot.scatter("x", "baseline", source=source, marker="dash", size=22, color=colours.ink, line_alpha=0.6)
        plot.scatter("x", "y", source=self._ring, size=20, fill_color=None, line_color=colours.falling, line_width=3)
        drawn = plot.scatter("x", "y", source=source, size=10, color=colours.rising, fill_alpha=0.7)
        drawn.nonselection_glyph = None
        tips = [
            ("Run", "@run"),
            (parameter, "@value"),
            ("Score", "@y{0.0000}"),
            ("Best baseline's", "@baseline{0.0000}"),
        ]
        tips += [("Scored on", "@span")]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips, visible=False), TapTool(renderers=[drawn]))
        source.selected.on_change("indices", lambda _, __, new: choose(self._runs[new[0]]) if new else None)

    def mark(self, run: Run | None) -> None:
        places = [place for place, each in enumerate(self._runs) if each == run]
        ring = {axis: [self._columns[axis][place] for place in places] for axis in ("x", "y")}
        if ring != dict(self._ring.data):  # a browser may not know a picture yet that was drawn just now
            self._ring.data = ring


def _numbers(values: Sequence[Value]) -> list[float]:
    """Empty where one of them is none."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(values) else []


def _axis(values: Sequence[Value]) -> dict[str, Any]:
    numbers = _numbers(values)
    if not numbers:
        return {"x_range": sorted({format_value(value) for value in values})}
    return {"x_axis_type": "log"} if _by_decades(numbers) else {}


def _by_decades(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) >= DECADE * min(numbers)


def _ticks(numbers: Sequence[float]) -> list[float]:
    """The values themselves, where they are few and stand apart; else empty."""
    found = sorted(set(numbers))
    if not 1 < len(found) <= TICKS:
        return found[:1] * (len(found) == 1)
    places = [math.log(number) for number in found] if _by_decades(found) else found
    apart = min(right - left for left, right in pairwise(places))
    return found if TICKS * apart >= places[-1] - places[0] else []
