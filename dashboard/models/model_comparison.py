"""Two versions side by side, on the same hours."""

from datetime import timedelta
from html import escape
from threading import Lock

import panel as pn

from dashboard.models.registry_client import RegistryClient
from dashboard.models.version_tables import comparison_table, comparison_words, label, overlap_words
from dashboard.ui.blocks import Choice, alert, html
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.session import HOUR
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.version import CHAMPION, Version
from lstm_ts.scoring.comparison import compare_records

WEEKS = (4, 13, 26)  # no more: a year of hours takes 400 MB for as long as it is forecast
RUNNING = Lock()  # one comparison at a time: they take a core each
HINT = '<p class="quiet">Choose two versions: both forecast the same hours again.</p>'


class ModelComparison:
    def __init__(self, context: PageContext, registered: RegistryClient, name: str) -> None:
        self._context, self._registered, self._name = context, registered, name
        self._first, self._second = (
            Choice(label=which, width=220, margin=(4, 16, 4, 0)) for which in ("Version", "Against")
        )
        spans = {f"last {weeks} weeks": weeks for weeks in WEEKS}
        self._weeks = Choice(label="Stored hours", options=spans, value=WEEKS[1], width=160, margin=(4, 16, 4, 0))
        self._button = pn.widgets.Button(label="Compare", color="primary", margin=(26, 0, 4, 0))
        self._button.on_click(lambda _: self._compare())
        self._why = html()
        self._found = html(HINT, height=120)
        for widget in (self._first, self._second, self._weeks):
            widget.param.watch(lambda _: pn.state.execute(self._start_over), "value")
        self.view = pn.Column(
            pn.FlexBox(self._first, self._second, self._weeks, self._button), self._why, self._found,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip

    def update(self, versions: list[Version]) -> None:
        """versions    newest first"""
        self._retrain = self._context.settings.command("retrain", self._name, versions[0].tags.get("symbol", ""))
        options = {label(version): version.number for version in versions}
        first, second = choose_pair(versions)
        for widget, number in ((self._first, first), (self._second, second)):
            widget.param.update(options=options, value=widget.value or number)
        self._judge()

    @property
    def _chosen(self) -> tuple[int, int, int]:
        return self._first.value, self._second.value, self._weeks.value

    def _start_over(self) -> None:
        """Leave nothing on the page that belongs to another choice."""
        self._found.object = HINT
        self._judge()

    def _judge(self) -> None:
        """Offer the comparison where there is one to make."""
        why = why_not(len(self._first.options), self._first.value, self._second.value, self._retrain)
        self._button.disabled, self._why.object = bool(why), f'<p class="quiet">{escape(why)}</p>' if why else ""

    def _compare(self) -> None:
        chosen = self._chosen
        self._show(chosen, "")
        with asking(self._found, lambda text: self._show(chosen, alert(text))):
            if not RUNNING.acquire(blocking=False):
                raise ConfigError("Another comparison is running; try again in a moment.")
            try:
                self._show(chosen, self._words(*chosen))
            finally:
                RUNNING.release()

    def _words(self, first: int, second: int, weeks: int) -> str:
        models = {number: self._registered.load(self._name, number) for number in (first, second)}
        symbol, client = models[first].provenance.symbol, self._context.client
        bars = client.hourly_bars(symbol)
        start = bars["ts"][-1] + HOUR - timedelta(weeks=weeks)
        one, other = (evaluate(model, bars, Span(start, None)) for model in models.values())
        found = compare_records(one, other)
        source = client.source_of(symbol)
        warned = [overlap_words(number, model, found.first_origin) for number, model in models.items()]
        warned += [mixed_words(number, model, source) for number, model in models.items()]
        alerts = "".join(alert(text) for text in warned if text)
        return alerts + comparison_words(found, self._context.zone) + comparison_table(found, first, second)

    def _show(self, chosen: tuple[int, int, int], text: str) -> None:
        """Show what was found of a choice, unless there is another one by now."""
        pn.state.execute(lambda: setattr(self._found, "object", text) if chosen == self._chosen else None)


def why_not(count: int, first: int, second: int, retrain: str) -> str:
    """Why nothing can be compared; empty where it can."""
    if count < 2:
        return f"There is one version, and nothing to compare it with; {retrain} makes another."
    return "Choose two different versions." if first == second else ""


def choose_pair(versions: list[Version]) -> tuple[int, int]:
    """The champion, and the challenger or else the newest other; newest first, and never none."""
    holders = {alias: version.number for version in versions for alias in version.aliases}
    first = holders.get(CHAMPION, versions[0].number)
    others = [version.number for version in versions if version.number != first]
    return first, holders.get("challenger", others[0] if others else first)


def mixed_words(number: int, model: Forecaster, source: str) -> str:
    if is_synthetic(model.provenance.source) == is_synthetic(source):
        return ""
    return f"Version {number} was trained on {model.provenance.source}, and the stored hours are from {source}."
