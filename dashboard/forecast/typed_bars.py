"""Hours that a person types or pastes, checked cell by cell before anything is sent.

The table's state and the flags of a running check change on the event loop only; checks run in threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape

import panel as pn

from dashboard.client import InvalidRequest, ServiceError
from dashboard.forecast.bar_table import BarTable
from dashboard.forecast.pasted import split
from dashboard.forecast.result import Result
from dashboard.forecast.rows import COLUMNS, Cell, Checked, cells_of, check, to_rows
from dashboard.ui.blocks import alert, html
from dashboard.ui.loading import asking, error_boundary, loading
from dashboard.ui.page_context import PageContext
from lstm_ts import clock
from lstm_ts.errors import NoRows
from lstm_ts.http_schema import Input
from lstm_ts.market.prices import price_format
from lstm_ts.request_body import write_request

FORGET = "typedTable.forget(table)"  # drops what was typed, since other rows take its place
FORGET_IF_PASTED = f"if (cb_obj.value) {FORGET}"  # not when the server empties the area
NOT_SENT = "correct what is marked in the table first."
OTHER_ROWS = "The forecast below is of other rows than these; Forecast makes one of these."
LISTED = 8  # problems below the table; all are marked in it


@dataclass(frozen=True)
class CheckResult:
    """Result of a check of the rows."""

    needs: Input
    checked: Checked
    bad: Sequence[Cell]
    whole: Sequence[str]  # problems that belong to no cell


class TypedBars:
    def __init__(self, context: PageContext, symbol: str) -> None:
        self._context, self._symbol = context, symbol
        self._checking = self._changed = False
        self._last_close: float | None = None
        self._sent: list[list[str]] | None = None  # rows of the forecast that is shown
        self._prefilled, self._unanswered = False, False  # once; whether the service did not answer the last check
        self._notes: Sequence[str] = ()  # on the pasted rows
        self._refusal = self._summary = ""  # of the text in the area; of the rows in the table
        self._result = Result(context, symbol)
        self._table, self._count = BarTable(), html(height=28)
        self._paste = pn.widgets.TextAreaInput(
            name="Paste rows: hour, open, high, low, close",
            placeholder="2026-01-05 14:00\t29.8710\t29.9020\t29.8400\t29.8850",
            rows=3,
            max_length=1_000_000,
            sizing_mode="stretch_width",
            margin=(4, 0),
        )
        send = pn.widgets.Button(name="Forecast", button_type="primary", margin=(4, 8, 4, 0))
        more = pn.widgets.Button(name="Add a row", margin=(4, 8, 4, 0))
        again = pn.widgets.Button(name="Latest hours again", margin=(4, 8, 4, 0))
        self.view = pn.Column(
            self._paste, self._table, self._count, pn.FlexBox(send, more, again), self._result.view,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._table.param.watch(lambda _: self._check(), "value", onlychanged=False)
        self._paste.param.watch(lambda event: self._take_pasted(event.new), "value")
        self._paste.jscallback({"table": self._table}, value=FORGET_IF_PASTED)
        again.js_on_click({"table": self._table, "area": self._paste}, f"{FORGET}; area.value = ''")
        send.on_click(lambda _: self._send())
        more.on_click(lambda _: self._add_row())
        again.on_click(lambda _: self._prefill())
        self._prefill()

    def poll(self) -> None:
        """Ask again what the service did not answer."""
        if not (self._prefilled or self._table.rows):
            self._prefill()
        elif self._unanswered:
            pn.state.execute(lambda: None if self._checking else self._check())

    def _prefill(self) -> None:
        """Show the latest hours, unless the rows change while the service is asked."""
        before = self._table.rows
        with asking(self._result.view, partial(self._result.fail, keep=True)):
            needs = self._context.client.needs(self._symbol)
            self._prefilled = True
            self._result.fail("", keep=True)  # the service may have been away
            try:
                bars = self._context.client.hourly_bars(self._symbol).tail(needs.tsteps)
                self._last_close = bars["close"][-1]
                prices = price_format(self._context.settings.quote_of(self._symbol), self._last_close)
                rows = to_rows(bars, prices.decimals)
            except NoRows:
                rows = [[""] * len(COLUMNS)] * needs.tsteps
            pn.state.execute(lambda: self._fill(rows) if self._table.rows == before else None)

    def _take_pasted(self, text: str) -> None:
        self._refuse("")
        if text.strip():
            with error_boundary(self._refuse):
                rows, notes = split(text, self._symbol)
                pn.state.execute(lambda: self._fill_pasted(text, rows, notes))

    def _refuse(self, why: str) -> None:
        def draw() -> None:
            self._refusal = alert(why) if why else ""
            self._draw_count()

        pn.state.execute(draw)

    def _summarize(self, summary: str) -> None:
        self._summary = summary
        self._draw_count()

    def _draw_count(self) -> None:
        self._count.object = self._refusal + self._summary

    def _fill_pasted(self, text: str, rows: list[list[str]], notes: Sequence[str]) -> None:
        """Show the rows, and empty the area, so that the same ones can be pasted again."""
        self._fill(rows, notes)
        if self._paste.value == text:
            self._paste.value = ""

    def _fill(self, rows: list[list[str]], notes: Sequence[str] = ()) -> None:
        self._notes, self._table.rows = notes, rows

    def _add_row(self) -> None:
        pn.state.execute(lambda: setattr(self._table, "rows", [*self._table.rows, [""] * len(COLUMNS)]))

    def _check(self) -> None:
        """Start a check, on the event loop; a change during a check is checked afterwards."""
        self._compare_rows()
        self._changed = True
        if not self._checking:
            self._checking, self._changed = True, False
            rows = self._table.rows
            pn.state.execute(lambda: self._check_rows(rows), schedule="thread")

    def _check_rows(self, rows: list[list[str]]) -> None:
        found, failed, unanswered = None, [""], False
        with error_boundary(failed.append), loading(self._count):
            try:
                found = self._run_check(rows)
            except ServiceError:
                unanswered = True
                raise
        pn.state.execute(lambda: self._end_check(found, failed[-1], unanswered=unanswered))

    def _end_check(self, found: CheckResult | None, failed: str, *, unanswered: bool) -> None:
        self._checking, self._unanswered = False, unanswered
        if self._changed:
            self._check()
        elif found:
            self._show(found)
        else:
            self._summarize(alert(failed))

    def _run_check(self, rows: list[list[str]]) -> CheckResult:
        """Check the rows.    Raises    ServiceError: the service does not say what it needs"""
        needs = self._context.client.needs(self._symbol)
        session = self._context.settings.session_of(self._symbol)
        checked = check(rows, session, needs, clock.now(), known=self._last_close)
        lack = checked.lacks(needs)
        return CheckResult(needs, checked, checked.bad, [lack] if lack else [])

    def _compare_rows(self) -> None:
        """Say whether the forecast that is shown is of other rows."""
        if self._sent is not None:
            self._result.fail("" if self._sent == _filled(self._table.rows) else OTHER_ROWS, keep=True)

    def _show(self, found: CheckResult) -> None:
        self._table.mark(found.bad)
        self._summarize(_sentences(found, self._notes))

    def _send(self) -> None:
        rows, self._sent = self._table.rows, None
        with self._result.asking():
            found = self._run_check(rows)
            pn.state.execute(lambda: self._show(found))
            if found.bad or found.whole:
                self._result.fail(f"Nothing was sent: {NOT_SENT if found.bad else ' '.join(found.whole)}")
                return
            bars = found.checked.bars.tail(found.needs.tsteps)
            body = write_request(self._symbol, bars).encode()
            try:
                self._result.show(self._context.client.predict(body), bars, body=body)
                pn.state.execute(lambda: self._note_sent(rows))  # once that is drawn
            except InvalidRequest as refused:
                bad, whole = cells_of(refused.problems, found.checked, len(found.checked.rows) - bars.height)
                pn.state.execute(lambda: self._show(replace(found, bad=bad, whole=whole)))
                self._result.fail("The service refuses these hours, for what is marked in the table.")

    def _note_sent(self, rows: list[list[str]]) -> None:
        self._sent = _filled(rows)
        self._compare_rows()  # they may have changed meanwhile


def _filled(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows if any(map(str.strip, row))]


def _sentences(found: CheckResult, notes: Sequence[str]) -> str:
    bad, needs, checked = found.bad, found.needs, found.checked
    listed = [f"Row {cell.row + 1}, {cell.column}: {cell.reason}" for cell in bad[:LISTED]]
    listed += [f"and {len(bad) - LISTED} more"] * (len(bad) > LISTED)
    items = "".join(f"<li>{escape(text)}</li>" for text in (*listed, *found.whole))
    said = (
        f"{needs.tsteps} session hours are needed; these rows hold {len(checked.rows)}, "
        f"{checked.missing} of the window's hours are missing ({needs.max_missing} may)."
    )
    problems = f'<div role="alert"><ul>{items}</ul></div>' if items else ""
    told = " ".join((*(f"{note}." for note in notes), said))
    return f'<p class="quiet">{escape(told)}</p>{problems}'
