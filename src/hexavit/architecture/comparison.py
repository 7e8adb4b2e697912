"""The differences of two architectures, column by column."""

from __future__ import annotations

from dataclasses import dataclass

from hexavit.architecture import Architecture, aligned
from hexavit.parts.registry import KINDS


@dataclass(frozen=True)
class Difference:
    """One choice in which two architectures differ.

    Attributes:
        column: the kind of part, or `size` for widths, depths and what holds for the whole model.
        path: of the choice.
        here: the first architecture's choice; None if it has none.
        there: the second architecture's choice; None if it has none.
    """

    column: str
    path: str
    here: str | None
    there: str | None


def compare(one: Architecture, other: Architecture) -> list[Difference]:
    """The differences, in the order of the columns; empty for equal architectures."""
    found = [Difference(_column(path), path, a, b) for path, a, b in one.diff(other)]
    order = ("size", *KINDS)
    return sorted(found, key=lambda each: order.index(each.column))


def comparison_table(one: Architecture, other: Architecture) -> str:
    """The differences as aligned text, or a sentence if there are none."""
    found = compare(one, other)
    if not found:
        return f"{one.name} and {other.name} make the same choices."
    rows = [["column", "where", one.name, other.name]]
    for n, each in enumerate(found):
        first = n == 0 or found[n - 1].column != each.column
        rows.append([each.column if first else "", each.path, each.here or "–", each.there or "–"])
    return aligned(rows, width=48)


def _column(path: str) -> str:
    names = path.split(".")
    return next((name for name in names if name in KINDS), "size")
