"""The data page: coverage of the stored minutes, and the prices."""

from html import escape
from typing import Any

import panel as pn
import polars as pl
from bokeh.events import Event, Tap
from panel.viewable import Viewable

from dashboard.data.bar_cache import MINUTES, Known, stored
from dashboard.data.coverage import (
    MonthChart,
    calendar,
    in_words,
    month_label,
    month_words,
    revisions,
    spans,
    state_legend,
    waiting_words,
)
from dashboard.data.explorer import Explorer
from dashboard.ui.blocks import ButtonChoice, Choice, chart, html, problem, symbol_list
from dashboard.ui.page_context import PageContext
from dashboard.ui.selected_view import SelectedView
from dashboard.ui.views import shade
from lstm_ts.errors import LstmTsError
from lstm_ts.market.bars import TS
from lstm_ts.market.prices import Quote

NONE_UNKNOWN = pl.DataFrame(schema={"start": TS, "end": TS})
HOURS_ALONE = (
    '<p class="quiet">Hours of {} are stored, which Prices shows, but no minutes, of which it would be known what is '
    "missing.</p>"
)
TIME = "%a %d %b %Y %H:%M"


class Coverage:
    """View of the coverage at the time of the request."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        """Raises    NoRows, DataError, LedgerError"""
        known = stored(context.settings).known(symbol)
        self._days, self._colours = known.days, shade(context.dark)
        self._coverage = {row["month"]: row for row in known.status.coverage.iter_rows(named=True)}
        self._chart = MonthChart(known.status.coverage, self._colours)
        self._chart.plot.on_event(Tap, self._tapped)
        months = {month_label(row): month for month, row in reversed(self._coverage.items())}
        self._month = Choice(name="Month", options=months, width=240, margin=(12, 0, 4, 0))
        self._month.param.watch(lambda _: pn.state.execute(self._show), "value")
        self._says, self._calendar = html(height=28), html()
        listed = lists(known, context.settings.quote_of(symbol))
        self._show()
        picture = chart(self._chart.plot)
        self.view = pn.Column(
            html(in_words(known.status) + describe_source(context, known)), picture,
            html(state_legend(self._colours) + waiting_words(known.status.coverage)),
            self._month, self._says, self._calendar, *listed, sizing_mode="stretch_width", margin=0,
        )  # fmt: skip

    def _tapped(self, event: Event) -> None:
        assert isinstance(event, Tap)
        if month := self._chart.month_at(event.x):
            self._month.value = month

    def _show(self) -> None:
        month = self._month.value
        self._chart.mark(month)
        self._says.object = month_words(self._coverage[month])
        self._calendar.object = calendar(self._days, month, self._colours)


def describe_source(context: PageContext, known: Known) -> str:
    """Return a sentence about the source of the bars, their last change, and the last answer of a source."""
    zone = context.zone
    text = f"The bars come from {escape(known.source)}. They changed last on {known.changed_at.astimezone(zone):{TIME}}"
    if not known.answers:
        return f'<p class="quiet">{text} ({escape(zone.key)}); no source has vouched for what is missing.</p>'
    at, until = max(answer.at for answer in known.answers), max(answer.end for answer in known.answers)
    answered = f"a source last answered on {at.astimezone(zone):{TIME}} ({escape(zone.key)}), until {until:{TIME}} UTC"
    return f'<p class="quiet">{text}; {answered}.</p>'


def lists(known: Known, quote: Quote | None) -> list[Viewable]:
    status = known.status
    gaps = spans("Largest gaps, of session minutes without a bar", status.gaps, "No session minute is without a bar.")
    unknown = spans("Unknown: no source has answered for them", status.unknown, "No session minute is unknown.")
    room: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (12, 0, 0, 0)}
    return [pn.Column(html(text), **room) for text in (gaps, unknown, revisions(status.revisions, quote))]


class Prices:
    """View of the minutes or the hours; each keeps the span that was displayed last."""

    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context, self._symbol, self._made = context, symbol, dict[str, Explorer]()
        kinds = stored(context.settings).kinds(symbol)
        self._kind = ButtonChoice(name="Bars", options=kinds, value=kinds[0], margin=(8, 0))
        self._unknown, text = self._read_unknown() if MINUTES in kinds else (NONE_UNKNOWN, "")
        selected = SelectedView(self._build, self._kind, min_height=560)
        self.view = pn.Column(self._kind, html(text), selected.view, sizing_mode="stretch_width", margin=0)

    def _read_unknown(self) -> tuple[pl.DataFrame, str]:
        """Return the unknown spans, or none and the reason why they cannot be read: prices need no ledger."""
        try:
            return stored(self._context.settings).known(self._symbol).unknown, ""
        except LstmTsError as error:
            return NONE_UNKNOWN, f'<p class="quiet">Unknown time is not marked: {escape(str(error))}</p>'

    def _build(self, kind: str) -> Viewable:
        if kind not in self._made:
            self._made[kind] = Explorer(self._context, self._symbol, kind, self._unknown)
        return self._made[kind].view

    def poll(self) -> None:
        if shown := self._made.get(self._kind.value):  # none yet while it is being built
            shown.poll()


def page(context: PageContext) -> Viewable:
    symbol = symbol_list(stored(context.settings).symbols())
    way = ButtonChoice(name="View", options=["Coverage", "Prices"], margin=(26, 0, 0, 0))
    prices: dict[str, Prices] = {}

    def build(name: str, wanted: str) -> Viewable:
        kinds = stored(context.settings).kinds(name)
        if not kinds:
            ingest = f"python -m lstm_ts.ingest symbol={name}{context.settings.typed_paths}"
            return problem(f"No bars of {name} are stored. Run {ingest}, then load this page again.")
        if wanted == "Coverage" and MINUTES not in kinds:
            return html(HOURS_ALONE.format(escape(name)))
        if wanted == "Coverage":
            return Coverage(context, name).view
        if name not in prices:
            prices[name] = Prices(context, name)
        return prices[name].view

    def poll() -> None:
        shown = prices.get(symbol.value)
        if shown and way.value == "Prices":
            shown.poll()

    selected = SelectedView(build, symbol, way, min_height=720)
    pn.state.add_periodic_callback(poll, period=int(1000 * context.settings.poll_s))
    return pn.Column(pn.FlexBox(symbol, way), selected.view, sizing_mode="stretch_width", margin=0)
