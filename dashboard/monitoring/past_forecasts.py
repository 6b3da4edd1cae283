"""Past forecasts at one step, each as a fan at its target hour, with the line of closes.

Legend: N origins, Q levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import panel as pn
import polars as pl
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool

from dashboard.monitoring.watched import SHOWN
from dashboard.ui.blocks import chart, html, legend
from dashboard.ui.open_time import OpenTime
from dashboard.ui.page_context import PageContext
from dashboard.ui.time_axis import TimeAxis
from dashboard.ui.time_span import HINT, TimeSpan, moment_hover
from dashboard.ui.views import BAND_ALPHA, BAND_NAMES, BANDS, band_tips, plain_figure, shade, show_prices
from lstm_ts.ledger.monitor_rows import HourlyForecast
from lstm_ts.market.bars import TS
from lstm_ts.market.prices import price_format
from lstm_ts.scoring.metrics import level_index
from lstm_ts.scoring.tables import percent

HOUR_PLACES, WEEK_PLACES, DAY_PLACES = 60.0, 5 * 24 * 60.0, 24 * 60.0  # minutes of open market
MOST_BRIDGED = 2 * HOUR_PLACES  # between two closes that the line joins
LIMIT_HINT = f"The whole span is that of the last {SHOWN.days} days at most."
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PastPath:
    """Prices forecast by one version at one step, ascending by origin."""

    origin_ms_N: Floats
    target_ms_N: Floats
    median_N: Floats
    band_N2: Mapping[str, Floats]  # by percent of the interval: low, high
    close_N: Floats  # NaN: not known yet

    @property
    def missed_N(self) -> npt.NDArray[np.bool_]:
        """Mask of the origins whose close is known and lies outside the 80 % interval."""
        low_N, high_N = self.band_N2["80"].T
        return np.asarray((self.close_N < low_N) | (self.close_N > high_N))


def make_path(forecasts: Sequence[HourlyForecast], close_by_target: Mapping[datetime, float], step: int) -> PastPath:
    """Return the path of one step; `forecasts`: at least one, ascending by origin, with the same levels."""
    levels = forecasts[0].levels
    targets = [row.target_ts_H[step - 1].item().replace(tzinfo=UTC) for row in forecasts]
    last_N = np.array([row.last_close for row in forecasts])
    price_NQ = last_N[:, None] * np.exp(np.stack([row.q_HQ[step - 1] for row in forecasts]).astype(np.float64))
    band_N2 = {}
    for name, edges in zip(BAND_NAMES, BANDS, strict=True):
        low, high = (level_index(levels, level) for level in edges)
        if low is not None and high is not None:
            band_N2[name] = price_NQ[:, [low, high]]
    middle = level_index(levels, 0.5)
    assert middle is not None and "80" in band_N2, levels
    return PastPath(
        origin_ms_N=np.array([1000 * row.origin_ts.timestamp() for row in forecasts]),
        target_ms_N=np.array([1000 * ts.timestamp() for ts in targets]),
        median_N=price_NQ[:, middle],
        band_N2=band_N2,
        close_N=np.array([close_by_target.get(ts, np.nan) for ts in targets]),
    )


def describe(path: PastPath, start_ms: float, end_ms: float) -> str:
    """Return a sentence: how many outcomes of the span are known, and how many lie outside the interval."""
    seen_N = (path.target_ms_N >= start_ms) & (path.target_ms_N <= end_ms)
    known_N = seen_N & ~np.isnan(path.close_N)
    count, known, missed = int(seen_N.sum()), int(known_N.sum()), int((known_N & path.missed_N).sum())
    if not known:
        return f"{count:,} forecasts of this span; no outcome of them is known yet."
    share = percent(missed / known)
    waiting = f"; not known: {count - known:,}" if count > known else ""
    return (
        f"{count:,} forecasts of this span. Of {known:,} known outcomes {missed:,} ({share}) lie outside of the 80 % "
        f"interval, where one in five is meant to{waiting}."
    )


def find_breaks(place_N: Floats, close_N: Floats) -> dict[str, Floats]:
    """Return the line of known closes, with a NaN where over two open hours lie between two of them."""
    known_N = ~np.isnan(close_N)
    x, y = place_N[known_N], close_N[known_N]
    gaps = np.flatnonzero(np.diff(x) > MOST_BRIDGED) + 1
    return {"x": np.insert(x, gaps, np.nan), "close": np.insert(y, gaps, np.nan)}


def fan_tips(path: PastPath) -> list[tuple[str, str]]:
    """Return what a chart tells of a past forecast: its times, its median, and every interval that is known of it."""
    times = [("Target", "@target{custom}"), ("Forecast at", "@origin{custom}")]
    return [*times, ("Median", "@median{%f}"), *band_tips(path.band_N2, "%f")]


class PastChart:
    """The chart; `show` redraws it in place and must be called where the document may be changed."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context, self._symbol = context, symbol
        self._colours = colours = shade(context.dark)
        self.plot = plot = plain_figure(colours, height=380)
        plot.name, plot.window_axis, plot.y_range = "past", "x", DataRange1d(range_padding=0.08)
        self._axis = TimeAxis(plot, context.zone)
        edges = [f"{edge}_{name}" for name in BAND_NAMES for edge in ("low", "high")]
        columns = ("x", "origin", "target", "left", "right", "median", "close", "came", *edges)
        self._fans, self._line, self._missed = (
            ColumnDataSource({name: [] for name in names})
            for names in (columns, ("x", "close"), ("x", "origin", "target", "median", "close", *edges))
        )
        drawn: list[Any] = [
            plot.quad("left", "right", f"high_{name}", f"low_{name}", source=self._fans, fill_color=colours.fan,
                      fill_alpha=BAND_ALPHA[name], line_alpha=0)
            for name in BAND_NAMES
        ]  # fmt: skip
        plot.segment("left", "median", "right", "median", source=self._fans, color=colours.fan, line_width=2)
        plot.line("x", "close", source=self._line, color=colours.ink, line_width=1.2)
        missed: Any = plot.scatter("x", "close", source=self._missed, marker="x", size=9, line_width=2,
                              color=colours.falling)  # fmt: skip
        moment = moment_hover(context.zone.key)
        told: dict[str, Any] = {"formatters": {"@target": moment, "@origin": moment}, "tooltips": [], "visible": False}
        self._of_fans, self._of_missed = (HoverTool(renderers=each, **told) for each in (drawn[:1], [missed]))
        plot.add_tools(self._of_fans, self._of_missed)

    def show(self, path: PastPath, place_N: Floats) -> None:
        quote = self._context.settings.quote_of(self._symbol)
        self._of_fans.tooltips = [*fan_tips(path), ("Outcome", "@came")]
        self._of_missed.tooltips = [*fan_tips(path), ("Outcome, outside", "@close{%f}")]
        prices = price_format(quote, float(path.median_N[-1]))
        show_prices(self.plot, prices)
        came = ["not known yet" if np.isnan(close) else prices.number(close) for close in path.close_N]
        nothing = np.full(len(path.median_N), np.nan)
        edges = {
            f"{edge}_{name}": path.band_N2[name][:, at] if name in path.band_N2 else nothing
            for name in BAND_NAMES
            for at, edge in enumerate(("low", "high"))
        }
        x = {"x": place_N, "target": path.target_ms_N, "origin": path.origin_ms_N}
        around = {"left": place_N - HOUR_PLACES / 2, "right": place_N + HOUR_PLACES / 2}
        columns = {**x, **around, **edges, "median": path.median_N, "close": path.close_N, "came": came}
        self._fans.data = dict(columns)
        self._line.data = dict(find_breaks(place_N, path.close_N))
        self._axis.show(place_N, [datetime.fromtimestamp(ms / 1000, UTC) for ms in path.target_ms_N])
        self._missed.data = {name: columns[name][path.missed_N] for name in self._missed.column_names}

    def legend(self) -> str:
        colours = self._colours
        entries = [
            (colours.fan, "median, and 50, 80 and 90 % intervals"),
            (colours.ink, "outcome"),
            (colours.falling, "outcome outside of 80 % (crosses)"),
        ]
        return legend(entries)


