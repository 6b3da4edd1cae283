"""Shell of the dashboard: pages, theme, and the message in place of a page that cannot be shown.

A page is a function from a `PageContext` to a Panel viewable. It runs in a thread, while the browser reads the shell's
scripts or, if the browser has not sent its zone yet, once it has read them.
"""

import gc
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

import panel as pn
from panel.template import Template
from panel.theme import Native
from panel.theme.base import Inherit
from panel.viewable import Viewable

from dashboard.client import Client
from dashboard.data import page as data
from dashboard.experiments import page as experiments
from dashboard.forecast import page as forecast
from dashboard.monitoring import page as monitoring
from dashboard.settings import DashboardSettings
from dashboard.ui.blocks import problem, waiting
from dashboard.ui.loading import error_boundary
from dashboard.ui.page_context import PageContext

HERE = Path(__file__).parent
TEMPLATE, CSS = ((HERE / "ui" / name).read_text() for name in ("page.html", "page.css"))
JS = "".join((HERE / name).read_text() for name in ("forecast/bar_table.js", "ui/sorting.js", "ui/typing.js"))


class Theme(Native):
    """Style of Panel's widgets: readable in both themes, and the same on every page."""

    modifiers = {Viewable: {"stylesheets": [Inherit, (HERE / "ui" / "widgets.css").read_text()]}}  # noqa: RUF012


@dataclass(frozen=True)
class Page:
    slug: str
    title: str
    build: Callable[[PageContext], Viewable]


def _models(context: PageContext) -> Viewable:
    from dashboard.models import page as models  # seconds and 90 MB of libraries, of which the other pages need none

    return models.page(context)


def import_later() -> None:
    """Import the models page in a thread, so that neither the start nor the page's first visitor waits for it."""
    Thread(target=_import_models, daemon=True).start()


def _import_models() -> None:
    import_module("dashboard.models.page")
    gc.collect()
    # Panel's collections after each visit stop every thread, and skip what is frozen: a visitor's page must not be.
    if not any(type(each) is Template for each in gc.get_objects()):
        gc.freeze()


PAGES = (
    Page("forecast", "Forecast", forecast.page),
    Page("models", "Models", _models),
    Page("monitoring", "Monitoring", monitoring.page),
    Page("data", "Data", data.page),
    Page("experiments", "Experiments", experiments.page),
)


def shell(client: Client, settings: DashboardSettings) -> Template:
    """Return the shell of one visitor, by the cookies and the URL that the browser has sent."""
    wanted = pn.state.session_args.get("page", [b""])[0].decode(errors="replace")
    page = next((page for page in PAGES if page.slug == wanted), PAGES[0])
    context = PageContext(client, settings, zone=_zone(), dark=pn.state.cookies.get("theme") == "dark")
    place = pn.Column(waiting(), sizing_mode="stretch_width", min_height=600)
    shade = "dark" if context.dark else "default"
    pn.config.theme = shade  # type: ignore[misc]  # of this visitor's session
    template = Template(TEMPLATE, design=Theme, theme=Theme._themes[shade])
    template.add_panel("main", place)
    variables = {"pages": PAGES, "current": page, "css": CSS, "js": JS, "zone": context.zone.key, "shade": shade}
    for name, value in variables.items():
        template.add_variable(name, value)
    pn.state.execute(lambda: setattr(pn.state.curdoc, "title", f"{page.title} · lstm_ts"), schedule=True)
    view: Future[Viewable] = Future()
    build = partial(_build, page, context, view)
    if "zone" in pn.state.cookies:  # else the browser may load the page once more, for its zone
        # The thread begins at the next tick, since it would slow down the making of this shell.
        pn.state.execute(lambda: pn.state.execute(build, schedule="thread"), schedule=True)
    else:
        pn.state.onload(build)
    pn.state.onload(lambda: view.add_done_callback(partial(_show, place)))  # no thread waits for the view
    return template


def _zone() -> ZoneInfo:
    name = unquote(pn.state.cookies.get("zone", ""))
    return ZoneInfo(name if name in available_timezones() else "UTC")


def _build(page: Page, context: PageContext, view: Future[Viewable]) -> None:
    """Build the page in a thread, while the browser reads the shell's scripts."""
    doc = pn.state.curdoc
    with error_boundary(lambda text: view.set_result(problem(text))):
        try:
            view.set_result(page.build(context))
        except Exception:
            if doc and doc.session_context:
                raise  # else the visitor has left meanwhile


def _show(place: pn.Column, view: Future[Viewable]) -> None:
    """Show it once the browser has the document: Panel loses changes that are made while it is sent."""
    place[:] = [view.result()]  # in the thread that has built it, or that loads the document
