"""Candlestick chart of stored prices over any span; it redraws the visible part whenever that changes."""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import panel as pn
import polars as pl
from bokeh.models import ColumnDataSource, CrosshairTool, CustomJS, HoverTool, Range1d
from bokeh.models.annotations import Title

from dashboard.data.bar_cache import HOURS, MINUTES, CachedBars, stored
from dashboard.data.zoom import Timeframe, candles_of, choose_timeframe, price_range
from dashboard.ui.blocks import alert, chart, html, legend
from dashboard.ui.candles import CANDLE, candle_columns, draw_candles
from dashboard.ui.open_time import OpenTime
from dashboard.ui.page_context import PageContext
from dashboard.ui.time_axis import TimeAxis
from dashboard.ui.time_span import HINT, MOMENT, TimeSpan
from dashboard.ui.views import plain_figure, shade, show_prices
from lstm_ts.errors import LstmTsError
from lstm_ts.market.prices import PriceFormat, price_format
from lstm_ts.market.session import DAY

CANDLE_PX, WIDE_PX = 4, 1120  # least width of a candle; a chart's width before the browser reports it
MARGIN = 0.5  # share of the visible span drawn on either side, so that panning shows prices at once
PACE_S = 0.08  # between two redraws: panning changes the span at every frame of the screen
BAR = {MINUTES: timedelta(minutes=1), HOURS: timedelta(hours=1)}
NARROWEST = 30  # bars in the narrowest span
VOLUME = 0.2  # share of the chart's height, below the prices
NARROW_PX = 500  # in a narrower chart the readout takes more lines
EDGES = ("start", "end")
COLUMNS = ("ts", "left", "right", "x", "width", *CANDLE)
# The readout above the chart: the candle below the mouse, or the last visible one.
READOUT = """const told = value => { MOMENT }
const {ts, right, open, high, low, close, volume, spread} = candles.data
const last = right.findLastIndex(edge => edge <= plot.x_range.end + 1e-6)
const at = cb_data?.index?.indices[0] ?? last
if (ts[at] === undefined) return
const prices = [["O", open], ["H", high], ["L", low], ["C", close]].map(
  ([name, column]) => `${name} ${column[at].toFixed(decimals)}`)
const amount = has_volume ? [`V ${Math.round(volume[at]).toLocaleString("en-GB")}`] : []
const quoted = Number.isFinite(spread[at]) ? [`spread ${spread[at].toFixed(decimals)}`] : []
const opens = `opens ${told(ts[at])}`
const lines = plot.inner_width < NARROW_PX
  ? [...opens.split(/ (?=\\()|(?<=:\\d\\d) (?!UTC\\))/), prices.slice(0, 2), prices.slice(2), [...amount, ...quoted]]
  : [opens, [...prices, ...amount, ...quoted]]
readout.text = lines.map(line => [line].flat().join("  ")).join("\\n")"""


