"""Common style of all charts, and the path as a table. Reads no store and calls no service."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from bokeh.models import DatetimeTicker, DatetimeTickFormatter, HoverTool, NumeralTickFormatter, PrintfTickFormatter
from bokeh.plotting import figure

from dashboard.ui.blocks import BLUE, GREEN, ORANGE, SKY, VERMILLION, table
from dashboard.ui.text import bps, is_utc, prices_of, short, signed
from lstm_ts.http_schema import ForecastReply
from lstm_ts.market.prices import PriceFormat

BANDS = ((0.05, 0.95), (0.1, 0.9), (0.25, 0.75))  # drawn in this order, each over the one before
BAND_NAMES = tuple(f"{100 * (high - low):.0f}" for low, high in BANDS)  # percent
BAND_ALPHA = {"90": 0.16, "80": 0.20, "50": 0.30}
PRICE = re.compile(r"(@\w+)\{%[^}]*f\}")  # a price in a tip


@dataclass(frozen=True)
class Shade:
    """Colours of a chart; rising hours are hollow and falling hours filled, so that they differ without colour."""

    rising: str
    falling: str
    fan: str
    ink: str
    paper: str
    line: str


LIGHT = Shade(BLUE, VERMILLION, GREEN, "#212529", "#ffffff", "#dfe3e7")
DARK = Shade(SKY, ORANGE, "#2fc79c", "#e6e9ec", "#121212", "#343a40")


def shade(dark: bool) -> Shade:
    return DARK if dark else LIGHT


def plain_figure(colours: Shade, *, height: int, **axes: Any) -> figure:
    """Return an empty figure of the page's width, without a tool that would capture the page's scrolling."""
    wide: dict[str, Any] = {"sizing_mode": "stretch_width", "toolbar_location": None, "tools": ""}
    plot = figure(height=height, min_border_left=64, **wide, **axes)
    plot.background_fill_color = plot.border_fill_color = colours.paper
    plot.outline_line_color = None
    plot.grid.grid_line_color = colours.line
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = colours.line
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = colours.ink
        axis.major_label_text_font_size, axis.axis_label_text_font_size = "12px", "12px"
        axis.axis_label_text_font_style = "normal"  # Bokeh's two themes disagree about both
    plot.yaxis.formatter = NumeralTickFormatter(format="0.0000")
    return plot


def date_axis(plot: figure) -> None:
    """Label the x axis with times, as finely as its span asks for."""
    plot.xaxis.ticker = DatetimeTicker(num_minor_ticks=0, desired_num_ticks=5)
    plot.xaxis.formatter = DatetimeTickFormatter(seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M",
        hourmin="%H:%M", hours="%d %b\n%H:%M", days="%d %b\n%Y", months="%b\n%Y", years="%Y")  # fmt: skip


def show_prices(plot: figure, prices: PriceFormat) -> None:
    """Format prices on the axis and in the tooltips, in which fields such as `@close{%f}` are prices."""
    plot.yaxis.axis_label = prices.unit
    plot.yaxis.formatter = PrintfTickFormatter(format=f"%.{prices.decimals}f")
    hovers: list[Any] = [tool for tool in plot.tools if isinstance(tool, HoverTool) and tool.tooltips]
    for tool in hovers:
        tool.tooltips = [(name, PRICE.sub(rf"\1{{%.{prices.decimals}f}}", field)) for name, field in tool.tooltips]
        fields = [found[1] for _, field in tool.tooltips for found in PRICE.finditer(field)]
        tool.formatters = {**tool.formatters, **dict.fromkeys(fields, "printf")}


def band_tips(names: Collection[str], field_format: str) -> list[tuple[str, str]]:
    """Return what a tip tells of the intervals `names`, of which a source has columns such as low_80 and high_80."""
    return [
        (f"{name} %", f"@low_{name}{{{field_format}}} to @high_{name}{{{field_format}}}")
        for name in reversed(BAND_NAMES)
        if name in names
    ]


def path_table(forecast: ForecastReply, zone: ZoneInfo) -> str:
    prices = prices_of(forecast)
    rows = [
        (
            f"{number}",
            _closing(step.target_ts, zone),
            prices.number(step.price),
            signed(bps(step)),
            f"{prices.number(step.lower_80)} to {prices.number(step.upper_80)}",
            prices.number(step.persistence),
        )
        for number, step in enumerate(forecast.path, start=1)
    ]
    unit = f", {prices.currency}" if prices.currency else ""
    heads = (
        "Hour",
        f"Closes, {escape(zone.key)}",
        f"Median{unit}",
        "bps",
        f"80 % interval{unit}",
        f"Persistence{unit}",
    )
    return table("The path, session hour by session hour", heads, rows, text=(1,))


def _closing(ts: datetime, zone: ZoneInfo) -> str:
    beside = "" if is_utc(ts, zone) else f"<br><small>{short(ts, UTC)} UTC</small>"
    return short(ts, zone) + beside
