"""Tables of HTML, whose rows are cards on a phone."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

CARDS = Path(__file__).with_suffix(".css").read_text()  # for tables of class "cards", made of `html_row`
TAG = re.compile(r"<[^>]+>")


def html_row(cells: Sequence[str], heads: Sequence[str], *, text: Collection[int] = ()) -> str:
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
