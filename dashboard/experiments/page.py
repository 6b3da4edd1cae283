"""Experiments: the local runs and sweeps, their scores by parameter, and one of them closely."""

from collections.abc import Callable
from html import escape
from threading import Lock
from typing import Any

import panel as pn
from panel.viewable import Viewable

from dashboard.experiments.runs import Run, differing, read_runs
from dashboard.experiments.scatter import HEIGHT, Scatter, Score, scores_of
from dashboard.experiments.scoreboard import details, groups, label, listing, spans_words
from dashboard.ui.blocks import html
from dashboard.ui.page_context import PageContext
from dashboard.ui.views import shade

ALIKE = """<p class="quiet">There is nothing to compare yet: no two scored runs have different parameters. A sweep makes
them:</p><pre>python -m lstm_ts.train +experiment=sweep_capacity</pre>"""


class Experiments:
    """Read again now and then, drawn again when a run has come or gone on."""

    def __init__(self, context: PageContext) -> None:
        self._context, self._reading, self._offering = context, Lock(), False
        self._runs: list[Run] | None = None
        self._groups: dict[str, list[Run]] = {}
        self._scores: dict[str, Score] = {}
        self._scatter: Scatter | None = None
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self._show, self._parameter, self._score, self._run = (
            pn.widgets.Select(name=name, options={}, width=width, margin=(4, 16, 4, 0))
            for name, width in (("Show", 320), ("Parameter", 240), ("Score", 340), ("Run", 340))
        )
        self._none, self._table, self._alike = html(height=80), html(height=160), html()
        self._under, self._details = html(), html(height=200)
        self._picture = pn.Column(min_height=HEIGHT, **wide)
        self._compared = pn.Column(pn.FlexBox(self._parameter, self._score), self._picture, self._under, **wide)
        self._some = pn.Column(
            self._show, self._table, html("<h2>Scores by parameter</h2>"), self._alike, self._compared,
            html("<h2>One run</h2>"), self._run, self._details, visible=False, **wide,
        )  # fmt: skip
        self.view = pn.Column(self._none, self._some, **wide)
        for widget, draw in (
            (self._show, self._draw_group),
            (self._parameter, self._draw_picture),
            (self._score, self._draw_picture),
            (self._run, self._draw_run),
        ):
            widget.param.watch(self._when_chosen(draw), "value")

    def _when_chosen(self, draw: Callable[[], None]) -> Callable[[object], None]:
        def drawn(_: object) -> None:
            if not self._offering:
                pn.state.execute(draw)

        return drawn

    def look(self) -> None:
        if not self._reading.acquire(blocking=False):
            return
        try:
            runs = read_runs(self._context.settings.outputs)
            if runs != self._runs:
                self._runs = runs
                pn.state.execute(lambda: self._draw(runs))
        finally:
            self._reading.release()

    def _draw(self, runs: list[Run]) -> None:
        """This and the others below run where the page may be changed."""
        self._none.object, self._none.visible = _invitation(self._context), not runs
        self._some.visible = bool(runs)
        if runs:
            self._groups = groups(runs, self._context.zone)
            self._offer(self._show, {f"{name} ({len(members)})": name for name, members in self._groups.items()})
            self._draw_group()

    def _shown(self) -> list[Run]:
        return self._groups[self._show.value]

    def _chosen(self) -> Run | None:
        return next((run for run in self._shown() if str(run.folder) == self._run.value), None)

    def _draw_group(self) -> None:
        runs, zone = self._shown(), self._context.zone
        self._table.object = listing(runs, zone)
        self._scores = {score.label: score for score in scores_of(runs)}
        parameters = differing([run for run in runs if run.horizons])
        self._offer(self._parameter, {name: name for name in parameters})
        self._offer(self._score, {label: label for label in self._scores})
        self._offer(self._run, {label(run, zone): str(run.folder) for run in runs})
        self._compared.visible = comparable = bool(parameters and self._scores)
        self._alike.object = "" if comparable else ALIKE
        self._under.object = spans_words(runs)
        self._draw_picture()
        self._draw_run()

    def _draw_picture(self) -> None:
        if self._compared.visible:
            context, score = self._context, self._scores[self._score.value]
            colours = shade(context.dark)
            self._scatter = Scatter(self._shown(), self._parameter.value, score, colours, context.zone, self._choose)
            self._scatter.mark(self._chosen())
            self._picture[:] = [pn.pane.Bokeh(self._scatter.plot, sizing_mode="stretch_width", margin=0)]

    def _choose(self, run: Run) -> None:
        self._run.value = str(run.folder)

    def _draw_run(self) -> None:
        if chosen := self._chosen():
            self._details.object = details(chosen, self._shown(), self._context.zone)
        if self._scatter:
            self._scatter.mark(chosen)

    def _offer(self, select: pn.widgets.Select, options: dict[str, str]) -> None:
        """What was chosen stays, where it still can be."""
        value = select.value if select.value in options.values() else next(iter(options.values()), None)
        self._offering = True
        select.param.update(options=options, value=value)
        self._offering = False


def _invitation(context: PageContext) -> str:
    settings = context.settings
    command = (
        f"python -m lstm_ts.train +experiment=quickstart paths.data={settings.data} paths.outputs={settings.outputs}"
    )
    return f"<p>No run is found under {escape(str(settings.outputs))}. Train one:</p><pre>{escape(command)}</pre>"


def page(context: PageContext) -> Viewable:
    experiments = Experiments(context)
    experiments.look()
    pn.state.add_periodic_callback(experiments.look, period=int(1000 * context.settings.poll_s))
    return experiments.view
