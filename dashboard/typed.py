"""Type it in: a table of hours, checked cell by cell before anything is sent."""

from datetime import UTC, datetime
from html import escape
from threading import get_ident

import pandas as pd
import panel as pn
from panel.io import JSCode

from dashboard.blocks import html
from dashboard.client import Refused
from dashboard.patience import loading
from dashboard.result import Result
from dashboard.rows import COLUMNS, Cell, Checked, cells_of, check, split, to_rows
from dashboard.visit import Visit
from dashboard.words import body_of
from lstm_ts.errors import LstmTsError, NoRows

PROBLEM = "What is wrong"
# Writes what is wrong in a row, and marks its cells. Panel draws the whole table anew for it, which takes the next cell
# from under the hands of who types in it: so only what is wrong is changed, in place, where nothing else is new.
# And nothing in a grid may take the focus but its cells: Tabulator's body does.
WRITTEN = """cell => {
  const table = cell.getTable(), own = cell.getField();
  table.setData = rows => {
    const before = table.getData();
    const isNew = (row, i) => Object.keys(row).some(key => key != own && row[key] !== before[i][key]);
    if (rows.length != before.length || rows.some(isNew)) return table.replaceData(rows);
    const changed = rows.filter((row, i) => row[own] !== before[i][own]);
    return changed.length ? table.updateData(changed) : Promise.resolve();
  };
  table.element.querySelector(".tabulator-tableholder")?.removeAttribute("tabindex");
  const wrong = cell.getValue().split("; ").map(text => text.split(":")[0]);
  for (const other of cell.getRow().getCells())
    other.getElement().classList.toggle("wrong", wrong.includes(other.getField()));
  return document.createTextNode(cell.getValue());
}"""
MARK = ".tabulator-row .tabulator-cell.wrong { background-color: #D55E00; color: #000000; font-weight: 600 }"
LISTED = 8  # problems below the table; all are marked in it