class PastForecasts:
    """The chart with its buttons and a sentence about the visible span; for `show` see `PastChart`."""

    def __init__(self, context: PageContext, symbol: str, path: PastPath) -> None:
        self._session = context.settings.session_of(symbol)
        self._chart, self._says = PastChart(context, symbol), html(height=44)
        self._take(path)
        first, last = self._find_whole()
        self._span = TimeSpan(self._chart.plot, (max(last - WEEK_PLACES, first), last), self._find_whole, DAY_PLACES)
        for edge in ("start", "end"):
            self._span.range.on_change(edge, self._moved)
        picture = chart(self._chart.plot)
        self.view = pn.Column(
            pn.FlexBox(*self._span.buttons), picture, self._says, html(f'<p class="quiet">{HINT} {LIMIT_HINT}</p>'),
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self.show(path)

    def _take(self, path: PastPath) -> None:
        targets = pl.Series(1000 * path.target_ms_N).cast(pl.Int64).cast(TS)
        self._path, self._time = path, OpenTime(self._session, targets)
        self._place_N = self._time.places(targets)

    def show(self, path: PastPath) -> None:
        self._take(path)
        self._chart.show(path, self._place_N)
        self._span.grow()
        self._describe_span()

    def _find_whole(self) -> tuple[float, float]:
        """Return the whole span, at least a day long."""
        first, last = float(self._place_N[0]) - HOUR_PLACES, float(self._place_N[-1]) + HOUR_PLACES
        return min(first, last - DAY_PLACES), last

    def _moved(self, attr: str, old: float, new: float) -> None:
        self._describe_span()

    def _describe_span(self) -> None:
        start, end = (1000 * self._time.moment(place).timestamp() for place in self._span.seen)
        self._says.object = f"{self._chart.legend()}<p>{describe(self._path, start, end)}</p>"
