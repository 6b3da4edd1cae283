"""A forecast on the page: picture, sentences, table, downloads, and how to ask the same elsewhere."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from html import escape
from io import StringIO
from typing import Any

import panel as pn
import polars as pl

from dashboard.client import Answer
from dashboard.ui.blocks import alert, html
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from dashboard.ui.text import curl, headline, outcome_words, to_csv, trust
from dashboard.ui.views import FanChart, path_table
from lstm_ts.market.bars import HOURLY_SCHEMA

NOTHING = pl.DataFrame(schema=HOURLY_SCHEMA)


class Result:
    """Empty until the first forecast; its room is kept free. Its methods may be called in any thread."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context = context
        self._answer: Answer | None = None
        self._body: bytes | None = None
        self._chart = FanChart(context.settings.session_of(symbol), context.zone, dark=context.dark)
        self._says, self._wrong = html(height=52), html()
        self._legend, self._trust, self._table, self._curl = html(), html(), html(), html()
        self._window = self._file("Window as JSON", "window.json", lambda _: (self._body or b"").decode())
        self._files = pn.FlexBox(
            self._file("Forecast as CSV", "forecast.csv", lambda answer: to_csv(answer.forecast)),
            self._file("Forecast as JSON", "forecast.json", lambda answer: answer.body.decode()),
            self._window,
        )
        self._told = pn.Column(
            self._legend, self._trust, self._table, self._files, self._curl, sizing_mode="stretch_width", visible=False
        )
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self._picture = pn.Column(pn.pane.Bokeh(self._chart.plot, **wide), visible=False, **wide)
        room = pn.Column(self._picture, min_height=self._chart.plot.height, **wide)
        self.view = pn.Column(self._wrong, self._says, room, self._told, **wide)

    def _file(self, label: str, name: str, content: Callable[[Answer], str]) -> pn.widgets.FileDownload:
        def write() -> StringIO:
            return StringIO(content(self._answer) if self._answer else "")

        return pn.widgets.FileDownload(callback=write, filename=name, label=label, height=36, margin=(4, 8, 4, 0))

    def show(
        self, answer: Answer, bars: pl.DataFrame, *, body: bytes | None, after: pl.DataFrame | None = None
    ) -> None:
        """body     what was sent, null for the service's own bars
        after    what came next; null where this is not asked
        """

        def draw() -> None:
            self._answer, self._body = answer, body
            forecast, context = answer.forecast, self._context
            self._chart.show(bars, forecast, NOTHING if after is None else after)
            scored = "" if after is None else outcome_words(forecast, after)
            command = curl(context.settings.service.url, forecast.symbol, key=bool(context.settings.service.key),
                           window=body is not None)  # fmt: skip
            self._wrong.object = ""
            self._says.object = headline(forecast, context.zone) + scored
            self._legend.object = self._chart.legend(after=after is not None)
            self._trust.object = trust(forecast, past=after is not None)
            self._table.object = path_table(forecast, context.zone)
            self._curl.object = f'<p class="quiet">The same on a command line:</p><pre>{escape(command)}</pre>'
            self._window.visible = body is not None
            self._picture.visible = self._told.visible = True

        pn.state.execute(draw)

    def fail(self, text: str, *, keep: bool = False) -> None:
        """keep    the forecast that is shown, which is still true of its bars"""

        def draw() -> None:
            self._wrong.object = alert(text) if text else ""
            if not keep:
                self._answer = None
                self._says.object, self._picture.visible, self._told.visible = "", False, False

        pn.state.execute(draw)

    def asking(self) -> AbstractContextManager[None]:
        return asking(self.view, self.fail)
