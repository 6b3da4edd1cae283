"""Lines of text as cells."""

import csv
import re
from collections.abc import Sequence

import polars as pl

from lstm_ts.sources.files.recognition.layout import Layout
from lstm_ts.sources.files.recognition.stamps import join_clock


def split_line(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def split_cells(text: pl.Series, layout: Layout) -> list[pl.Series]:
    """A series for each name, null where a row ends before; and one that is null but in rows with cells beyond."""
    separator, count = layout.separator, len(layout.names)
    if separator == " ":
        text = text.str.replace_all(" +", " ")
    quoted = text.str.contains('"', literal=True)
    if not quoted.any():
        return text.str.splitn(separator, count + 1).struct.unnest().get_columns()
    plain = text.str.replace_all(rf'"([^"{separator}]*)"', "$1")
    cells = plain.str.splitn(separator, count + 1).struct.unnest().get_columns()
    rows = plain.str.contains('"', literal=True).arg_true()
    if rows.is_empty():
        return cells
    found = (
        (separator + text.gather(rows))
        .to_frame("row")
        .with_columns(
            cells=pl.col("row").str.extract_all(
                rf'{re.escape(separator)}(?: *"(?:[^"]|"")*" *|[^"{re.escape(separator)}]*)'
            )
        )
    )
    whole = (found["cells"].list.join("") == found["row"]).arg_true()
    rows, found = rows.gather(whole), found[whole]
    width = pl.col("cells").list.len()
    unquoted = [
        pl.col("cells").list.get(i, null_on_oob=True).str.slice(1).str.strip_chars(' "').alias(str(i))
        for i in range(count)
    ]
    parts = found.select(*unquoted, pl.when(width > count).then(pl.lit("")).alias(str(count))).get_columns()
    return [cell.scatter(rows, part) for cell, part in zip(cells, parts, strict=True)]


def join_stamps(cells: Sequence[pl.Series], layout: Layout) -> pl.Series:
    """The text of the stamps."""
    return join_clock([cells[i] for i in layout.columns.stamp], noon=layout.columns.noon)
