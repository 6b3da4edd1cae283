"""The experiments page: local runs and sweeps, their scores by parameter, and the details of one run."""

from collections.abc import Callable
from html import escape
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

import panel as pn
from panel.viewable import Viewable

from dashboard.experiments.comparison import MOST, comparison_table, curves_legend, loss_curves
from dashboard.experiments.runs import Run, differing, read_runs
from dashboard.experiments.scatter import HEIGHT, RunScore, Scatter, scores_of
from dashboard.experiments.scoreboard import details, groups, label, listing, matches, spans_of
from dashboard.ui.blocks import Choice, chart, html, kept
from dashboard.ui.page_context import PageContext
from dashboard.ui.views import shade

FILES = {"report.html": "Report", "scores.json": "Scores as JSON"}
AT_FIRST = 4  # runs that are compared
POINTS = """<p class="quiet">A point is a run, the dash above or below it the best baseline on the same hours, of a
validation loss that of har_rolling. Differences between runs are not tested.</p>"""
ALIKE = """<p class="quiet">There is nothing to compare yet: no two scored runs have different parameters. A sweep makes
them:</p><pre>python -m lstm_ts.train +experiment=sweep_capacity{}</pre>"""
NO_MATCH = '<p class="quiet">No run has all of these words: leave some out.</p>'


class Experiments:
    """View of the runs, which `refresh` reads again, and draws again if a run was added or has changed."""

    def __init__(self, context: PageContext) -> None:
        self._context, self._reading, self._offering = context, Lock(), False
        self._colours = shade(context.dark)
        self._runs: list[Run] | None = None
        self._groups: dict[str, list[Run]] = {}
        self._scores: dict[str, RunScore] = {}
        self._scatter: Scatter | None = None
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self._show, self._parameter, self._score, self._span, self._run = (
            Choice(name=name, options={}, width=width, margin=(4, 16, 4, 0))
            for name, width in (("Show", 320), ("Parameter", 240), ("Score", 340), ("Scored on", 300), ("Run", None))
        )
        self._run.param.update(sizing_mode="stretch_width", max_width=480)
        self._filter = pn.widgets.TextInput(name="Filter", placeholder="all of these words", width=240, margin=(4, 0))
        self._compare = pn.widgets.MultiSelect(
            name="Runs to compare", size=5, sizing_mode="stretch_width", max_width=420, margin=(4, 0)
        )
        self._none, self._table, self._alike = html(height=80), html(height=160), html()
        self._beside, self._under, self._details = html(), html(), html(height=200)
        self._curves, self._picture = pn.Column(min_height=300, **wide), pn.Column(min_height=HEIGHT, **wide)
        self._paths: dict[Path, str] = {}
        self._files = pn.FlexBox()
        scatter = pn.FlexBox(self._parameter, self._score, self._span)
        self._compared = pn.Column(scatter, self._picture, self._under, **wide)
        self._matching = pn.Column(
            html("<h2>Runs side by side</h2>"), self._compare, self._curves, self._beside,
            html("<h2>Scores by parameter</h2>"), self._alike, self._compared,
            html("<h2>One run</h2>"), self._run, self._files, self._details, **wide,
        )  # fmt: skip
        self._some = pn.Column(pn.FlexBox(self._show, self._filter), self._table, self._matching, visible=False, **wide)
        self.view = pn.Column(self._none, self._some, **wide)
        for widget, draw in (
            (self._show, self._draw_group),
            (self._compare, self._draw_comparison),
            (self._parameter, self._draw_picture),
            (self._score, self._draw_picture),
            (self._span, self._draw_picture),
            (self._run, self._draw_run),
        ):
            widget.param.watch(self._when_chosen(draw), "value")
        self._filter.param.watch(self._when_chosen(self._draw_group), "value_input")

    def _when_chosen(self, draw: Callable[[], None]) -> Callable[[object], None]:
        def drawn(_: object) -> None:
            if not self._offering:
                pn.state.execute(draw)

        return drawn

    def refresh(self) -> None:
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
        """Draw all runs; this and the methods below must be called where the document may be changed."""
        self._none.object, self._none.visible = _invitation(self._context), not runs
        self._some.visible = bool(runs)
        if runs:
            self._groups = groups(runs, self._context.zone)
            self._offer(self._show, {f"{name} ({len(members)})": name for name, members in self._groups.items()})
            self._draw_group()

    def _shown(self) -> list[Run]:
        wanted, zone = self._filter.value_input or "", self._context.zone
        return [run for run in self._groups[self._show.value] if matches(run, wanted, zone)]

    def _chosen(self) -> Run | None:
        return next((run for run in self._shown() if str(run.folder) == self._run.value), None)

    def _draw_group(self) -> None:
        runs, zone = self._shown(), self._context.zone
        self._table.object, self._matching.visible = listing(runs, zone) if runs else NO_MATCH, bool(runs)
        self._scores = {score.label: score for score in scores_of(runs)}
        parameters = differing([run for run in runs if run.horizons])
        labelled = {label(run, zone): str(run.folder) for run in runs}
        self._offer(self._parameter, {name: name for name in parameters})
        self._offer(self._score, {label: label for label in self._scores})
        self._offer(self._span, spans_of(runs))
        self._offer(self._run, labelled)
        self._offer_several(labelled)
        self._compared.visible = comparable = bool(parameters and self._scores)
        self._alike.object = "" if comparable else ALIKE.format(escape(self._context.settings.typed_paths))
        self._under.object = POINTS
        self._draw_comparison()
        self._draw_picture()
        self._draw_run()

    def _draw_comparison(self) -> None:
        chosen = [run for run in self._shown() if str(run.folder) in self._compare.value]
        runs, left_out = chosen[:MOST], f"Shown are the first {MOST} of {len(chosen)} runs." * (len(chosen) > MOST)
        zone, trained = self._context.zone, any(run.losses for run in runs)
        self._curves.visible = trained
        self._curves[:] = [chart(loss_curves(runs, self._colours, zone))] if trained else []
        said = curves_legend(runs, self._colours, zone) if trained else ""
        said += f"<p>{left_out}</p>" * bool(left_out)
        self._beside.object = said + comparison_table(runs, zone) if runs else ""

    def _draw_picture(self) -> None:
        if self._compared.visible:
            runs = [run for run in self._shown() if run.span == self._span.value]
            score, zone = self._scores[self._score.value], self._context.zone
            self._scatter = Scatter(runs, self._parameter.value, score, self._colours, zone, self._choose)
            self._scatter.mark(self._chosen())
            self._picture[:] = [chart(self._scatter.plot)]

    def _choose(self, run: Run) -> None:
        self._run.value = str(run.folder)

    def _draw_run(self) -> None:
        chosen, uri = self._chosen(), self._context.settings.registry_uri
        self._details.object = details(chosen, self._shown(), uri) if chosen else ""
        paths = files_of(chosen) if chosen else {}
        if paths != self._paths:
            self._paths, self._files[:] = paths, [_download(path, name) for path, name in paths.items()]
        if self._scatter:
            self._scatter.mark(chosen)

    def _offer(self, select: Choice, options: dict[str, str]) -> None:
        """Set the options; keep the chosen value if it is one of them, else choose the first."""
        self._offering = True
        select.param.update(options=options, value=kept(select, options))
        self._offering = False

    def _offer_several(self, options: dict[str, str]) -> None:
        kept = [folder for folder in self._compare.value if folder in options.values()]
        self._offering = True
        self._compare.param.update(options=options, value=kept or list(options.values())[:AT_FIRST])
        self._offering = False


