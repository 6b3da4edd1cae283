"""Bars and forecasts as pictures and tables. Nothing here asks anyone for anything."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJSTickFormatter,
    HoverTool,
    NumeralTickFormatter,
    PrintfTickFormatter,
)
from bokeh.plotting import figure

from dashboard.client import Forecast
from dashboard.ui.blocks import BLUE, GREEN, ORANGE, SKY, VERMILLION, legend, table
from dashboard.ui.text import bps, prices_of, short, signed, year_of
from lstm_ts.market.bars import PRICES
from lstm_ts.market.prices import PriceFormat
from lstm_ts.market.session import HOUR, Session

BANDS = ((0.05, 0.95), (0.1, 0.9), (0.25, 0.75))  # drawn in this order, each over the one before
BAND_ALPHA = {"90": 0.16, "80": 0.20, "50": 0.30}
TIMES = ("local", "utc")
PRICE = re.compile(r"(@\w+)\{%[^}]*f\}")  # a price in a tip
HOUR_COLUMNS = ("x", *PRICES, "colour", "fill", *TIMES)
EDGES = tuple(f"{edge}_{100 * (high - low):.0f}" for low, high in BANDS for edge in ("low", "high"))
PATH_COLUMNS = ("x", "median", "persistence", *EDGES, *TIMES)


@dataclass(frozen=True)
class Shade:
    """The colours of a picture; rising hours are hollow, falling ones filled, so that no colour is needed."""

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
    """An empty picture of the page's width, without a tool that would take the page's scrolling."""
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


def show_prices(plot: figure, prices: PriceFormat) -> None:
    """Format prices on the axis and in the tips, whose fields in braces are prices."""
    plot.yaxis.axis_label = prices.unit
    plot.yaxis.formatter = PrintfTickFormatter(format=f"%.{prices.decimals}f")
    tools: list[Any] = list(plot.select(HoverTool))
    for tool in tools:
        tool.tooltips = [(name, PRICE.sub(rf"\1{{%.{prices.decimals}f}}", field)) for name, field in tool.tooltips]
        fields = [found[1] for _, field in tool.tooltips for found in PRICE.finditer(field)]
        tool.formatters = {**tool.formatters, **dict.fromkeys(fields, "printf")}


class FanChart:
    """The last hours as candlesticks, and the forecast's fan; one step is one session hour, closed hours have no room.

    `show` changes what is drawn in place: call it where the document may be changed.
    """

    def __init__(self, session: Session, zone: ZoneInfo, *, dark: bool, height: int = 420) -> None:
        self._session, self._zone, colours = session, zone, shade(dark)
        self.plot = plot = plain_figure(colours, height=height)
        self._candles, self._fan, self._after = (
            ColumnDataSource({name: [] for name in names}) for names in (HOUR_COLUMNS, PATH_COLUMNS, HOUR_COLUMNS)
        )
        self._label = CustomJSTickFormatter(args={"labels": [], "first": 0}, code="return labels[tick - first] || ''")
        plot.xaxis.formatter = self._label
        plot.xaxis.ticker = BasicTicker(min_interval=1, desired_num_ticks=4, num_minor_ticks=0)
        for low, high in BANDS:
            name = f"{(high - low) * 100:.0f}"
            plot.varea("x", f"low_{name}", f"high_{name}", source=self._fan, color=colours.fan,
                       fill_alpha=BAND_ALPHA[name])  # fmt: skip
        median = plot.line("x", "median", source=self._fan, color=colours.fan, line_width=2.5)
        plot.line("x", "persistence", source=self._fan, color=colours.ink, line_dash="dashed", line_width=1)
        plot.segment("x", "low", "x", "high", source=self._candles, color="colour")
        candles = plot.vbar("x", 0.7, "open", "close", source=self._candles, line_color="colour", fill_color="fill")
        after = plot.scatter("x", "close", source=self._after, size=7, color=colours.ink, marker="diamond")
        plot.vspan(x=[0], line_color=colours.ink, line_dash="dotted", line_width=1)
        times = [("Closes", "@local"), ("UTC", "@utc")]
        prices = [(price.capitalize(), f"@{price}{{%f}}") for price in PRICES]
        path = [("Median", "@median{%f}"), ("80 %", "@low_80{%f} to @high_80{%f}")]
        for drawn, told in ((candles, prices), (median, path), (after, [("What came", "@close{%f}")])):
            plot.add_tools(HoverTool(renderers=[drawn], tooltips=times + told, visible=False))
        self._colours = colours

    def show(self, bars: pl.DataFrame, forecast: Forecast, after: pl.DataFrame) -> None:
        """bars     hourly, up to the origin; after: those that came next, as far as they are known"""
        show_prices(self.plot, prices_of(forecast))
        hours = self._session.hours(bars["ts"][0], forecast.origin_ts)["ts"].to_list()
        places = {ts: place - len(hours) + 1 for place, ts in enumerate(hours)}
        self._candles.data = self._hours(bars, places)
        self._fan.data = self._path(forecast)
        steps = {step.target_ts: number for number, step in enumerate(forecast.path, start=1)}
        self._after.data = self._hours(after, {ts - HOUR: number for ts, number in steps.items()})
        closings = [ts + HOUR for ts in hours] + list(steps)
        local = [ts.astimezone(self._zone) for ts in closings]
        labels = [f"{ts:{f'%d %b{year_of(ts)}'}}\n{ts:%H:%M}" for ts in local]
        self._label.args = {"labels": labels, "first": 1 - len(hours)}

    def _hours(self, bars: pl.DataFrame, places: dict[datetime, int]) -> dict[str, list[object]]:
        bars = bars.filter(pl.col("ts").is_in(list(places)))
        falls = (bars["close"] < bars["open"]).to_list()
        closings = [ts + HOUR for ts in bars["ts"]]
        colours = [self._colours.falling if fall else self._colours.rising for fall in falls]
        return {
            "x": [places[ts] for ts in bars["ts"]],
            **{price: bars[price].to_list() for price in PRICES},
            "colour": colours,
            "fill": [colour if fall else self._colours.paper for colour, fall in zip(colours, falls, strict=True)],
            **self._times(closings),
        }

    def _path(self, forecast: Forecast) -> dict[str, list[object]]:
        close = forecast.last_close
        columns: dict[str, list[object]] = {
            "x": list(range(len(forecast.path) + 1)),
            "median": [close, *(step.price for step in forecast.path)],
            "persistence": [close, *(step.persistence for step in forecast.path)],
        }
        for low, high in BANDS:
            name = f"{(high - low) * 100:.0f}"
            for edge, level in (("low", low), ("high", high)):
                columns[f"{edge}_{name}"] = [close, *(step.quantiles.get(level, np.nan) for step in forecast.path)]
        return columns | self._times([forecast.origin_ts, *(step.target_ts for step in forecast.path)])

    def _times(self, closings: Sequence[datetime]) -> dict[str, list[object]]:
        return {
            "local": [f"{short(ts, self._zone)} {self._zone.key}" for ts in closings],
            "utc": [short(ts, UTC) for ts in closings],
        }

    def legend(self, *, after: bool) -> str:
        colours = self._colours
        entries = [(colours.fan, "median, and 50, 80 and 90 % intervals"), (colours.ink, "persistence (dashed)")]
        entries += [(colours.rising, "rising hour (hollow)"), (colours.falling, "falling hour (filled)")]
        entries += [(colours.ink, "what came (diamonds)")] * after
        return legend(entries)


def path_table(forecast: Forecast, zone: ZoneInfo) -> str:
    prices = prices_of(forecast)
    rows = [
        (
            f"{number}",
            f"{short(step.target_ts, zone)}<br><small>{short(step.target_ts, UTC)} UTC</small>",
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
