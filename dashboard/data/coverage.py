"""Coverage of the session minutes as charts, tables and sentences. Reads no store and calls no service."""

from calendar import day_abbr, monthrange
from collections.abc import Mapping
from datetime import date, datetime
from html import escape
from typing import Any

import polars as pl
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d

from dashboard.ui.blocks import PURPLE, legend, table
from dashboard.ui.views import Shade, date_axis, plain_figure
from lstm_ts.market.bars import PRICES
from lstm_ts.market.completeness import State, count_within
from lstm_ts.market.prices import Quote, price_format
from lstm_ts.market.session import DAY, midnight
from lstm_ts.store.coverage import Status, known_share
from lstm_ts.store.staging import REVISED

CLOSED = "closed"
WORDS = {
    State.PRESENT: "present",
    State.EMPTY: "proven empty",
    State.WAITING: "empty by one answer",
    State.UNKNOWN: "unknown",
}
SIGNS = {State.PRESENT: "✓", State.EMPTY: "∅", State.WAITING: "…", State.UNKNOWN: "?"}
HATCHES = {State.PRESENT: " ", State.EMPTY: "/", State.WAITING: ".", State.UNKNOWN: "x"}
LISTED = 10  # gaps, unknown spans, revisions


def state_colours(colours: Shade) -> dict[State, str]:
    known = {State.PRESENT: colours.rising, State.EMPTY: colours.fan}
    return known | {State.WAITING: PURPLE, State.UNKNOWN: colours.falling}


