"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def short(value: float | None, digits: str = ".4g") -> str:
    """A large number with a unit, such as 4.566 G; an en dash for None."""
    if value is None:
        return "–"
    unit, letter = next((each for each in ((1e9, "G"), (1e6, "M")) if value >= each[0]), (1e3, "k"))
    return f"{value / unit:{digits}} {letter}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns under a header; columns of numbers are aligned to the right."""
    columns = list(zip(*rows, strict=True))
    numeric = [all(cell == "" or cell[0] in "+-–0123456789" for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True)
        )
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