class Typed:
    def __init__(self, visit: Visit, symbol: str) -> None:
        self._visit, self._symbol = visit, symbol
        self._bad: list[Cell] = []
        self._drawn_by = 0  # the thread that changes the table just now, if it is not an edit that does
        self._checked: Checked | None = None
        self._result = Result(visit)
        self._table = pn.widgets.Tabulator(
            _frame([]),
            height=360,
            sizing_mode="stretch_width",
            layout="fit_data_stretch",
            show_index=False,
            sortable=False,
            theme="simple",
            selectable=False,
            editors={PROBLEM: None, **{column: {"type": "input", "selectContents": True} for column in COLUMNS}},
            widths={PROBLEM: 320, COLUMNS[0]: 150, **dict.fromkeys(COLUMNS[1:], 90)},
            text_align=dict.fromkeys(COLUMNS[1:], "right"),
            configuration={"columnDefaults": {"headerSort": False}},
            formatters={PROBLEM: JSCode(WRITTEN)},
            stylesheets=[MARK],
        )
        self._count = html(height=28)
        self._paste = pn.widgets.TextAreaInput(
            name="Paste rows: hour, open, high, low, close",
            placeholder="2026-01-05 14:00\t29.8710\t29.9020\t29.8400\t29.8850",
            rows=3,
            max_length=1_000_000,
            sizing_mode="stretch_width",
        )
        send = pn.widgets.Button(name="Forecast", button_type="primary", margin=(4, 8, 4, 0))
        more = pn.widgets.Button(name="Add a row", margin=(4, 8, 4, 0))
        again = pn.widgets.Button(name="Latest hours again", margin=(4, 8, 4, 0))
        self.view = pn.Column(
            self._paste, self._table, self._count, pn.FlexBox(send, more, again), self._result.view,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._table.param.watch(self._edited, "value", onlychanged=False)
        self._paste.param.watch(lambda event: self._take_pasted(event.new), "value")
        send.on_click(lambda _: self._send())
        more.on_click(lambda _: self._fill([*self._rows(), [""] * len(COLUMNS)]))
        again.on_click(lambda _: self._prefill())
        self._prefill()

    def _edited(self, _: object) -> None:
        """The event of an edit itself may come before the value is there."""
        if get_ident() != self._drawn_by:
            self._check()

    def _prefill(self) -> None:
        with self._result.asking():
            needs = self._visit.client.needs()
            self._result.fail("", keep=True)  # the service may have been away
            try:
                bars = self._visit.client.hourly_bars(self._symbol).tail(needs.tsteps)
            except NoRows:
                self._fill([[""] * len(COLUMNS)] * needs.tsteps)
                return
            self._fill(to_rows(bars))

    def _take_pasted(self, text: str) -> None:
        if text.strip():
            self._fill(split(text))

    def _rows(self) -> list[list[str]]:
        return [[str(cell) for cell in row] for row in self._table.value[list(COLUMNS)].to_numpy().tolist()]

    def _fill(self, rows: list[list[str]]) -> None:
        self._show(rows, self._look(rows))

    def _check(self) -> None:
        rows = self._rows()
        self._show(rows, self._look(rows), whole=False)

    def _look(self, rows: list[list[str]]) -> list[str]:
        """What is wrong beside the cells."""
        try:
            with loading(self.view):
                needs = self._visit.client.needs()
        except LstmTsError as error:
            return [str(error)]
        self._checked = check(rows, self._visit.settings.session, needs, datetime.now(UTC))
        self._bad = list(self._checked.bad)
        hours = f"{needs.tsteps} session hours are needed; these rows hold {len(self._checked.rows)}"
        self._says = f"{hours}, {self._checked.missing} of the window's hours are missing ({needs.max_missing} may)."
        return [lack] if (lack := self._checked.lacks(needs)) else []

    def _show(self, rows: list[list[str]], whole_problems: list[str], *, whole: bool = True) -> None:
        reasons = [""] * len(rows)
        for cell in self._bad:
            reasons[cell.row] += f"{'; ' * bool(reasons[cell.row])}{cell.column}: {cell.reason}"

        def draw() -> None:
            self._drawn_by = get_ident()
            if whole:
                self._table.value = _frame(rows, reasons)
            else:
                self._table.patch({PROBLEM: list(enumerate(reasons))})
            self._drawn_by = 0
            self._count.object = self._sentences(whole_problems)

        pn.state.execute(draw)

    def _sentences(self, problems: list[str]) -> str:
        listed = [f"Row {cell.row + 1}, {cell.column}: {cell.reason}" for cell in self._bad[:LISTED]]
        more = len(self._bad) - LISTED
        listed += [f"and {more} more"] * (more > 0)
        listed += problems
        said = f'<p class="quiet">{escape(self._says)}</p>' if self._checked else ""
        items = "".join(f"<li>{escape(text)}</li>" for text in listed)
        return said + (f'<div role="alert"><ul>{items}</ul></div>' if listed else "")

    def _send(self) -> None:
        self._check()
        checked = self._checked
        with self._result.asking():
            needs = self._visit.client.needs()
            if checked is None or self._bad or checked.lacks(needs):
                self._result.fail("Nothing was sent: correct what is marked in the table first.")
                return
            bars = checked.bars.tail(needs.tsteps)
            body = body_of(self._symbol, bars)
            try:
                self._result.show(self._visit.client.predict(body), bars, body=body)
            except Refused as refused:
                self._refused(refused, checked, len(checked.rows) - bars.height)

    def _refused(self, refused: Refused, checked: Checked, left_out: int) -> None:
        self._bad, whole = cells_of(refused.problems, checked, left_out)
        self._show(self._rows(), whole, whole=False)
        self._result.fail("The service refuses these hours, for what is marked in the table.")


def _frame(rows: list[list[str]], reasons: list[str] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)
    frame[PROBLEM] = reasons or [""] * len(rows)
    return frame
