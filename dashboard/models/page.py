"""The models page: versions and the decisions about them, past and present champions, two versions compared."""

from threading import Lock

import panel as pn
from panel.viewable import Viewable

from dashboard.models.model_comparison import ModelComparison
from dashboard.models.promotion_panel import PromotionPanel
from dashboard.models.registry_client import RegistryClient, registered_at
from dashboard.models.timeline import HEIGHT, timeline
from dashboard.models.version_tables import checks_table, facts, history_table, label, scores_table, versions_table
from dashboard.ui.blocks import Choice, alert, chart, html, set_html
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from dashboard.ui.selected_view import SelectedView
from lstm_ts import clock
from lstm_ts.errors import RegistryError
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.registry.version import CHAMPION, Version

LISTED = 20  # the newest; the others can be chosen too
NO_VERSION = "No version of {} is registered yet; {} trains and registers a first one."


class Models:
    """The models page of one registered name."""

    def __init__(self, context: PageContext, registered: RegistryClient, name: str) -> None:
        self._context, self._registered, self._name = context, registered, name
        self._versions: list[Version] = []
        self._chosen, self._choosing = 0, Lock()
        self._list, self._about, self._changes = html(height=80), html(height=200), html()
        self._version = Choice(label="Version", width=280, margin=(4, 0))
        self._moves = PromotionPanel(context, registered, name, self.load)
        self._pair = ModelComparison(context, registered, name)
        self._picture = pn.Column(sizing_mode="stretch_width", margin=0, min_height=HEIGHT)
        self.view = pn.Column(
            self._list, self._version, self._about,
            html("<h2>Change what serves</h2>"), self._moves.view,
            html("<h2>Who was champion when</h2>"), self._picture, self._changes,
            html("<h2>Two versions side by side</h2>"), self._pair.view,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._version.param.watch(lambda _: pn.state.execute(self._load_chosen, schedule="thread"), "value")
        self.load()

    def load(self) -> None:
        """Read and draw everything again; the chosen version is kept.    Raises    RegistryError, LedgerError"""
        registered, zone = self._registered, self._context.zone
        self._versions = versions = registered.versions(self._name)
        listed = [(version, registered.registry.metrics(version)) for version in versions[:LISTED]]
        older = f'<p class="quiet">{len(versions) - LISTED} older ones can be chosen below.</p>'
        history = registered.history(self._name)
        chosen = self._chosen or versions[0].number

        def draw() -> None:
            self._list.object = versions_table(self._name, listed, zone) + older * (len(versions) > LISTED)
            options = {label(version): version.number for version in versions}
            self._version.param.update(options=options, value=chosen)
            self._changes.object = history_table(history, zone) if history else ""
            self._picture[:] = [self._draw(history)]
            self._pair.update(versions)

        with self._choosing:
            self._chosen = 0  # what is known of it may be another now
            self._choose(chosen)
        pn.state.execute(draw)

    def _draw(self, history: list[AliasChange]) -> Viewable:
        champions = [change for change in reversed(history) if change.alias == CHAMPION]
        if not champions:
            return html('<p class="quiet">No version has been champion yet.</p>')
        context = self._context
        plot = timeline(champions, clock.now(), context.zone, dark=context.dark)
        return chart(plot)

    def _load_chosen(self) -> None:
        with self._choosing:  # or the version that is read longest would be shown, not the one chosen last
            self._choose(self._version.value)

    def _choose(self, number: int) -> None:
        if number == self._chosen:  # set by `load`
            return
        self._chosen = number
        version = next(each for each in self._versions if each.number == number)
        self._set_about('<p class="quiet">Reading the version…</p>')  # not what is known of another one
        with asking(self._about, lambda text: self._set_about(alert(text))):
            self._moves.aim(version, self._versions)
            registry = self._registered.registry
            gate, forecaster = registry.read_gate(version), registry.load(version)
            self._set_about(
                facts(version, forecaster, gate, self._context.zone)
                + checks_table(version, gate)
                + scores_table(version, forecaster.scores)
            )

    def _set_about(self, text: str) -> None:
        set_html(self._about, text)


def page(context: PageContext) -> Viewable:
    settings = context.settings
    registered = registered_at(settings.registry_uri, settings.ledger_url)
    names = registered.registry.names()
    if not names:
        raise RegistryError(NO_VERSION.format(settings.name, settings.command("retrain", settings.name)))
    first = settings.name if settings.name in names else names[0]
    name = Choice(label="Model", options=names, value=first, width=200, margin=(4, 0), disabled=len(names) == 1)
    selected = SelectedView(lambda chosen: Models(context, registered, chosen).view, name, min_height=560)
    return pn.Column(name, selected.view, sizing_mode="stretch_width", margin=0)
