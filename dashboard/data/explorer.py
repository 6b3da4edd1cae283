"""Stored prices over any span: drawn anew, of what is seen, whenever that changes."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import panel as pn
import polars as pl
from bokeh.models import ColumnDataSource, HoverTool, Range1d

from dashboard.data.bar_cache import HOURS, MINUTES, stored
from dashboard.data.zoom import broken, column_width, columns_of, columns_seen, left_ms, price_range
from dashboard.ui.blocks import alert, html, legend
from dashboard.ui.page_context import PageContext
from dashboard.ui.time_span import HINT, MILLISECOND, TimeSpan, moment_hover
from dashboard.ui.views import Shade, plain_figure, shade, show_prices
from lstm_ts.errors import LstmTsError
from lstm_ts.market.bars import PRICES
from lstm_ts.market.prices import PriceFormat, price_format

COLUMNS, CANDLES = 750, 120  # of the span that is seen: at most; and so few that each is a candlestick
BESIDE = 0.5  # of that span is drawn on either side, so that a hand that pans sees prices at once
PACE_S = 0.08  # between two pictures: that hand changes the span at every frame of its screen
BAR = {MINUTES: timedelta(minutes=1), HOURS: timedelta(hours=1)}
NARROWEST = 30  # bars
UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}
BAND = ("left", "right", "x", *PRICES)
CANDLE = ("left", "x", "width", "middle", "height", *PRICES, "colour", "fill")


class PriceChart:
    """`show` changes what is drawn in place: call it where the document may be changed."""

    def __init__(self, context: PageContext, prices: PriceFormat) -> None:
        self._colours = colours = shade(context.dark)
        self.plot = plot = plain_figure(colours, height=420)
        plot.name = "prices"
        self._prices = plot.y_range = Range1d()
        self._band, self._candles, self._unknown = (
            ColumnDataSource({name: [] for name in names}) for names in (BAND, CANDLE, ("start", "end"))
        )
        plot.vstrip("start", "end", source=self._unknown, fill_color=colours.falling, fill_alpha=0.1, line_alpha=0,
                    hatch_pattern="/", hatch_color=colours.falling, hatch_alpha=0.4)  # fmt: skip
        band = plot.quad("left", "right", "high", "low", source=self._band, fill_color=colours.rising, fill_alpha=0.35,
                         line_alpha=0)  # fmt: skip
        plot.line("x", "close", source=self._band, color=colours.rising, line_width=1.2)
        wicks = plot.segment("x", "low", "x", "high", source=self._candles, color="colour")
        # Rectangles, since Bokeh draws bars that lie out of sight at the edge.
        plot.rect("x", "middle", "width", "height", source=self._candles, line_color="colour", fill_color="fill")
        told = [("Opens", "@left{custom}"), *((price.capitalize(), f"@{price}{{%f}}") for price in PRICES)]
        times: dict[str, Any] = {"@left": moment_hover(context.zone.key)}
        plot.add_tools(HoverTool(renderers=[band, wicks], mode="vline", tooltips=told, formatters=times))
        show_prices(plot, prices)

    def show(
        self,
        columns: pl.DataFrame,
        width: timedelta,
        unknown: pl.DataFrame,
        seen_ms: tuple[float, float],
        *,
        candles: bool,
    ) -> None:
        nothing = columns.clear()
        self._band.data = broken(nothing if candles else columns, width)
        self._candles.data = candlesticks(columns if candles else nothing, width, self._colours)
        self._unknown.data = {edge: unknown[edge].to_physical().to_numpy() / 1000 for edge in ("start", "end")}
        if prices := price_range(columns_seen(columns, *seen_ms, width)):
            self._prices.update(start=prices[0], end=prices[1])

    def legend(self) -> str:
        """The legend of what is drawn."""
        rising, falling = self._colours.rising, self._colours.falling
        entries = [(rising, "lowest to highest, and the close (line)")]
        if len(self._candles.data["x"]):
            entries = [(rising, "rising (hollow)"), (falling, "falling (filled)")]
        if len(self._unknown.data["start"]):
            entries += [(falling, "unknown: no source has answered (hatched)")]
        return legend(entries)


def candlesticks(columns: pl.DataFrame, width: timedelta, colours: Shade) -> dict[str, object]:
    width_ms, falls = width / MILLISECOND, (columns["close"] < columns["open"]).to_numpy()
    return {
        "left": left_ms(columns),
        "x": left_ms(columns) + width_ms / 2,
        "width": np.full(columns.height, 0.7 * width_ms),
        "middle": columns.select((pl.col("open") + pl.col("close")) / 2).to_series().to_numpy(),
        "height": columns.select((pl.col("open") - pl.col("close")).abs()).to_series().to_numpy(),
        **{price: columns[price].to_numpy() for price in PRICES},
        "colour": np.where(falls, colours.falling, colours.rising).tolist(),
        "fill": np.where(falls, colours.falling, colours.paper).tolist(),
    }


class Explorer:
    """The chart of one kind of bars; `poll` takes over what the store has new."""

    def __init__(self, context: PageContext, symbol: str, kind: str, unknown: pl.DataFrame) -> None:
        """unknown    frame `start, end`: spans that nobody answered for

        Raises    NoRows, DataError
        """
        self._context, self._symbol, self._kind = context, symbol, kind
        self._unknown, self._pending, self._drawn_s = unknown, False, 0.0
        self._bars = self._read()
        prices = price_format(context.settings.quote_of(symbol), self._bars["close"][-1])
        self._chart = PriceChart(context, prices)
        narrowest = NARROWEST * BAR[kind]
        self._span = TimeSpan(
            self._chart.plot, self._find_whole_ms(), self._find_whole_ms, narrowest, moving=lambda: self._refuse("")
        )
        self._says, self._wrong = html(height=52), html()
        latest = f"{self._bars['ts'][-1]:%Y-%m-%d}"
        day = pn.widgets.TextInput(name="Go to day (UTC)", placeholder=latest, width=130, margin=(0, 8, 4, 0))
        day.param.watch(lambda *_: self._go_to(day.value or ""), ["value", "enter_pressed"])  # the same day again, too
        picture = pn.pane.Bokeh(self._chart.plot, sizing_mode="stretch_width", margin=0)
        hint = html(f'<p class="quiet">{HINT}</p>')
        self.view = pn.Column(pn.FlexBox(day, *self._span.buttons), self._wrong, picture, self._says, hint,
                              sizing_mode="stretch_width", margin=0)  # fmt: skip
        for edge in ("start", "end"):
            self._span.range.on_change(edge, self._moved)
        self._draw()

    def poll(self) -> None:
        try:
            bars = self._read()
        except LstmTsError as error:
            self._refuse(str(error))
            return
        if bars is not self._bars:
            self._bars = bars
            pn.state.execute(self._grow)

    def _grow(self) -> None:
        self._span.grow()
        self._soon()

    def _read(self) -> pl.DataFrame:
        return stored(self._context.settings).bars(self._symbol, self._kind)

    def _find_whole_ms(self) -> tuple[float, float]:
        first, last = left_ms(self._bars[[0, -1]])
        return float(first), float(last) + BAR[self._kind] / MILLISECOND

    def _go_to(self, text: str) -> None:
        first, last = self._bars["ts"][0], self._bars["ts"][-1]
        if not text.strip():
            return
        try:
            day = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
        except ValueError:
            self._refuse(f"Expected a day such as {last:%Y-%m-%d}, got {text.strip()}.")
            return
        if not first.date() <= day.date() <= last.date():
            self._refuse(f"Stored are {first:%Y-%m-%d} to {last:%Y-%m-%d}; choose a day of these.")
            return
        days = 1 if self._kind == MINUTES else 7
        start_ms = 1000 * day.timestamp()
        self._span.look_at(start_ms, start_ms + 1000 * 86_400 * days)

    def _refuse(self, text: str) -> None:
        self._wrong.object = alert(text) if text else ""

    def _moved(self, attr: str, old: float, new: float) -> None:
        self._soon()

    def _soon(self) -> None:
        """One picture at a time is awaited, whatever comes meanwhile; it is of the span that is seen then."""
        doc = self._chart.plot.document
        if self._pending or doc is None:
            return
        self._pending = True
        wait_s = self._drawn_s + PACE_S - time.monotonic()
        if wait_s > 0:
            doc.add_timeout_callback(self._draw, int(1000 * wait_s))
        else:
            doc.add_next_tick_callback(self._draw)  # the other edge of the span comes first

    def _draw(self) -> None:
        self._pending = False
        start, end = self._span.seen_ms
        beside, bar = BESIDE * (end - start), BAR[self._kind]
        width = column_width((end - start) * MILLISECOND, bar, at_most=COLUMNS)
        columns = columns_of(self._bars, start - beside, end + beside, width)
        candles = columns_seen(columns, start, end, width).height <= CANDLES
        from_ts, until_ts, length = _moment(start - beside), _moment(end + beside), pl.col("end") - pl.col("start")
        unknown = self._unknown.filter(pl.col("end") > from_ts, pl.col("start") < until_ts, length >= width / 2)
        self._chart.show(columns, width, unknown, (start, end), candles=candles)
        said = f'<p class="quiet">{_said(start, end, width, candles=candles)}</p>'
        self._says.object = self._chart.legend() + said
        self._drawn_s = time.monotonic()


def _moment(edge_ms: float) -> datetime:
    return datetime.fromtimestamp(edge_ms / 1000, UTC)


def _said(start_ms: float, end_ms: float, width: timedelta, *, candles: bool) -> str:
    unit, length = next((unit, length) for unit, length in UNITS.items() if width >= length)
    number = width // length
    every = unit if number == 1 else f"{number} {unit}s"
    drawn = "A candlestick" if candles else "Lowest to highest, and the close,"
    return f"{_moment(start_ms):%d %b %Y %H:%M} to {_moment(end_ms):%d %b %Y %H:%M} UTC. {drawn} for every {every}."
