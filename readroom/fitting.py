"""Makes a table fit a terminal: the widest texts are cut first, then columns at the end are left out."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
NARROWEST = 12
"""Cells of a column that was cut: less says nothing."""


def fit(rows: Sequence[Sequence[str]], room: int) -> tuple[list[list[str]], int]:
    """The rows within `room` cells, and how many columns were left out. The first row heads them."""
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    while sum(widths) + GAP * (len(widths) - 1) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] > NARROWEST:
            widths[widest] -= 1
        elif len(widths) > 1:
            widths.pop()
        else:
            break
    cut = [[_cut(cell, width) for cell, width in zip(row, widths, strict=False)] for row in rows]
    return cut, len(rows[0]) - len(widths)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row."""
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (" " * GAP)
        .join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    ]


def _cut(cell: str, width: int) -> str:
    return cell if cell_len(cell) <= width else set_cell_size(cell, max(width - 1, 0)).rstrip() + "…"