def by_day(segments: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return a frame with each `day` (UTC) of the span, the session minutes of each state, and the `closed` minutes.

    A day that lies only partly in the span has the minutes of that part.

    segments   as `completeness.classify` gives them for the span
    """
    opens = pl.datetime_range(midnight(start), end, "1d", closed="left", time_unit="us", eager=True)
    ends = pl.Series([(ts + DAY) for ts in opens], dtype=opens.dtype)
    counts = {state.value: count_within(segments.filter(pl.col("state") == state), opens, ends) for state in State}
    within = (ends.clip(upper_bound=end) - opens.clip(lower_bound=start)).dt.total_minutes()
    closed = (within - pl.sum_horizontal(*State)).alias(CLOSED)
    return pl.DataFrame({"day": opens.dt.date(), **counts}).with_columns(closed)


def in_words(status: Status) -> str:
    """Return the totals that `lstm_ts.ingest action=status` prints, as a sentence."""
    minutes: dict[str, int] = {state: int(status.coverage[state].sum()) for state in State}
    told = ", ".join(f"{minutes[state]:,} {WORDS[state]}" for state in State)
    return (
        f"<p><strong>{status.stored:,} minutes are stored</strong>, {status.closed:,} of them in closed hours, which "
        f"are not counted here. {known_share(minutes)} of the {sum(minutes.values()):,} session minutes from "
        f"{minute(status.start)} to {minute(status.end)} UTC are known: {told}.</p>"
    )


def minute(ts: datetime) -> str:
    return f"{ts:%Y-%m-%d %H:%M}"


class MonthChart:
    """Stacked chart of the shares of each month's session minutes; a triangle marks months with unknown minutes."""

    def __init__(self, coverage: pl.DataFrame, colours: Shade) -> None:
        """coverage    as `completeness.coverage` gives it"""
        self.plot = plot = plain_figure(colours, height=190)
        plot.name = "months"
        columns = month_columns(coverage)
        self._months = ColumnDataSource(columns)
        self._marked = ColumnDataSource({"left": [], "right": []})
        for state, colour in state_colours(colours).items():
            bars = plot.quad("left", "right", f"to_{state}", f"from_{state}", source=self._months, fill_color=colour,
                             line_color=colours.paper, line_width=0.5, hatch_pattern=HATCHES[state],
                             hatch_color=colours.paper, hatch_scale=6)  # fmt: skip
        plot.scatter("x", 107, source=self._months, size="mark", marker="inverted_triangle", color=colours.falling)
        plot.quad("left", "right", 113, 0, source=self._marked, fill_alpha=0, line_color=colours.ink, line_width=2)
        told = [("Month", "@month"), *((words.capitalize(), f"@{state}{{0,0}}") for state, words in WORDS.items())]
        plot.add_tools(HoverTool(renderers=[bars], mode="vline", tooltips=told, visible=False))
        plot.x_range = Range1d(start=columns["left"][0], end=columns["right"][-1])
        plot.y_range = Range1d(start=0, end=115)
        plot.yaxis.ticker = [0, 50, 100]
        plot.yaxis.formatter, plot.yaxis.axis_label = NumeralTickFormatter(format="0"), "% of minutes"
        date_axis(plot)

    def mark(self, month: str) -> None:
        at = list(self._months.data["month"]).index(month)
        self._marked.data = {edge: [self._months.data[edge][at]] for edge in ("left", "right")}

    def month_at(self, x_ms: float | None) -> str | None:
        months = self._months.data
        spans = zip(months["month"], months["left"], months["right"], strict=True)
        return next((month for month, left, right in spans if x_ms is not None and left <= x_ms < right), None)


def month_columns(coverage: pl.DataFrame) -> dict[str, list[Any]]:
    """Return the chart's columns: edges in milliseconds since 1970; for each state, minutes and percent from and to.

    `mark` is the size of the triangle.
    """
    opens = pl.col("month").str.to_datetime("%Y-%m", time_unit="ms")
    total, below = pl.sum_horizontal(*State), [pl.lit(0)]
    for state in State:
        below.append(below[-1] + pl.col(state))
    edges = {f"{edge}_{state}": 100 * below[at + step] / total for at, state in enumerate(State)
             for step, edge in enumerate(("from", "to"))}  # fmt: skip
    columns = coverage.with_columns(
        left=opens.to_physical(), right=opens.dt.offset_by("1mo").to_physical(),
        mark=pl.when(pl.col(State.UNKNOWN) > 0).then(8).otherwise(0), **edges,
    ).with_columns(x=(pl.col("left") + pl.col("right")) / 2)  # fmt: skip
    return columns.to_dict(as_series=False)


def month_label(row: Mapping[str, Any]) -> str:
    """row    of `completeness.coverage`"""
    return f"{row['month']}, {known_share(row)} known"


def month_words(row: Mapping[str, int]) -> str:
    return f"<p>{', '.join(f'{row[state]:,} {words}' for state, words in WORDS.items())}.</p>"


def calendar(days: pl.DataFrame, month: str, colours: Shade) -> str:
    """Return a table of the month's days by week, each with the minutes of its states."""
    year, number = map(int, month.split("-"))
    first, length = monthrange(year, number)
    known = {row["day"]: row for row in days.iter_rows(named=True)}
    cells = [""] * first + [day_cell(date(year, number, day), known, colours) for day in range(1, length + 1)]
    cells += [""] * (-len(cells) % 7)
    weeks = [cells[at : at + 7] for at in range(0, len(cells), 7)]
    body = "".join("<tr>" + "".join(cell or "<td></td>" for cell in week) + "</tr>" for week in weeks)
    head = "".join(f'<th scope="col">{name}</th>' for name in day_abbr)
    return (
        f'<table class="calendar"><caption>Minutes of each day of {month} (UTC)</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def day_cell(day: date, known: Mapping[date, Mapping[str, int]], colours: Shade) -> str:
    """Return a table cell: a strip in the colours of the day's states, and the sign and minutes of each state."""
    found = known.get(day)
    if found is None:
        return f'<td title="{day}: nothing is stored around it"><b>{day.day}</b></td>'
    minutes = {state: found[state] for state in State if found[state]}
    if not minutes:
        return f'<td title="{day}: closed"><b>{day.day}</b><small>closed</small></td>'
    told = ", ".join(f"{count:,} {WORDS[state]}" for state, count in minutes.items())
    lines = "".join(f"<small><i>{SIGNS[state]}</i>{count:,}</small>" for state, count in minutes.items())
    strip = _strip(minutes, colours)
    return f'<td title="{day}: {told}; {found[CLOSED]:,} closed"><b>{day.day}</b>{strip}{lines}</td>'


def _strip(minutes: Mapping[State, int], colours: Shade) -> str:
    """Return a strip divided in proportion to the minutes; each state is at least 4 pixels wide."""
    named = state_colours(colours)
    parts = "".join(
        f'<span style="flex: {count} 0 4px; background: {named[state]}"></span>' for state, count in minutes.items()
    )
    return f'<div class="strip" aria-hidden="true">{parts}</div>'


def state_legend(colours: Shade) -> str:
    return legend((colour, f"{SIGNS[state]} {WORDS[state]}") for state, colour in state_colours(colours).items())


def waiting_words(coverage: pl.DataFrame) -> str:
    """Return an explanation of the minutes that are empty by one answer, which need no action; empty without any."""
    if not int(coverage[State.WAITING].sum()):
        return ""
    return (
        '<p class="quiet">Empty by one answer: a source has answered for these minutes and had no bar of them. That '
        "may be an error of the source; a second, independent answer proves them empty. <strong>You need not act:"
        "</strong> the next run of a broker source requests them again, and minutes of files may stay so, since "
        "forecasts use hours with a few of them as they are.</p>"
    )


def spans(caption: str, found: pl.DataFrame, none: str) -> str:
    """Return a table of the longest spans, or the sentence `none` if there are no spans."""
    if found.is_empty():
        return f'<p class="quiet">{none}</p>'
    longest = found.sort("minutes", "start", descending=[True, False]).head(LISTED)
    rows = [(minute(start), minute(end), f"{count:,}") for start, end, count in longest.iter_rows()]
    total = f"{caption}: {found['minutes'].sum():,} in {found.height:,} spans, the longest"
    return table(total, ("From (UTC)", "To (UTC)", "Minutes"), rows, text=(1,))


def revisions(found: pl.DataFrame, quote: Quote | None) -> str:
    """Return a table of the latest revisions, given as in `Status.revisions`."""
    if found.is_empty():
        return '<p class="quiet">No bar has come again with other values.</p>'

    def prices(row: Mapping[str, float], form: str) -> str:
        numbers = [row[form.format(price)] for price in PRICES]
        return " ".join(map(price_format(quote, numbers[-1]).number, numbers))

    rows = [
        (minute(row["ts"]), prices(row, "{}"), prices(row, REVISED), minute(row["revised_at"]), escape(row["source"]))
        for row in found.head(LISTED).iter_rows(named=True)
    ]
    caption = f"Bars that came again with other values: {found.height:,}, the latest (open, high, low, close)"
    return table(caption, ("Minute (UTC)", "Before", "Since", "Came (UTC)", "From"), rows, text=(1, 2, 3, 4))
