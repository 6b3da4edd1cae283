"""Tables of HTML, whose rows are cards on a phone."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

CARDS = Path(__file__).with_suffix(".css").read_text()  # for tables of class "cards", made of `html_table`
TAG = re.compile(r"<[^>]+>")


def html_table(
    name: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: Collection[int] = (),
    above: str = "",
    caption: bool = False,
    sortable: bool = False,
) -> str:
    """A table that may be wider than the screen.

    name, heads, rows   HTML; the name is the table's caption on request
    text       columns of words
    above      a row over the headings
    sortable   by a click on a heading; see sorting.js
    """
    shown = [f'<button type="button">{head}</button>' for head in heads] if sortable else heads
    head = "".join(f'<th scope="col"{" class=text" * (at in text)}>{cell}</th>' for at, cell in enumerate(shown))
    body = "".join(_row(cells, heads, text=text) for cells in rows)
    table = (
        f'<table class="cards{" sortable" * sortable}">{f"<caption>{name}</caption>" * caption}'
        f"<thead>{above}<tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return wide(name, table, kind="scroll wide")


def wide(name: str, content: str, *, kind: str = "wide") -> str:
    """HTML that may be wider than the screen.

    kind    its classes
    """
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{name}">{content}</div>'


def _row(cells: Sequence[str], heads: Sequence[str], *, text: Collection[int] = ()) -> str:
    """A row of HTML cells, each with the heading that a narrow screen shows with it.

    cells, heads   HTML
    text           columns of words
    """
    named = [TAG.sub(" ", head).replace("  ", " ") for head in heads]
    parts = [
        f'<td{" class=text" * (at in text)} data-label="{name}">{cell}</td>'
        for at, (cell, name) in enumerate(zip(cells, named, strict=True))
    ]
    return f"<tr>{''.join(parts)}</tr>"
