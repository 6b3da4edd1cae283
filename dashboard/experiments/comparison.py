"""Comparison of a few runs: loss curves of their trainings, scores, and settings that differ."""

from collections.abc import Sequence
from html import escape
from zoneinfo import ZoneInfo

from bokeh.models import BasicTicker, BasicTickFormatter, ColumnDataSource, HoverTool
from bokeh.plotting import figure

from dashboard.experiments.runs import Run, differing
from dashboard.experiments.scoreboard import NONE, format_value, label, score_cells, steps_of, wrapped
from dashboard.ui.blocks import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, legend, table
from dashboard.ui.views import DARK, Shade, plain_figure

SETTINGS = 6  # that are shown of those that differ
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)  # the dark ones first, which show best on white
MOST = len(COLOURS)  # runs


def _order(colours: Shade) -> tuple[str, ...]:
    """Return the colours of the runs, those with the most contrast first."""
    return COLOURS[::-1] if colours == DARK else COLOURS


def loss_curves(runs: Sequence[Run], colours: Shade, zone: ZoneInfo) -> figure:
    """Draw the validation loss by epoch; the line at 1 is har_rolling."""
    plot = plain_figure(colours, height=300)
    plot.name = "losses"
    plot.xaxis.axis_label, plot.yaxis.axis_label = "Epoch", "Validation loss over har_rolling's"
    plot.xaxis.ticker, plot.yaxis.formatter = BasicTicker(min_interval=1), BasicTickFormatter()
    plot.hspan(y=[1.0], line_color=colours.ink, line_dash="dashed", line_width=1)
    for run, colour in zip(runs, _order(colours), strict=False):
        columns = {"epoch": list(range(1, len(run.losses) + 1)), "loss": list(run.losses)}
        source = ColumnDataSource({**columns, "run": [label(run, zone)] * len(run.losses)})
        plot.line("epoch", "loss", source=source, color=colour, line_width=2)
        dots = plot.scatter("epoch", "loss", source=source, color=colour, size=6)
        tips = [("Run", "@run"), ("Epoch", "@epoch"), ("Loss", "@loss{0.00000}")]
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, visible=False))
    return plot


def curves_legend(runs: Sequence[Run], colours: Shade, zone: ZoneInfo) -> str:
    pairs = zip(runs, _order(colours), strict=False)
    named = [(colour, escape(label(run, zone))) for run, colour in pairs if run.losses]
    return legend([*named, (colours.ink, "har_rolling (dashed)")])


def comparison_table(runs: Sequence[Run], zone: ZoneInfo) -> str:
    """Return a table of the runs' scores, and of the first settings in which they differ."""
    settings, steps = differing(runs)[:SETTINGS], steps_of(runs)
    heads = ["Run", "They differ in", "Lowest loss", *(f"{step} h ahead, <br>bps" for step in steps), "Scored on"]
    rows = [
        (
            wrapped(label(run, zone)),
            wrapped(", ".join(f"{name}={format_value(run.config[name])}" for name in settings if name in run.config)),
            *score_cells(run, steps),
            wrapped(run.span or NONE),
        )
        for run in runs
    ]
    caption = "The chosen runs: pinball loss, and skill over the best baseline"
    return table(caption, heads, rows, text=(1, len(heads) - 1))