class PriceChart:
    """The chart; `show` redraws it in place and must be called where the document may be changed."""

    def __init__(self, context: PageContext, prices: PriceFormat, *, has_volume: bool) -> None:
        self._colours = colours = shade(context.dark)
        self.has_volume = has_volume
        self.plot = plot = plain_figure(colours, height=440)
        plot.name = "prices"
        self._axis = TimeAxis(plot, UTC)
        self._prices = plot.y_range = Range1d()
        self._volumes = Range1d(start=0, end=1)
        plot.extra_y_ranges = {"volume": self._volumes}
        self._candles, self._unknown = (ColumnDataSource({name: [] for name in names}) for names in (COLUMNS, EDGES))
        plot.vstrip("start", "end", source=self._unknown, fill_color=colours.falling, fill_alpha=0.1, line_alpha=0,
                    hatch_pattern="/", hatch_color=colours.falling, hatch_alpha=0.4)  # fmt: skip
        plot.quad("left", "right", "volume", 0, source=self._candles, y_range_name="volume", fill_color="colour",
                  fill_alpha=0.35, line_alpha=0)  # fmt: skip
        draw_candles(plot, self._candles, "width")
        self._add_readout(context.zone.key, prices)
        show_prices(plot, prices)

    def _add_readout(self, zone: str, prices: PriceFormat) -> None:
        plot, ink = self.plot, self._colours.ink
        readout = Title(
            text="\n", text_color=ink, text_font_size="12px", text_font_style="normal", text_line_height=1.4
        )
        plot.add_layout(readout, "above")
        args = {"readout": readout, "candles": self._candles, "plot": plot, "decimals": prices.decimals,
                "has_volume": self.has_volume, "zones": list(dict.fromkeys([zone, "UTC"]))}  # fmt: skip
        tell = CustomJS(args=args, code=READOUT.replace("MOMENT", MOMENT).replace("NARROW_PX", str(NARROW_PX)))
        columns = plot.quad("left", "right", "high", "low", source=self._candles, fill_alpha=0, line_alpha=0)
        plot.add_tools(HoverTool(renderers=[columns], mode="vline", tooltips=None, callback=tell, visible=False))
        plot.add_tools(CrosshairTool(dimensions="both", line_color=ink, line_alpha=0.4))
        self._candles.js_on_change("data", tell)

    def show(self, candles: pl.DataFrame, time: OpenTime, unknown: pl.DataFrame, seen: tuple[float, float]) -> None:
        left, right = (time.places(candles[edge]) for edge in ("ts", "until"))
        self._unknown.data = {edge: time.places(unknown[edge]) for edge in EDGES}
        inside = candles.filter((left < seen[1]) & (right > seen[0]))
        if prices := price_range(inside):
            low, high = prices
            below = VOLUME / (1 - VOLUME) * (high - low) * self.has_volume
            self._prices.update(start=low - below, end=high)
            self._volumes.end = (float(np.max(inside["volume"].to_numpy())) or 1.0) / VOLUME
        self._axis.show(left, candles["ts"].to_list())
        at_ms, places = candles["ts"].to_physical().to_numpy() / 1000, (left + right) / 2
        where = {"ts": at_ms, "left": left, "right": right, "x": places, "width": 0.7 * (right - left)}
        self._candles.data = where | candle_columns(candles, self._colours)

    def legend(self) -> str:
        """Return HTML of the legend."""
        entries = [(self._colours.rising, "rising (hollow)"), (self._colours.falling, "falling (filled)")]
        if len(self._unknown.data["start"]):
            entries += [(self._colours.falling, "unknown: no source has answered (hatched)")]
        return legend(entries)


