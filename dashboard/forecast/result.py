"""View of a forecast: chart, sentences, table, downloads, and a command line that requests the same forecast."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from html import escape
from io import StringIO
from typing import Any

import panel as pn
import polars as pl

from dashboard.client import Answer
from dashboard.forecast.fan_chart import FanChart
from dashboard.forecast.figures import figures
from dashboard.monitoring.past_forecasts import make_path
from dashboard.monitoring.watched import Past, watched_at
from dashboard.ui.blocks import Choice, alert, chart, folded, html, set_options
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from dashboard.ui.text import curl, outcome_words, short, to_csv, trust, warnings
from dashboard.ui.views import path_table
from lstm_ts import clock
from lstm_ts.errors import LedgerError
from lstm_ts.http_schema import ForecastReply
from lstm_ts.market.bars import HOURLY_SCHEMA

NOTHING, NO_PAST = pl.DataFrame(schema=HOURLY_SCHEMA), Past([], {})
HINT = (
    '<p class="quiet">A click on the fan chooses the step. The wheel shows more or less history, a mouse drags it; '
    "closed hours are left out.</p>"
)


class Result:
    """View of a forecast, empty before the first, with reserved space. Its methods may be called in any thread."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context = context
        self._answer: Answer | None = None
        self._body: bytes | None = None
        self._step, self._is_past, self._past = 0, False, NO_PAST
        session = context.settings.session_of(symbol)
        self._chart = FanChart(session, context.zone, dark=context.dark, choose=self._choose)
        self._figures, self._scored, self._flags, self._wrong = html(height=74), html(), html(), html()
        self._legend, self._trust, self._table, self._curl = html(), html(), html(), html()
        self._pick = Choice(label="Session hours ahead", width=250, margin=(0, 16, 4, 0))
        self._pick.param.watch(lambda event: self._choose(event.new), "value")
        self._window = self._file("Window as JSON", "window.json", lambda _: (self._body or b"").decode())
        self._files = pn.FlexBox(
            self._file("Forecast as CSV", "forecast.csv", lambda answer: to_csv(answer.forecast)),
            self._file("Forecast as JSON", "forecast.json", lambda answer: answer.body.decode()),
            self._window,
        )
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self._details = pn.Column(
            self._legend, pn.FlexBox(self._pick, *self._chart.buttons), html(HINT), self._scored, self._table,
            self._trust, self._files, self._curl, visible=False, **wide,
        )  # fmt: skip
        self._picture = pn.Column(chart(self._chart.plot), visible=False, **wide)
        room = pn.Column(self._picture, min_height=self._chart.plot.height, **wide)
        self.view = pn.Column(self._wrong, self._figures, self._flags, room, self._details, **wide)

    def _file(self, label: str, name: str, content: Callable[[Answer], str]) -> pn.widgets.FileDownload:
        def write() -> StringIO:
            return StringIO(content(self._answer) if self._answer else "")

        return pn.widgets.FileDownload(callback=write, filename=name, label=label, height=36, margin=(4, 8, 4, 0))

    def show(
        self, answer: Answer, bars: pl.DataFrame, *, body: bytes | None, after: pl.DataFrame | None = None
    ) -> None:
        """body     request that was sent; None: the forecast is of the service's own bars
        after    bars that followed; None: the forecast is not to be compared with any
        """

        past = NO_PAST if body is not None else self._read_past(answer.forecast)

        def draw() -> None:
            self._answer, self._body, self._is_past, self._past = answer, body, after is not None, past
            forecast, context = answer.forecast, self._context
            horizon = len(forecast.path)
            self._step = min(self._step, horizon) or horizon
            self._chart.show(bars, forecast, NOTHING if after is None else after)
            command = curl(context.settings.service.url, forecast.symbol, key=bool(context.settings.service.key),
                           window=body is not None)  # fmt: skip
            self._wrong.object = ""
            self._scored.object = "" if after is None else outcome_words(forecast, after)
            self._flags.object = warnings(forecast, past=self._is_past)
            self._trust.object = trust(forecast)
            self._table.object = folded(f"All {horizon} steps", path_table(forecast, context.zone))
            self._curl.object = f'<p class="quiet">The same on a command line:</p><pre>{escape(command)}</pre>'
            self._window.visible = body is not None
            self._draw_step()
            self._picture.visible = self._details.visible = True

        pn.state.execute(draw)

    def _read_past(self, forecast: ForecastReply) -> Past:
        """Return the past forecasts that the monitor has stored of the version that answers; none without a ledger."""
        model = forecast.model
        try:
            past = watched_at(self._context.settings.ledger_url).past(model.name, model.version)
        except LedgerError:
            return NO_PAST
        return past if past.forecasts and past.forecasts[0].symbol == forecast.symbol else NO_PAST

    def _choose(self, step: int) -> None:
        def draw() -> None:
            if self._answer and step and step != self._step:
                self._step = step
                self._draw_step()

        pn.state.execute(draw)

    def _draw_step(self) -> None:
        """Draw everything that depends on the chosen step."""
        assert self._answer
        forecast, step, past = self._answer.forecast, self._step, self._past
        path = make_path(past.forecasts, past.close_by_target, step) if past.forecasts else None
        self._chart.show_past(path, step)
        self._chart.mark(step)
        said = f"80 % interval that was forecast {step} h before (shaded), and its median (dashes)" if path else ""
        self._legend.object = self._chart.legend(past=said)
        zone = self._context.zone
        steps = {f"{at} · {short(each.target_ts, zone)}": at for at, each in enumerate(forecast.path, start=1)}
        set_options(self._pick, steps, step)
        self.tick()

    def tick(self) -> None:
        """Update the figures to the present age of the data."""

        def draw() -> None:
            if self._answer:
                self._figures.object = figures(
                    self._answer.forecast, self._step, self._context.zone, clock.now(), past=self._is_past
                )

        pn.state.execute(draw)

    def fail(self, text: str, *, keep: bool = False) -> None:
        """keep    whether the forecast stays on the page, since it is still valid for its bars"""

        def draw() -> None:
            self._wrong.object = alert(text) if text else ""
            if not keep:
                self._answer = None
                self._figures.object = self._flags.object = ""
                self._picture.visible = self._details.visible = False

        pn.state.execute(draw)

    def asking(self) -> AbstractContextManager[None]:
        return asking(self.view, self.fail)
