"""The first page: a forecast, of the store's latest bars, of typed ones, or of a file."""

import logging
from collections.abc import Callable
from html import escape
from threading import Lock

import panel as pn
import polars as pl
from panel.viewable import Viewable

from dashboard.client import ServiceError
from dashboard.forecast.result import Result
from dashboard.forecast.typed_bars import TypedBars
from dashboard.forecast.upload import Upload
from dashboard.ui.blocks import ButtonChoice, html, set_html, symbol_list
from dashboard.ui.page_context import PageContext
from dashboard.ui.selected_view import SelectedView
from dashboard.ui.text import moments
from lstm_ts.market.session import HOUR

HISTORY = 1500  # session hours behind the fan: three months

log = logging.getLogger(__name__)

POLLING = Lock()  # of all visitors: while the service hangs, their polls take one thread of the pool


class LatestForecast:
    """The store's bars; asked again when they change, and when the service serves something else."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context, self._symbol, self._shown = context, symbol, ""
        self._result, self._status = Result(context, symbol), html(height=28)
        self.view = pn.Column(self._result.view, self._status, sizing_mode="stretch_width", margin=0)
        self.poll()

    def poll(self) -> None:
        client = self._context.client
        now = f"{client.bars_changed(self._symbol)} {client.serving()}"
        if now != self._shown:
            self._shown = ""  # until there is an answer
            with self._result.asking():
                if self._ask():
                    self._shown = now
        self._result.tick()

    def _ask(self) -> bool:
        client, zone = self._context.client, self._context.zone
        try:
            answer = client.latest(self._symbol)
        except ServiceError as error:
            self._result.fail(f"{error} This page retries automatically.", keep=True)
            return False
        origin = answer.forecast.origin_ts
        bars = client.hourly_bars(self._symbol, origin - 2 * HISTORY * HOUR)
        before = bars.filter(pl.col("ts") < origin)
        self._result.show(answer, before.tail(HISTORY), body=None)
        older = f" The chart begins {HISTORY:,} session hours before; older ones are under Data, Prices."
        text = (
            f'<p class="quiet">Stored bars until {moments(origin, zone)}, from '
            f"{escape(client.source_of(self._symbol))}. A new hour is shown when it is stored."
            f"{older * (before.height > HISTORY)}</p>"
        )
        set_html(self._status, text)
        return True


def page(context: PageContext) -> Viewable:
    """Three ways in, each with its own result, which stays while another is looked at."""
    symbol = symbol_list(context.client.symbols())
    ways: dict[str, Callable[[str], LatestForecast | TypedBars | Upload]] = {
        "Latest": lambda name: LatestForecast(context, name),
        "Type it in": lambda name: TypedBars(context, name),
        "Upload": lambda name: Upload(context, name),
    }
    way = ButtonChoice(name="Input", options=list(ways), value="Latest", margin=(4, 0))
    made: dict[tuple[str, str], LatestForecast | TypedBars | Upload] = {}

    def build(chosen: str, name: str) -> Viewable:
        if (chosen, name) not in made:
            made[chosen, name] = ways[chosen](name)
        return made[chosen, name].view

    def poll() -> None:
        shown = made.get((way.value, symbol.value))  # none yet while it is being built
        if shown and POLLING.acquire(blocking=False):  # else another visitor's poll runs, and the next one asks
            try:
                shown.poll()
            finally:
                POLLING.release()

    selected = SelectedView(build, way, symbol, min_height=560)
    pn.state.add_periodic_callback(poll, period=int(1000 * context.settings.poll_s))
    return pn.Column(pn.FlexBox(symbol, way, align_items="end"), selected.view, sizing_mode="stretch_width", margin=0)