class Explorer:
    """The chart of one kind of bars; `poll` adds the store's new bars."""

    def __init__(self, context: PageContext, symbol: str, kind: str, unknown: pl.DataFrame) -> None:
        """unknown    frame `start, end`: spans that no source has answered for

        Raises    NoRows, DataError
        """
        self._context, self._symbol, self._kind = context, symbol, kind
        self._unknown, self._pending, self._drawn_s, self._width_px = unknown, False, 0.0, WIDE_PX
        self._held = self._read()
        bars = self._held.bars
        prices = price_format(context.settings.quote_of(symbol), bars["close"][-1])
        self._chart = PriceChart(context, prices, has_volume=bool(bars["volume"].sum()))
        plot, narrowest = self._chart.plot, NARROWEST * BAR[kind] / BAR[MINUTES]
        self._span = TimeSpan(plot, self._find_whole(), self._find_whole, narrowest, moving=lambda: self._refuse(""))
        self._says, self._wrong = html(height=52), html()
        self._day = pn.widgets.TextInput(name="Go to day (UTC)", width=130, margin=(0, 8, 4, 0))
        self._first_seen = ""  # first visible day, as shown
        self._day.param.watch(lambda event: self._go_to(event.new or ""), "value")
        self._day.param.watch(lambda _: self._go_to(self._day.value or "", again=True), "enter_pressed")
        picture = chart(plot)
        hint = html(
            f'<p class="quiet">{HINT} The axis is in UTC; a day is one of trading, until the market closes.</p>'
        )
        self.view = pn.Column(pn.FlexBox(self._day, *self._span.buttons), self._wrong, picture, self._says, hint,
                              sizing_mode="stretch_width", margin=0)  # fmt: skip
        for edge in ("start", "end"):
            self._span.range.on_change(edge, self._moved)
        plot.on_change("inner_width", self._fit)
        self._draw()

    def poll(self) -> None:
        try:
            held = self._read()
        except LstmTsError as error:
            self._refuse(str(error))
            return
        if held is not self._held:
            pn.state.execute(lambda: self._grow(held))

    def _grow(self, held: CachedBars) -> None:
        """Take over new bars; the visible span stays, even if earlier bars were added."""
        seen = [self._held.time.moment(place) for place in self._span.seen]
        self._held = held
        self._span.grow()
        self._span.range.update(**dict(zip(("start", "end"), map(held.time.place, seen), strict=True)))
        self._soon()

    def _read(self) -> CachedBars:
        return stored(self._context.settings).bars(self._symbol, self._kind)

    def _find_whole(self) -> tuple[float, float]:
        ts, time = self._held.bars["ts"], self._held.time
        return time.place(ts[0]), time.place(ts[-1] + BAR[self._kind])

    def _go_to(self, text: str, *, again: bool = False) -> None:
        """Show a day; with `again`, even if it is the first visible one already."""
        first, last = self._held.bars["ts"][0], self._held.bars["ts"][-1]
        if not text.strip() or (text == self._first_seen and not again):
            return
        try:
            day = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
        except ValueError:
            self._refuse(f"Expected a day such as {last:%Y-%m-%d}, got {text.strip()}.")
            return
        if not first.date() <= day.date() <= last.date():
            self._refuse(f"Stored are {first:%Y-%m-%d} to {last:%Y-%m-%d}; choose a day of these.")
            return
        time, until = self._held.time, day + (DAY if self._kind == MINUTES else 7 * DAY)
        start = self._span.zoom_to(time.place(day), time.place(until))
        if (shown := time.moment(start)).date() != day.date():
            is_open = time.moment(time.place(day)).date() == day.date()
            why = f"the bars end on {last:%Y-%m-%d}" if is_open else f"the market is closed on {day:%Y-%m-%d}"
            self._wrong.object = f'<p class="quiet" role="status">Shown from {shown:%Y-%m-%d} on: {why}.</p>'

    def _refuse(self, text: str) -> None:
        self._wrong.object = alert(text) if text else ""

    def _moved(self, attr: str, old: float, new: float) -> None:
        self._soon()

    def _fit(self, attr: str, old: object, new: int) -> None:
        self._width_px = new
        self._soon()

    def _soon(self) -> None:
        """Schedule a redraw, one at a time; it draws the span that is visible then."""
        doc = self._chart.plot.document
        if self._pending or doc is None:
            return
        self._pending = True
        wait_s = self._drawn_s + PACE_S - time.monotonic()
        if wait_s > 0:
            doc.add_timeout_callback(self._draw, int(1000 * wait_s))
        else:
            doc.add_next_tick_callback(self._draw)  # after the event of the span's other edge

    def _draw(self) -> None:
        self._pending = False
        (start, end), open_time, bar = self._span.seen, self._held.time, BAR[self._kind]
        seen = open_time.moment(start), open_time.moment(end, ends=True)
        timeframe = choose_timeframe(end - start, seen[1] - seen[0], bar, at_most=self._width_px // CANDLE_PX)
        beside = MARGIN * (end - start)
        drawn = open_time.moment(start - beside), open_time.moment(end + beside, ends=True)
        candles = candles_of(self._held.bars, bar, *drawn, timeframe)
        unknown = self._unknown.filter(pl.col("end") > drawn[0], pl.col("start") < drawn[1])
        self._chart.show(candles, open_time, unknown, (start, end))
        caption = _caption(*seen, timeframe) + " Volume stands below it." * self._chart.has_volume
        self._says.object = f'{self._chart.legend()}<p class="quiet">{caption}</p>'
        self._first_seen = self._day.value = f"{seen[0]:%Y-%m-%d}"
        self._drawn_s = time.monotonic()


def _caption(start: datetime, end: datetime, timeframe: Timeframe) -> str:
    every = timeframe.words.removeprefix("1 ")
    return f"{start:%d %b %Y %H:%M} to {end:%d %b %Y %H:%M} UTC. A candlestick for every {every}."
