"""View of one registered name: checks, past forecasts, skill, coverage, challenger."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from html import escape
from threading import Lock

import panel as pn
import polars as pl
from bokeh.plotting import figure
from panel.viewable import Viewable

from dashboard.monitoring.challenger import challenger_view
from dashboard.monitoring.checks import checks_table, find_checks
from dashboard.monitoring.hourly_coverage import coverage_chart, coverage_legend, describe_coverage, sum_hours
from dashboard.monitoring.live_skill import describe_skill, read_lines, skill_chart, skill_legend
from dashboard.monitoring.past_forecasts import PastForecasts, make_path
from dashboard.monitoring.watched import Past, Watched, WatchedLedger
from dashboard.ui.blocks import Choice, alert, chart, html, set_html, set_options
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from dashboard.ui.text import short
from dashboard.ui.views import shade
from lstm_ts import clock
from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.registry.version import ALIASES, CHAMPION

LATE_HOURS = 2  # session hours that have closed since the monitor's last run
NOT_RUN = (
    "<p><strong>The monitor has not run yet: <code>{command}</code>, best after each "
    "<code>process</code>.</strong> It forecasts each session hour from the next one on, with the champion and the "
    "challenger. An hour later the first outcome is known, and with it coverage and skill begin; an interval for the "
    "skill is there after {days} days. Feed, regime and concept are checked in every run.</p>"
)
NO_FORECAST = (
    "No forecast is kept of it: the monitor makes one for every session hour since a version was registered. Once the "
    "outcome of an hour is known, both stand here, one over the other."
)
FANS_PX, SKILL_PX = 480, 300  # room of a picture, kept while another one takes its place
NO_SCORE = "No forecast has been scored yet: {what} is there once outcomes are known."


@dataclass(frozen=True)
class Seen:
    """The data of one drawn state of the view."""

    watched: Watched
    late_hours: int
    version: int | None
    step: int
    past: Past
    days: list[DailyScore]

    @property
    def steps(self) -> tuple[int, ...]:
        return self.past.forecasts[-1].steps if self.past.forecasts else (self.step,)


class ModelView:
    """The view; `load` reads the ledger and draws what has changed."""

    def __init__(self, context: PageContext, ledger: WatchedLedger, name: str) -> None:
        self._context, self._ledger, self._name = context, ledger, name
        self._lock = Lock()
        self._seen: Seen | None = None
        self._fan: PastForecasts | None = None
        self._said, self._checks, self._challenger = html(height=28), html(height=120), html(height=40)
        self._version = Choice(label="Version", width=180, margin=(4, 16, 4, 0))
        self._step = Choice(label="Session hours ahead", width=160, margin=(4, 16, 4, 0))
        self._fans, self._skill, self._coverage = (
            pn.Column(sizing_mode="stretch_width", margin=0, min_height=room) for room in (FANS_PX, SKILL_PX, SKILL_PX)
        )
        self.view = pn.Column(
            self._said, html("<h2>What the checks found</h2>"), self._checks,
            html("<h2>Past forecasts and outcomes</h2>"), pn.FlexBox(self._version, self._step), self._fans,
            html("<h2>Live skill</h2>"), self._skill,
            html("<h2>Coverage by hour of day</h2>"), self._coverage,
            html("<h2>Challenger beside champion</h2>"), self._challenger,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._version.param.watch(lambda _: self._change(self._version, "version"), "value")
        self._step.param.watch(lambda _: self._change(self._step, "step"), "value")

    def load(self) -> None:
        """Raises    LedgerError"""
        with self._lock:
            watched = self._ledger.watched(self._name)
            version = choose_version(watched, self._version.value)
            was, step = self._seen, self._step.value or 1
            if (
                was
                and (was.watched, was.version, was.step) == (watched, version, step)
                and was.late_hours == self._count_late_hours(was.past.symbol, watched.last_run)
            ):
                pn.state.execute(lambda: self._show_pictures(visible=True))
                return
            past = self._ledger.past(self._name, version) if version else Past([], {})
            steps = past.forecasts[-1].steps if past.forecasts else (step,)
            step = step if step in steps else steps[0]
            days = self._ledger.days(self._name, version, step) if version else []
            late_hours = self._count_late_hours(past.symbol, watched.last_run)
            seen = Seen(watched, late_hours, version, step, past, days)
            draw = self._prepare(seen)
            self._seen = seen
            pn.state.execute(draw)

    def _change(self, widget: Choice, field: str) -> None:
        if self._seen and widget.value != getattr(self._seen, field):  # else set by `draw`
            self._show_pictures(visible=False)
            pn.state.execute(self._load, schedule="thread")

    def _show_pictures(self, *, visible: bool) -> None:
        """Show the pictures, or only their room: not those of another choice."""
        for part in (*self._fans, *self._skill, *self._coverage):
            part.visible = visible

    def _load(self) -> None:
        with asking(self._fans, self._fail):
            self.load()

    def _fail(self, text: str) -> None:
        set_html(self._said, alert(text))

    def _count_late_hours(self, symbol: str, last_run: datetime | None) -> int:
        """Return how many session hours of the symbol have closed since the last run; empty: as the model is named."""
        now = clock.now()
        if last_run is None or last_run >= now:
            return 0
        hours = self._context.settings.session_of(symbol or self._name).hours(last_run, now)
        return hours.filter(pl.col("closes_at") <= now).height

    def _prepare(self, seen: Seen) -> Callable[[], None]:
        """Prepare all content outside the document lock; the returned function shows it."""
        watched, zone, is_late = seen.watched, self._context.zone, seen.late_hours > LATE_HOURS
        verdict, paths = self._context.settings.verdict, self._context.settings.typed_paths
        symbol = seen.past.symbol or self._name
        checks = find_checks(watched, symbol, self._command(seen), is_late=is_late)
        texts = (
            (self._said, self._describe(seen)),
            (self._checks, checks_table(f"What the monitor found of {self._name}", checks, zone)),
            (self._challenger, challenger_view(watched, verdict, zone, is_late=is_late, paths=paths)),
        )
        draw_fans = self._prepare_fans(seen, symbol)
        skill, coverage = self._make_skill(seen), self._make_coverage(seen)

        def draw() -> None:
            set_options(self._version, version_options(watched), seen.version)
            set_options(self._step, {str(step): step for step in seen.steps}, seen.step)
            self._version.disabled = self._step.disabled = seen.version is None
            for place, text in texts:
                place.object = text
            draw_fans()
            for room, parts in ((self._skill, skill), (self._coverage, coverage)):
                room[:] = [pn.Column(*parts, sizing_mode="stretch_width", margin=0)]
            self._show_pictures(visible=True)
            self._fans.min_height = FANS_PX if seen.past.forecasts else 0
            self._skill.min_height = self._coverage.min_height = SKILL_PX if seen.days else 0

        return draw

    def _command(self, seen: Seen) -> str:
        return self._context.settings.command("monitor", self._name, seen.past.symbol)

    def _describe(self, seen: Seen) -> str:
        last, zone, settings = seen.watched.last_run, self._context.zone, self._context.settings
        if last is None:
            return NOT_RUN.format(command=escape(self._command(seen)), days=settings.live_skill.min_days)
        text = f"The monitor has last run on {short(last, zone)} ({zone.key})."
        if seen.late_hours > LATE_HOURS:
            return alert(
                f"{text} {seen.late_hours:,} session hours have closed since, of which nothing is known: run "
                f"{self._command(seen)}"
            )
        return f"<p>{text}</p>"

    def _prepare_fans(self, seen: Seen, symbol: str) -> Callable[[], None]:
        if not seen.past.forecasts:
            self._fan, empty = None, html(f'<p class="quiet">{NO_FORECAST}</p>')
            return lambda: self._fans.__setitem__(slice(None), [empty])
        path = make_path(seen.past.forecasts, seen.past.close_by_target, seen.step)
        if self._fan:  # the span that is looked at stays
            return partial(self._fan.show, path)
        self._fan = fan = PastForecasts(self._context, symbol, path)
        return lambda: self._fans.__setitem__(slice(None), [fan.view])

    def _make_skill(self, seen: Seen) -> list[Viewable]:
        if not seen.days:
            return [html(f'<p class="quiet">{NO_SCORE.format(what="skill over the baselines")}</p>')]
        settings, colours = self._context.settings.live_skill, shade(self._context.dark)
        lines = read_lines(seen.days, settings)
        best, _ = lines[-1]
        told = [
            describe_skill(name, points[-1][1], seen.step, settings, is_best=name == best) for name, points in lines
        ]
        plot = skill_chart(lines, colours)
        return picture(plot, skill_legend([name for name, _ in lines], colours), told)

    def _make_coverage(self, seen: Seen) -> list[Viewable]:
        if not seen.days:
            return [html(f'<p class="quiet">{NO_SCORE.format(what="coverage by hour of day")}</p>')]
        found, colours = sum_hours(seen.days), shade(self._context.dark)
        zone = self._context.settings.session_of(seen.past.symbol or self._name).zone
        return picture(coverage_chart(found, zone, colours), coverage_legend(colours), [describe_coverage(found)])


def picture(plot: figure, legend: str, told: Sequence[str]) -> list[Viewable]:
    words = "".join(f"<p>{text}</p>" for text in told)
    return [html(words), chart(plot), html(legend)]


def choose_version(watched: Watched, wanted: int | None) -> int | None:
    """Return the wanted version if it was watched, else the champion, else the newest."""
    champion = watched.version_of(CHAMPION)
    if wanted in watched.versions:
        return wanted
    return champion if champion in watched.versions else max(watched.versions, default=None)


def version_options(watched: Watched) -> dict[str, int]:
    """Return the options: holders of aliases first, then the newest."""
    held = {watched.version_of(alias): alias for alias in ALIASES}
    numbers = sorted(watched.versions, key=lambda number: (number not in held, -number))
    return {f"{number} ({held[number]})" if number in held else f"{number}": number for number in numbers}
