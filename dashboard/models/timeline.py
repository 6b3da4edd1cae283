"""Chart of the champion versions over time."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, HoverTool, NumeralTickFormatter
from bokeh.plotting import figure

from dashboard.models.version_tables import ACTIONS, FOUND, NONE, stamp
from dashboard.ui.views import date_axis, plain_figure, shade
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.registry.version import PROMOTE, ROLLBACK

MARKERS = {PROMOTE: "triangle", ROLLBACK: "inverted_triangle"}  # anything else: diamond
HEIGHT = 220


def step_line(changes: Sequence[AliasChange], now: datetime, zone: ZoneInfo) -> dict[str, list[object]]:
    """Return the corners of the steps: x wall time of the zone, y version; NaN while there was none.

    changes    of one alias, oldest first
    """
    at = [*(change.at for change in changes), now]
    versions = [*(change.to_version for change in changes), changes[-1].to_version]
    return {"x": [_wall(ts, zone) for ts in at], "y": [_height(version) for version in versions]}


def marks(changes: Sequence[AliasChange], zone: ZoneInfo, colours: dict[str, str]) -> dict[str, list[object]]:
    """Return the columns of a mark for each change, with its texts."""
    return {
        "x": [_wall(change.at, zone) for change in changes],
        "y": [_height(change.to_version) for change in changes],
        "marker": [MARKERS.get(change.action, "diamond") for change in changes],
        "colour": [colours.get(change.action, colours[""]) for change in changes],
        "at": [f"{stamp(change.at, zone)} {zone.key}" for change in changes],
        "what": [ACTIONS.get(change.action, FOUND) for change in changes],
        "moved": [f"{change.from_version or NONE} → {change.to_version or NONE}" for change in changes],
        "who": [change.actor for change in changes],
        "why": [change.reason for change in changes],
    }


def _wall(ts: datetime, zone: ZoneInfo) -> datetime:
    return ts.astimezone(zone).replace(tzinfo=None)


def _height(version: int | None) -> float:
    return float("nan") if version is None else float(version)


def timeline(changes: Sequence[AliasChange], now: datetime, zone: ZoneInfo, *, dark: bool) -> figure:
    colours = shade(dark)
    plot = plain_figure(colours, height=HEIGHT)
    date_axis(plot)
    plot.yaxis.ticker, plot.yaxis.formatter = BasicTicker(min_interval=1, num_minor_ticks=0), NumeralTickFormatter()
    plot.xaxis.axis_label, plot.yaxis.axis_label = zone.key, "Version"
    plot.y_range = DataRange1d(range_padding=0.5, range_padding_units="absolute")
    plot.step("x", "y", source=ColumnDataSource(step_line(changes, now, zone)), mode="after", color=colours.ink,
              line_width=2)  # fmt: skip
    tints = {PROMOTE: colours.rising, ROLLBACK: colours.falling, "": colours.fan}
    drawn = plot.scatter(
        "x", "y", source=ColumnDataSource(marks(changes, zone, tints)), marker="marker", color="colour", size=13
    )
    told = [("At", "@at"), ("What", "@what"), ("Version", "@moved"), ("Who", "@who"), ("Why", "@why")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=told, visible=False))
    return plot
