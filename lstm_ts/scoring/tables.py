"""Cells and columns of plain-text tables."""

import math
from collections.abc import Sequence


def align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of padded cells: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    return lines


def number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def percent(share: float, digits: int = 1, *, signed: bool = False) -> str:
    """A share in percent, signed where it distinguishes better from worse, without negative zero."""
    return number(100 * share, f"{{:{'+' * signed}z.{digits}f}} %")


def p_cell(p: float) -> str:
    return "<0.001" if p < 0.001 else number(p, "{:.3f}")
