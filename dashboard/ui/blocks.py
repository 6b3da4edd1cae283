"""Building blocks of pages: text, tables, loading indicators, error messages."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import panel as pn
from bokeh.plotting import figure
from panel.reactive import Syncable
from panel.viewable import Viewable

from lstm_ts.scoring.cards import CARDS, html_table

# Okabe and Ito's colours, on white and on black: the colour-blind can tell them apart.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
SKY, ORANGE, PURPLE = "#56B4E9", "#E69F00", "#CC79A7"

CSS = CARDS + Path(__file__).with_name("blocks.css").read_text()  # inside of Panel's shadow roots


class Synchronous(Syncable):
    """Apply a choice or a text in the event loop: in Panel's threads, the next click could overtake it."""

    def _server_change(self, doc: Any, ref: str, subpath: str | None, attr: str, old: Any, new: Any) -> None:
        super()._server_change(doc, ref, subpath, attr, old, new)
        self._change_event(doc)


class Choice(Synchronous, pn.widgets.Select):
    def __init__(self, **params: Any) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]


class ButtonChoice(Synchronous, pn.widgets.RadioButtonGroup):
    def __init__(self, **params: Any) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]


def set_options(choice: Choice, options: Mapping[str, object], value: object) -> None:
    """Set options and value, where the document may be changed; unchanged ones trigger no event."""
    if dict(choice.options) != options or choice.value != value:
        choice.param.update(options=dict(options), value=value)


def kept(choice: Choice, options: Mapping[str, object]) -> object:
    """Return the current choice while it is offered, else the first option."""
    return choice.value if choice.value in options.values() else next(iter(options.values()), None)


class Reason(Synchronous, pn.widgets.TextInput):
    pass


class Secret(Synchronous, pn.widgets.PasswordInput):
    pass


def symbol_list(symbols: Sequence[str]) -> Choice:
    return Choice(name="Symbol", options=list(symbols), value=symbols[0], width=140,
                  disabled=len(symbols) == 1, margin=(4, 16, 4, 0))  # fmt: skip


def html(text: str = "", *, height: int = 0) -> pn.pane.HTML:
    """HTML in the page's theme; `height` is kept free for text that comes later."""
    return pn.pane.HTML(text, stylesheets=[CSS], sizing_mode="stretch_width", min_height=height, margin=(4, 0))


def set_html(pane: pn.pane.HTML, text: str) -> None:
    """Set the pane's HTML where the document may be changed."""
    pn.state.execute(lambda: setattr(pane, "object", text))


def chart(plot: figure) -> pn.pane.Bokeh:
    return pn.pane.Bokeh(plot, sizing_mode="stretch_width", margin=0)


def problem(text: str) -> pn.pane.HTML:
    """A message where the fault happened."""
    return html(alert(text))


def prose(text: str, small: str = "") -> str:
    """Return HTML of sentences in a table's cell; `small` stands below them."""
    return f'<div class="prose">{escape(text)}{f"<br><small>{escape(small)}</small>" if small else ""}</div>'


def alert(text: str) -> str:
    return f'<p role="alert">{escape(text)}</p>'


def waiting() -> Viewable:
    return pn.Row(pn.indicators.LoadingSpinner(value=True, size=24, margin=4), html('<p class="quiet">Loading…</p>'))


def folded(summary: str, content: str) -> str:
    """Return HTML that a click unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return HTML of a legend; `entries` are colours, each with HTML of its meaning."""
    spans = "".join(f'<span style="--swatch: {colour}">{words}</span>' for colour, words in entries)
    return f'<div class="legend">{spans}</div>'


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: Sequence[int] = (),
    sortable: bool = False,
) -> str:
    """Return HTML of a table; cells are HTML, `text` holds the numbers of further columns with words.

    sortable   by a click on a heading; see sorting.js
    """
    return html_table(escape(caption), heads, rows, text=text, caption=True, sortable=sortable)