def files_of(run: Run) -> dict[Path, str]:
    """Return names of the files with the scores of a run, those of further symbols with the symbol."""
    scores = run.folder / "scores"
    others = {path: path.name for path in scores.glob("*") if path.is_dir()}  # of a training or a retraining
    others |= {path: path.parent.name for path in run.folder.glob("*/scores")}  # of a backtest
    places = {scores: "", **{path: f", {symbol}" for path, symbol in sorted(others.items())}}
    found = {place / file: name + symbol for place, symbol in places.items() for file, name in FILES.items()}
    return {path: name for path, name in found.items() if path.exists()}


def _download(path: Path, name: str) -> pn.widgets.FileDownload:
    return pn.widgets.FileDownload(
        callback=lambda: StringIO(path.read_text()), filename=path.name, label=name, height=36, margin=(4, 8, 4, 0)
    )


def _invitation(context: PageContext) -> str:
    settings = context.settings
    command = (
        f"python -m lstm_ts.train +experiment=quickstart paths.data={settings.data} paths.outputs={settings.outputs}"
    )
    return f"<p>No run is found under {escape(str(settings.outputs))}. Train one:</p><pre>{escape(command)}</pre>"


def page(context: PageContext) -> Viewable:
    experiments = Experiments(context)
    experiments.refresh()
    pn.state.add_periodic_callback(experiments.refresh, period=int(1000 * context.settings.poll_s))
    return experiments.view
