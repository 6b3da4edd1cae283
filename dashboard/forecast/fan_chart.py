"""Chart of the last hours as candlesticks, the forecast's fan, and the past forecasts of those hours."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import panel as pn
import polars as pl
from bokeh.events import Event, Tap
from bokeh.models import ColumnDataSource, CrosshairTool, CustomJSHover, DataRange1d, HoverTool, Range1d

from dashboard.monitoring.past_forecasts import PastPath
from dashboard.ui.blocks import legend
from dashboard.ui.candles import CANDLE, candle_columns, draw_candles
from dashboard.ui.text import prices_of
from dashboard.ui.time_axis import TimeAxis
from dashboard.ui.time_span import drag_and_zoom, moment_hover
from dashboard.ui.views import BAND_ALPHA, BAND_NAMES, BANDS, Shade, band_tips, plain_figure, shade, show_prices
from lstm_ts.http_schema import ForecastReply
from lstm_ts.market.bars import PRICES
from lstm_ts.market.session import HOUR, Session

EDGES = tuple(f"{edge}_{name}" for name in BAND_NAMES for edge in ("low", "high"))
PAST = ("past_low", "past_median", "past_high")
PAST_BAND = ("past_middle", "past_height")
TOLD = ("volume_told", "spread_told", "past_told")  # as text, since Bokeh writes NaN and null into a tip
HOUR_COLUMNS = ("x", "ts", *CANDLE, *PAST, *PAST_BAND, *TOLD)
PATH_COLUMNS = ("x", "ts", "median", "persistence", *EDGES)
SEEN_HORIZONS = 3  # of history at first
NEAREST, EDGE = 12, 0.8  # places: of the history at least, and right of the last step
NARROWEST = 6  # places in the narrowest view
PRICE, NONE = "return value.toFixed(decimals)", "none"


class FanChart:
    """Chart with one place for each session hour, none for closed hours; place 0 is the hour that closes at the origin.

    `show`, `show_past` and `mark` redraw it in place, and must be called where the document may be changed.
    """

    def __init__(self, session: Session, zone: ZoneInfo, *, dark: bool, choose: Callable[[int], None]) -> None:
        """choose   called with the step that is clicked"""
        self._session, self._colours, self._choose = session, shade(dark), choose
        self._steps = 0
        self.plot = plot = plain_figure(self._colours, height=380)
        plot.name, plot.window_axis, plot.y_range = "fan", "x", DataRange1d(range_padding=0.08)
        self._candles, self._fan, self._path, self._after = (
            ColumnDataSource({name: [] for name in names})
            for names in (HOUR_COLUMNS, PATH_COLUMNS, PATH_COLUMNS, HOUR_COLUMNS)
        )
        self._marked = ColumnDataSource({name: [] for name in ("x", "low", "median", "high")})
        self._places = Range1d(start=0, end=NARROWEST, min_interval=NARROWEST)
        more, last = (pn.widgets.Button(label=name, margin=(22, 8, 4, 0)) for name in ("More history", "Last hours"))
        more.on_click(lambda _: pn.state.execute(self._show_more))
        last.on_click(lambda _: pn.state.execute(self._show_last))
        self.buttons = [more, last]
        plot.x_range = self._places
        self._axis = TimeAxis(plot, zone)
        self._draw_past()
        self._draw_fan()
        candles = self._draw_candles()
        self._draw_mark()
        self._add_tools(candles, zone)

    def _draw_past(self) -> None:
        """Draw the past forecasts of each hour, at the chosen step."""
        tint: dict[str, Any] = {"source": self._candles, "color": self._colours.ink}
        self.plot.rect("x", "past_middle", 1, "past_height", source=self._candles, fill_color=self._colours.ink,
                       fill_alpha=0.09, line_alpha=0)  # fmt: skip
        self.plot.scatter("x", "past_median", marker="dash", size=5, line_alpha=0.6, **tint)

    def _draw_fan(self) -> None:
        plot, colours = self.plot, self._colours
        for name in BAND_NAMES:
            plot.varea("x", f"low_{name}", f"high_{name}", source=self._fan, color=colours.fan,
                       fill_alpha=BAND_ALPHA[name])  # fmt: skip
        plot.line("x", "median", source=self._fan, color=colours.fan, line_width=2.5)
        plot.line("x", "persistence", source=self._fan, color=colours.ink, line_dash="dashed", line_width=1)
        plot.vspan(x=[0.5], line_color=colours.ink, line_dash="dotted", line_width=1)

    def _draw_candles(self) -> Any:
        """Draw the candles; return invisible bars, which the hover tool detects at any height within an hour."""
        plot, colours = self.plot, self._colours
        draw_candles(plot, self._candles, 0.7)
        plot.scatter("x", "close", source=self._after, size=7, color=colours.ink, marker="diamond")
        return plot.vbar("x", 1, "high", "low", source=self._candles, fill_alpha=0, line_alpha=0)

    def _draw_mark(self) -> None:
        tint: dict[str, Any] = {"source": self._marked, "color": self._colours.ink}
        self.plot.segment("x", "low", "x", "high", line_width=2, **tint)
        for edge in ("low", "high"):
            self.plot.scatter("x", edge, marker="dash", size=14, line_width=2, **tint)
        self.plot.scatter("x", "median", size=8, **tint)

    def _add_tools(self, candles: Any, zone: ZoneInfo) -> None:
        plot, ink = self.plot, self._colours.ink
        steps = plot.vbar("x", 1, "high_80", "low_80", source=self._path, fill_alpha=0, line_alpha=0)
        self._price = CustomJSHover(args={"decimals": 2}, code=PRICE)
        fields = (*PRICES, "median", "persistence", *EDGES)
        told: dict[str, Any] = {f"@{field}": self._price for field in fields} | {"@ts": moment_hover(zone.key)}
        follow: dict[str, Any] = {"mode": "vline", "point_policy": "follow_mouse", "visible": False, "formatters": told}
        self._of_hours = HoverTool(renderers=[candles], tooltips=[], **follow)
        self._of_steps = HoverTool(renderers=[steps], tooltips=[], **follow)
        cross = CrosshairTool(dimensions="both", line_color=ink, line_alpha=0.4)
        plot.add_tools(self._of_hours, self._of_steps, cross)
        drag_and_zoom(plot)
        plot.on_event(Tap, self._tapped)

    def _tapped(self, event: Event) -> None:
        assert isinstance(event, Tap)
        if event.x is not None and self._steps and event.x > 0.5:
            self._choose(min(round(event.x), self._steps))

    def show(self, bars: pl.DataFrame, forecast: ForecastReply, after: pl.DataFrame) -> None:
        """bars     hourly, up to the origin; after: the bars that followed, as far as they are known"""
        prices = prices_of(forecast)
        show_prices(self.plot, prices)
        self._decimals = prices.decimals
        self._price.args = {"decimals": prices.decimals}
        hours = self._session.hours(bars["ts"][0], forecast.origin_ts)["ts"].to_list()
        self._place_of = {ts: place - len(hours) + 1 for place, ts in enumerate(hours)}
        steps = {step.target_ts - HOUR: number for number, step in enumerate(forecast.path, start=1)}
        self._hours = self._read_hours(bars, self._place_of)
        self._candles.data = self._hours
        self._fan.data = columns = path_columns(forecast)
        self._path.data = {name: values[1:] for name, values in columns.items()}
        self._after.data = self._read_hours(after, steps)
        closings = [ts + HOUR for ts in (*hours, *steps)]
        self._axis.show(np.arange(1.0 - len(hours), len(steps) + 1), closings)
        told = band_tips([name for name in BAND_NAMES if not np.isnan(columns[f"low_{name}"][-1])], "custom")
        self._of_steps.tooltips = [("Closes", "@ts{custom}"), ("Median", "@median{custom}"), *told,
                                   ("Persistence", "@persistence{custom}")]  # fmt: skip
        self._set_hour_tooltips("")
        self._set_bounds(1 - len(hours), len(forecast.path))

    def _set_bounds(self, first: int, last: int) -> None:
        """Bound the view; it keeps its position if that is within the bounds and the horizon is the same."""
        start = self._places.start
        assert isinstance(start, int | float)
        self._places.bounds = (first - 0.5, last + EDGE)
        self._first, was, self._steps = first, self._steps, last
        if last != was or start < first - 0.5:
            self._show_last()

    def _show_last(self) -> None:
        last = self._steps
        self._places.update(start=max(self._first, -max(SEEN_HORIZONS * last, NEAREST)) - 0.5, end=last + EDGE)

    def _show_more(self) -> None:
        """Show twice as much, as far as there is history."""
        start, end = self._places.start, self._places.end
        assert isinstance(start, int | float) and isinstance(end, int | float)
        self._places.start = max(self._first - 0.5, 2 * start - end)

    def _set_hour_tooltips(self, past: str) -> None:
        """past    label of the past forecasts of these hours; empty: there are none"""
        told = [(price.capitalize(), f"@{price}{{custom}}") for price in PRICES]
        volume = [("Volume", "@volume_told")] * bool(np.isfinite(self._hours["volume"]).any())
        said = [(past, "@past_told")] * bool(past)
        spread = [("Spread", "@spread_told")] * bool(np.isfinite(self._hours["spread"]).any())
        self._of_hours.tooltips = [("Closes", "@ts{custom}"), *told, *volume, *spread, *said]

    def show_past(self, path: PastPath | None, step: int) -> None:
        """Show the past forecasts of the hours, made `step` hours before each; None: no past forecast is known."""
        nothing = np.full(len(self._hours["x"]), np.nan)
        past = {name: nothing.copy() for name in PAST}
        if path is not None:
            rows = {float(ms): row for row, ms in enumerate(path.target_ms_N)}
            found = [(place, rows[ms]) for place, ms in enumerate(self._hours["ts"]) if ms in rows]
            at, taken = np.array(found, dtype=int).reshape(-1, 2).T
            low_N, high_N = path.band_N2["80"].T
            for name, values_N in zip(PAST, (low_N, path.median_N, high_N), strict=True):
                past[name][at] = values_N[taken]
        low, high = past["past_low"], past["past_high"]
        bands = {"past_middle": (low + high) / 2, "past_height": high - low}
        told = [
            NONE if np.isnan(middle) else "{} to {}, median {}".format(*map(self._write, (lower, upper, middle)))
            for lower, upper, middle in zip(low, high, past["past_median"], strict=True)
        ]
        self._hours = {**self._hours, **past, **bands, "past_told": told}
        self._candles.data = self._hours
        known = np.isfinite(past["past_low"]).any()
        self._set_hour_tooltips(f"80 % forecast {step} h before" if known else "")

    def mark(self, step: int) -> None:
        path, at = self._path.data, step - 1
        columns = {"x": "x", "low": "low_80", "median": "median", "high": "high_80"}
        self._marked.data = {name: [path[column][at]] for name, column in columns.items()}

    def _read_hours(self, bars: pl.DataFrame, places: Mapping[datetime, int]) -> dict[str, Any]:
        bars = bars.filter(pl.col("ts").is_in(list(places)))
        candles = candle_columns(bars, self._colours)
        return {
            "x": np.array([places[ts] for ts in bars["ts"]], dtype=float),
            "ts": _to_ms(bars["ts"].to_list()),
            **candles,
            "volume_told": [NONE if np.isnan(volume) else f"{volume:,.0f}" for volume in candles["volume"]],
            "spread_told": [NONE if np.isnan(spread) else self._write(spread) for spread in candles["spread"]],
            "past_told": [NONE] * bars.height,
            **dict.fromkeys((*PAST, *PAST_BAND), np.full(bars.height, np.nan)),
        }

    def _write(self, price: float) -> str:
        return f"{price:.{self._decimals}f}"

    def legend(self, *, past: str) -> str:
        return fan_legend(self._colours, after=bool(len(self._after.data["x"])), past=past)


def path_columns(forecast: ForecastReply) -> dict[str, Any]:
    """Return the columns of the fan, which begins at the last close; NaN where the service gives no such level."""
    close, path = forecast.last_close, forecast.path
    columns: dict[str, Any] = {
        "x": np.arange(len(path) + 1.0),
        "ts": _to_ms([forecast.origin_ts - HOUR, *(step.target_ts - HOUR for step in path)]),
        "median": np.array([close, *(step.price for step in path)]),
        "persistence": np.array([close, *(step.persistence for step in path)]),
    }
    for name, (low, high) in zip(BAND_NAMES, BANDS, strict=True):
        for edge, level in (("low", low), ("high", high)):
            columns[f"{edge}_{name}"] = np.array([close, *(step.quantiles.get(level, np.nan) for step in path)])
    return columns | {
        "low_80": np.array([close, *(step.lower_80 for step in path)]),
        "high_80": np.array([close, *(step.upper_80 for step in path)]),
    }


def fan_legend(colours: Shade, *, after: bool, past: str) -> str:
    entries = [(colours.fan, "median, and 50, 80 and 90 % intervals"), (colours.ink, "persistence (dashed)")]
    entries += [(colours.rising, "rising hour (hollow)"), (colours.falling, "falling hour (filled)")]
    entries += [(colours.ink, "outcome (diamonds)")] * after + [(colours.line, past)] * bool(past)
    return legend(entries)


def _to_ms(opens: Sequence[datetime]) -> Any:
    """Return the closes of hours, in milliseconds since 1970."""
    return np.array([(ts + HOUR).timestamp() for ts in opens]) * 1000.0
