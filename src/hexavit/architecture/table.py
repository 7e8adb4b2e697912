"""The six-column table of an architecture, as rows, aligned text or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from hexavit.architecture.stage import COLUMNS, Column, Part, Pattern, Stage, written
from hexavit.parts.registry import KINDS

if TYPE_CHECKING:
    from hexavit.architecture.architecture import Architecture


def table_rows(architecture: Architecture) -> list[list[str]]:
    """A header, then a row for each stage. A cell is a part's name and, on its own line, the options that are set."""
    table = [["stage", *COLUMNS, "head"]]
    for i, stage in enumerate(architecture.stages):
        cells = ["\n".join(_cells(stage, kind)) or "none" for kind in COLUMNS]
        last = _cell(architecture.head) if i == len(architecture.stages) - 1 else ""
        table.append([f"{i}: {stage.depth} x {stage.dim}", *cells, last])
    return table


def single_row(architecture: Architecture, *, options: bool = True) -> list[str]:
    """The model in six cells: each part of a column once, with the options (but `heads`) that are always equal."""
    found: dict[str, dict[str, list[Part]]] = {kind: {} for kind in KINDS}
    for _, kind, part in architecture.places():
        found[kind].setdefault(part.name, []).append(part)
    return [", then ".join(_common(parts, options) for parts in found[kind].values()) or "none" for kind in KINDS]


def table_text(rows: Sequence[Sequence[str]], style: Literal["text", "markdown"], width: int) -> str:
    """Rows as aligned text, cells wrapped at `width`, or as Markdown."""
    if style == "text":
        return aligned(rows, width)
    lines = ["| " + " | ".join(cell.replace("\n", "<br>") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def aligned(rows: Sequence[Sequence[str]], width: int = 1000) -> str:
    """Rows of cells as text in columns: cells wrapped at `width`, a rule under the header."""
    wrapped = [[[s for line in cell.split("\n") for s in wrap(line, width) or [""]] for cell in row] for row in rows]
    widths = [max(len(line) for row in wrapped for line in row[c]) for c in range(len(rows[0]))]
    lines: list[str] = []
    for n, row in enumerate(wrapped):
        for k in range(max(map(len, row))):
            cells = (cell[k] if k < len(cell) else "" for cell in row)
            lines.append("  ".join(text.ljust(w) for text, w in zip(cells, widths, strict=True)).rstrip())
        if n == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _common(parts: Sequence[Part], options: bool) -> str:
    """Parts of one name as one part, with the options that are equal in all."""
    same = set.intersection(*(set(part.options.items()) for part in parts)) if options else set()
    return str(Part(parts[0].name, **{k: v for k, v in parts[0].options.items() if k != "heads" and (k, v) in same}))


def _cells(stage: Stage, kind: str) -> Iterator[str]:
    """The cell of a stage in a column, with what the branches of its block set themselves."""
    own = [
        (f"{branch.module}: " if branch.name else "") + _cell(column)
        for branch in stage.block
        for of_kind, column in branch.columns.values()
        if of_kind == kind
    ]
    if kind in stage.used:
        yield _cell(getattr(stage, kind))
    yield from own


def _cell(column: Column) -> str:
    """A column as the table shows it."""
    if isinstance(column, Pattern):
        cycle = "\nthen ".join(_cell(part) for part in column.cycle)
        return "\n".join([cycle, *(f"block {index}: {_cell(part)}" for index, part in column.at.items())])
    chosen = [f"{key}={written(value)}" for key, value in column.options.items()]
    return "\n".join([column.name, *([", ".join(chosen)] if chosen else [])])
