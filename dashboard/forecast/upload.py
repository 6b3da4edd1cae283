"""Upload: a file of bars, the hour that the forecast is made at, and the outcomes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import panel as pn
import polars as pl
from bokeh.events import Event, Tap
from bokeh.models import BasicTicker, ColumnDataSource, CustomJSTickFormatter

from dashboard.client import ServiceError
from dashboard.forecast.file_upload import COMING, FAILED, GONE, THERE, FileUpload, describe_failure
from dashboard.forecast.result import Result
from dashboard.forecast.upload_parser import ReadOptions, RecognisedFile, UploadedBars, read, recognise_file, unzip
from dashboard.ui.blocks import Choice, alert, chart, html
from dashboard.ui.loading import Coalesced, asking
from dashboard.ui.page_context import PageContext
from dashboard.ui.text import short
from dashboard.ui.views import plain_figure, shade, show_prices
from lstm_ts.errors import LstmTsError
from lstm_ts.market.prices import Quote, price_format
from lstm_ts.market.session import HOUR
from lstm_ts.request_body import write_request
from lstm_ts.sources.files.source import STAMPS

ORIGINS = 500  # the latest hours to choose from
DATE_ORDERS = {"as the file tells": "", "day first": "dayfirst", "month first": "monthfirst"}
DECIMAL_SIGNS = {"as the file tells": "", "a comma": "comma", "a point": "point"}
USUAL_ZONES = ("UTC", "Europe/London", "America/New_York", "America/New_York+7h")


class Upload:
    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context, self._symbol = context, symbol
        self._bars = pl.DataFrame()
        self._retry: Callable[[], None] | None = None  # what the service did not answer
        self._read, self._ask = Coalesced(self._read_file), Coalesced(self._predict)
        self._result = Result(context, symbol)
        limit = context.settings.upload.max_bytes
        self._drop = FileUpload(
            context.settings.uploads,
            limit,
            max_file_size=f"{limit // 1_000_000}MB",
            sizing_mode="stretch_width",
            margin=(4, 0),
        )
        zones = dict.fromkeys([*USUAL_ZONES, context.zone.key, *sorted(available_timezones())])
        look: dict[str, Any] = {"disabled": True, "margin": (4, 16, 4, 0)}
        self._zone = Choice(name="Zone of the file's stamps", options=list(zones), width=240, **look)
        self._dates = Choice(name="Dates such as 07/01/2025", options=DATE_ORDERS, width=200, **look)
        self._decimal = Choice(name="Decimal sign of prices", options=DECIMAL_SIGNS, width=180, **look)
        self._stamps = Choice(name="Bars are stamped when they", options=[*STAMPS], width=220, **look)
        self._choices = self._zone, self._dates, self._decimal, self._stamps
        self._origin = Choice(name="Forecast made at", options={}, width=350, **look)
        self._progress = pn.indicators.Progress(value=0, max=100, sizing_mode="stretch_width", visible=False)
        self._says = html(
            f'<p class="quiet">CSV or other text, xlsx or Parquet, also as gzip or zip: ticks, minutes or hours, up to '
            f"{limit // 1_000_000} MB; it is not kept.</p>",
            height=28,
        )
        self._overview = _Overview(context, context.settings.quote_of(symbol))
        self._overview.plot.on_event(Tap, self._tapped)
        picture = chart(self._overview.plot)
        self._picture = pn.Column(picture, sizing_mode="stretch_width", margin=0, visible=False)
        self.view = pn.Column(
            self._drop, self._progress, self._says,
            pn.FlexBox(*self._choices, self._origin), self._picture,
            self._result.view, sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._drop.param.watch(lambda _: self._on_state_change(), "state")
        self._drop.param.watch(lambda event: setattr(self._progress, "value", event.new), "percent")
        for choice in self._choices:
            choice.param.watch(lambda _: self._read(), "value")
        self._origin.param.watch(lambda _: self._ask(), "value")
        pn.state.on_session_destroyed(lambda _: self._drop.clean())

    def poll(self) -> None:
        """Ask again what the service did not answer, once it does."""
        if retry := self._retry:
            with suppress(LstmTsError):
                self._context.client.needs(self._symbol)
                retry()

    @contextmanager
    def _retry_if_unanswered(self, ask: Callable[[], None]) -> Iterator[None]:
        """Keep what the service does not answer, for `poll`."""
        try:
            yield
        except ServiceError:
            self._retry = ask
            raise

    def _on_state_change(self) -> None:
        state = self._drop.state
        self._progress.visible = state == COMING
        if state != THERE:
            self._retry = None
            self._clear()
        if state == COMING:
            self._says.object = '<p class="quiet">The file is on its way…</p>'
        elif state == FAILED:
            self._says.object = alert(self._drop.failure)
        elif state == THERE:
            self._read()
        elif state == GONE:
            self._says.object = ""
            for choice in self._choices:
                choice.disabled = True

    def _clear(self) -> None:
        """Leave nothing of the last file on the page."""
        self._bars = pl.DataFrame()
        self._picture.visible, self._origin.disabled = False, True
        self._origin.param.update(options={}, value=None)
        self._result.fail("")

    def _read_file(self) -> None:
        self._retry = None
        if self._drop.state != THERE:
            return
        path, name, settings = self._drop.path, self._drop.file_name, self._context.settings
        options = ReadOptions(
            self._zone.value, self._dates.value or None, self._decimal.value or None, self._stamps.value
        )
        self._draw(path, self._offer_options)
        try:
            unzip(path, name, settings.upload)
            found = recognise_file(path, name, self._symbol, options, settings.upload)
            done = read(path, name, self._symbol, options, found, settings, lambda n: self._show_progress(path, n))
            with self._retry_if_unanswered(self._read):
                needs = self._context.client.needs(self._symbol)
        except FileNotFoundError:  # removed meanwhile
            return
        except (LstmTsError, OSError) as error:
            refusal = describe_failure(error) if isinstance(error, OSError) else str(error)
            self._draw(path, lambda: self._refuse(refusal))
        else:
            self._draw(path, lambda: self._offer(done, needs.tsteps, found))

    def _draw(self, path: Path, draw: Callable[[], None]) -> None:
        """Draw what was read of a file, unless it has been removed, or another one has come."""
        pn.state.execute(lambda: draw() if self._drop.state == THERE and self._drop.path == path else None)

    def _offer_options(self) -> None:
        for choice in self._choices:
            choice.disabled = False

    def _show_progress(self, path: Path, rows: int) -> None:
        text = f'<p class="quiet">{rows:,} rows read…</p>'
        self._draw(path, lambda: setattr(self._says, "object", text))

    def _refuse(self, why: str) -> None:
        self._says.object = alert(why)
        self._clear()

    def _offer(self, done: UploadedBars, tsteps: int, found: RecognisedFile) -> None:
        """The hours to forecast from; the latest is taken."""
        self._bars = done.hourly_bars
        closings = (done.hourly_bars["ts"] + HOUR).to_list()[tsteps - 1 :][-ORIGINS:]
        zone, kind = self._context.zone, "minutes, made hours" if done.minutes else "hours"
        left_out = f", {done.rejected:,} of them bad and left out" if done.rejected else ""
        self._zone.disabled = done.zoned
        stamps = "stamps carry their zone" if done.zoned else f"stamps taken as {self._zone.value}"
        self._says.object = (
            f'<p class="quiet">{escape(self._drop.file_name)}: {escape(found.words)}; {stamps}. {done.rows:,} rows'
            f"{left_out}: {kind}; {done.hourly_bars.height:,} session hours.</p>"
        )
        told = [*(f"{doubt}; choose so." for doubt in done.doubts), *(f"{note}." for note in done.notes)]
        self._says.object += "".join(map(alert, told))
        if not closings:
            self._says.object += alert(f"{tsteps} hours are needed for one window; send a longer file.")
            self._clear()
            return
        self._overview.show(done.hourly_bars.tail(len(closings)))
        self._picture.visible, self._origin.disabled = True, False
        options = {f"{short(ts, zone)} ({ts:%d %b %H:%M} UTC)": ts for ts in reversed(closings)}
        again = self._origin.value == closings[-1]
        self._origin.param.update(options=options, value=closings[-1])
        if again:
            self._ask()

    def _tapped(self, event: Event) -> None:
        assert isinstance(event, Tap)
        if (ts := self._overview.closing_at(event.x)) and not self._origin.disabled:
            self._origin.value = ts

    def _predict(self) -> None:
        self._retry = None
        if (origin := self._origin.value) is None:
            return
        self._result.fail("")
        all_bars = self._bars

        def draw(show: Callable[[], None]) -> None:
            """Draw the answer, unless another hour is chosen by now, or the file has been removed."""
            pn.state.execute(lambda: show() if self._origin.value == origin and self._bars is all_bars else None)

        with (
            asking(self._result.view, lambda text: draw(lambda: self._result.fail(text))),
            self._retry_if_unanswered(self._ask),
        ):
            client = self._context.client
            needs, before = client.needs(self._symbol), pl.col("ts") < origin
            bars, after = all_bars.filter(before).tail(needs.tsteps), all_bars.filter(~before)
            body = write_request(self._symbol, bars).encode()
            answer = client.predict(body)

            def show() -> None:
                self._result.show(answer, bars, body=body, after=after.head(needs.horizon))
                self._overview.mark(origin)

            draw(show)


class _Overview:
    """Closes of the hours to choose from."""

    def __init__(self, context: PageContext, quote: Quote | None) -> None:
        self._quote = quote
        colours, self._zone = shade(context.dark), context.zone
        self.plot = plain_figure(colours, height=160)
        self._source, self._marked = ColumnDataSource({"x": [], "close": []}), ColumnDataSource({"x": []})
        self.plot.line("x", "close", source=self._source, color=colours.rising)
        self.plot.vspan("x", source=self._marked, color=colours.falling, line_width=2)
        self.plot.xaxis.axis_label = self._zone.key
        self._label = CustomJSTickFormatter(args={"labels": []}, code="return labels[tick] || ''")
        self.plot.xaxis.formatter = self._label
        self.plot.xaxis.ticker = BasicTicker(min_interval=1, desired_num_ticks=4, num_minor_ticks=0)
        self._closings: list[object] = []

    def show(self, bars: pl.DataFrame) -> None:
        show_prices(self.plot, price_format(self._quote, bars["close"][-1]))
        closings = (bars["ts"] + HOUR).to_list()
        self._closings = closings
        self._label.args = {"labels": [f"{ts.astimezone(self._zone):%d %b %Y\n%H:%M}" for ts in closings]}
        self._source.data = {"x": list(range(len(closings))), "close": bars["close"].to_list()}
        self._marked.data = {"x": []}

    def mark(self, closing: object) -> None:
        self._marked.data = {"x": [self._closings.index(closing)] if closing in self._closings else []}

    def closing_at(self, x: float | None) -> object:
        """The nearest hour."""
        if x is None or not self._closings:
            return None
        return self._closings[min(max(round(x), 0), len(self._closings) - 1)]
