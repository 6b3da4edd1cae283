"""The monitoring page: alerts of all models, one model's past, and the health of service and data."""

from collections.abc import Sequence
from threading import Lock

import panel as pn
from panel.viewable import Viewable

from dashboard.monitoring.incidents import incidents_view
from dashboard.monitoring.model_view import ModelView
from dashboard.monitoring.service import data_view, service_view
from dashboard.monitoring.silence_panel import SilencePanel
from dashboard.monitoring.watched import Alarms, WatchedLedger, watched_at
from dashboard.ui.blocks import Choice, alert, html, set_html, set_options
from dashboard.ui.loading import error_boundary
from dashboard.ui.page_context import PageContext
from dashboard.ui.selected_view import SelectedView
from lstm_ts import clock
from lstm_ts.ledger.alert_rows import Heartbeat

AGAIN = "This page retries automatically."


class AlertsView:
    """Alerts and silences; `load` reads the ledger and draws what has changed."""

    def __init__(self, context: PageContext, ledger: WatchedLedger) -> None:
        self._context, self._ledger = context, ledger
        self._seen: Alarms | None = None
        self._table = html(height=60)
        self._silences = SilencePanel(context, ledger, self.load)
        self.view = pn.Column(self._table, self._silences.view, sizing_mode="stretch_width", margin=0)

    @property
    def heartbeats(self) -> Sequence[Heartbeat]:
        return self._seen.heartbeats if self._seen else ()

    def load(self) -> None:
        """Raises    LedgerError"""
        alarms = self._ledger.alarms(clock.now())
        if alarms == self._seen:
            return
        text = incidents_view(alarms, self._context.zone)

        def draw() -> None:
            self._table.object = text
            self._silences.update(alarms)

        self._seen = alarms
        pn.state.execute(draw)


class LedgerViews:
    """The parts of the page that come from the ledger."""

    def __init__(self, context: PageContext, ledger: WatchedLedger) -> None:
        self._context, self._ledger = context, ledger
        self.alerts = AlertsView(context, ledger)
        self._name = Choice(label="Model", width=200, margin=(12, 0, 4, 0))
        self._models: dict[str, ModelView] = {}
        names = self._list_names()
        set_options(self._name, {name: name for name in names}, names[0])
        selected = SelectedView(self._make, self._name, min_height=560)
        self.view = pn.Column(
            html("<h2>Alerts</h2>"), self.alerts.view, self._name, selected.view, sizing_mode="stretch_width", margin=0
        )

    def load(self) -> None:
        """Raises    LedgerError"""
        self.alerts.load()
        names = self._list_names()
        if names != list(self._name.options):
            pn.state.execute(lambda: set_options(self._name, {name: name for name in names}, self._name.value))
        if shown := self._models.get(self._name.value):  # none yet while it is being made
            shown.load()

    def _list_names(self) -> list[str]:
        """Return the registered names; the configured one comes first, even if it was never watched."""
        return list(dict.fromkeys([self._context.settings.name, *self._ledger.names()]))

    def _make(self, name: str) -> Viewable:
        shown = self._models.get(name) or ModelView(self._context, self._ledger, name)
        shown.load()
        self._models[name] = shown
        return shown.view


class Monitoring:
    """The page; if one part cannot be read, the others still show."""

    def __init__(self, context: PageContext) -> None:
        self._context, self._polling = context, Lock()
        self._views: LedgerViews | None = None
        self._trouble, self._service, self._data = html(), html(height=120), html(height=80)
        self._place = pn.Column(sizing_mode="stretch_width", margin=0)
        self.view = pn.Column(
            self._trouble, self._place, html("<h2>Service and data</h2>"), self._service, self._data,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip

    def poll(self) -> None:
        if not self._polling.acquire(blocking=False):
            return
        try:
            trouble: list[str] = []
            with error_boundary(lambda text: trouble.append(alert(f"{text} {AGAIN}"))):
                self._load_ledger()
            set_html(self._trouble, "".join(trouble))
            with error_boundary(lambda text: set_html(self._service, alert(text))):
                self._load_health()
        finally:
            self._polling.release()

    def _load_ledger(self) -> None:
        if self._views is None:
            settings = self._context.settings
            views = LedgerViews(self._context, watched_at(settings.ledger_url))
            views.load()
            self._views = views
            pn.state.execute(lambda: self._place.append(views.view))
        else:
            self._views.load()

    def _load_health(self) -> None:
        context, beats = self._context, self._views.alerts.heartbeats if self._views else ()
        set_html(self._service, service_view(context.client))
        set_html(self._data, data_view(context.client, beats, context.zone, clock.now()))


def page(context: PageContext) -> Viewable:
    monitoring = Monitoring(context)
    monitoring.poll()
    pn.state.add_periodic_callback(monitoring.poll, period=int(1000 * context.settings.poll_s))
    return monitoring.view
