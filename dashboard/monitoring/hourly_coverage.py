"""Share of outcomes within the 80 % interval by hour of day, with binomial bounds.

Legend: K hours of day.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from scipy.special import betaincinv

from dashboard.ui.blocks import legend
from dashboard.ui.views import Shade, plain_figure
from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.scoring.tables import percent

TARGET, CONFIDENCE = 0.8, 0.95
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HourlyCoverage:
    hour_K: Ints
    n_K: Ints
    inside_K: Ints
    low_K: Floats
    high_K: Floats

    @property
    def share_K(self) -> Floats:
        return np.asarray(self.inside_K / self.n_K)

    @property
    def off_K(self) -> npt.NDArray[np.bool_]:
        """Mask of the hours of day whose bounds exclude the target."""
        return np.asarray((self.low_K > TARGET) | (self.high_K < TARGET))


def sum_hours(days: Sequence[DailyScore]) -> HourlyCoverage:
    """Sum the daily scores of one step by hour of day."""
    n, inside = Counter[int](), Counter[int]()
    for day in days:
        for hour, sums in day.sums["hours"].items():
            n[int(hour)] += sums["n"]
            inside[int(hour)] += sums["inside"]
    hours = sorted(n)
    n_K, inside_K = (np.array([counts[hour] for hour in hours], np.int64) for counts in (n, inside))
    return HourlyCoverage(np.array(hours, np.int64), n_K, inside_K, *find_bounds(inside_K, n_K))


def find_bounds(inside_K: Ints, n_K: Ints) -> tuple[Floats, Floats]:
    """Bound the share that the counts are drawn from (Clopper & Pearson 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low_K = np.where(inside_K > 0, betaincinv(np.maximum(inside_K, 1), n_K - inside_K + 1, tail), 0.0)
    high_K = np.where(inside_K < n_K, betaincinv(inside_K + 1, np.maximum(n_K - inside_K, 1), 1 - tail), 1.0)
    return low_K, high_K


def describe_coverage(found: HourlyCoverage) -> str:
    total, inside = int(found.n_K.sum()), int(found.inside_K.sum())
    lead = f"{inside:,} of {total:,} outcomes ({percent(inside / total)}) lay within the 80 % interval."
    off = ", ".join(f"{hour:02d} h ({percent(share, 0)})" for hour, share in _pairs(found))
    chance = "by chance, one hour in twenty would be"
    if not off:
        return f"{lead} In no hour of day do the bounds leave out 80 %; {chance}."
    return f"{lead} Hours of day whose bounds leave out 80 %: {off}; {chance}."


def _pairs(found: HourlyCoverage) -> list[tuple[int, float]]:
    return list(zip(found.hour_K[found.off_K].tolist(), found.share_K[found.off_K].tolist(), strict=True))


def coverage_chart(found: HourlyCoverage, zone: str, colours: Shade) -> figure:
    """Draw the coverage; `zone` is the time zone of the hours of day."""
    plot = plain_figure(colours, height=240)
    plot.name = "coverage"
    plot.x_range, plot.y_range = Range1d(start=-0.7, end=23.7), Range1d(start=0, end=103)
    plot.xaxis.ticker, plot.yaxis.ticker = list(range(0, 24, 3)), [0, 20, 40, 60, 80, 100]
    plot.yaxis.formatter = NumeralTickFormatter(format="0")
    plot.xaxis.axis_label, plot.yaxis.axis_label = f"Hour of day of the forecast, {zone}", "% within"
    plot.hspan(y=[100 * TARGET], line_color=colours.ink, line_dash="dashed", line_width=1)
    source = ColumnDataSource(
        {
            "hour": found.hour_K,
            "share": 100 * found.share_K,
            "low": 100 * found.low_K,
            "high": 100 * found.high_K,
            "n": found.n_K,
            "colour": np.where(found.off_K, colours.falling, colours.rising).tolist(),
            "marker": np.where(found.off_K, "diamond", "circle").tolist(),
        }
    )
    plot.segment("hour", "low", "hour", "high", source=source, color="colour", line_width=2)
    drawn = plot.scatter("hour", "share", source=source, marker="marker", color="colour", size=9)
    told = [("Hour", "@hour"), ("Within", "@share{0.0} %"), ("Bounds", "@low{0} to @high{0} %"), ("Outcomes", "@n")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=told, visible=False))
    return plot


def coverage_legend(colours: Shade) -> str:
    within, off = "share within, with 95 % bounds", "bounds that leave out 80 % (diamonds)"
    return legend([(colours.rising, within), (colours.falling, off)])
