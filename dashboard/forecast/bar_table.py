"""A table to type hours into, whose bad cells are marked."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import panel as pn
from panel.io import JSCode

from dashboard.forecast.rows import COLUMNS, Cell
from dashboard.ui.blocks import Synchronous

PROBLEM = "What is wrong"
MARK = """
.tabulator-row .tabulator-cell.wrong { background-color: #D55E00; color: #000000; font-weight: 600 }
.tabulator-row .tabulator-cell[tabulator-field^=Hour] { overflow-wrap: anywhere }
"""
WIDTHS = [  # least pixels, and shares of the rest; a phone has no rest: it shows problems below the table only
    {"field": COLUMNS[0], "minWidth": 95, "widthGrow": 1.4},
    *({"field": column, "minWidth": 65, "widthGrow": 1} for column in COLUMNS[1:]),
    {"field": PROBLEM, "minWidth": 1, "widthGrow": 4},
]


class BarTable(Synchronous, pn.widgets.Tabulator):
    """Text cells. `tags` mark bad ones, by bar_table.js, which keeps typed text when the server updates the table."""

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            _frame([]),
            height=360,
            sizing_mode="stretch_width",
            margin=(4, 0),
            layout="fit_columns",
            show_index=False,
            sortable=False,
            theme="simple",
            selectable=False,
            editors={PROBLEM: None, **{column: {"type": "input", "selectContents": True} for column in COLUMNS}},
            text_align=dict.fromkeys(COLUMNS[1:], "right"),
            configuration={"columnDefaults": {"headerSort": False}, "columns": WIDTHS},
            formatters={COLUMNS[0]: {"type": "textarea"}, PROBLEM: JSCode("cell => typedTable.format(cell)")},
            stylesheets=[MARK],
        )
        self.jscallback(tags="typedTable.mark(cb_obj)")

    @property
    def rows(self) -> list[list[str]]:
        return [[str(cell) for cell in row] for row in self.value[list(COLUMNS)].to_numpy().tolist()]

    @rows.setter
    def rows(self, rows: list[list[str]]) -> None:
        self.value = _frame(rows)

    def mark(self, bad: Sequence[Cell]) -> None:
        self.tags = [[cell.row, cell.column, cell.reason] for cell in bad]

    def _process_event(self, event: Any) -> None:
        """Ignore clicks and edits: the data of an edit arrive by another event."""


def _frame(rows: list[list[str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)
    frame[PROBLEM] = ""
    return frame
