"""The survey as a table with filters: every mechanism with its part, its model, the model's size and licences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hexavit.app.comparing import short
from hexavit.models import list_models, model_entry
from hexavit.models.survey import survey
from hexavit.parts.registry import KINDS, part_names
from hexavit.profiling import costs

ANY = "any"
SIZES = {"up to 6 M": 6e6, "up to 30 M": 30e6, "up to 60 M": 60e6, "up to 100 M": 100e6}
"""The menu of sizes: largest number of parameters."""
HEAD = ["system", "column", "mechanism", "part", "model", "parameters", "weights", "in CvT-13"]


@dataclass(frozen=True)
class Mechanism:
    """One row.

    Attributes:
        system: that introduced or uses it.
        kind: the column.
        what: the mechanism in words.
        part: names of parts.
        model: a model that has it; empty if none has.
        parameters: of the model.
        licences: of the model's published weights.
        change: edits that put it into CvT-13, or why there are none, or the error.
    """

    system: str
    kind: str
    what: str
    part: str
    model: str
    parameters: int | None
    licences: tuple[str, ...]
    change: str

    def cells(self) -> list[str]:
        """The cells under `HEAD`."""
        size = "–" if self.parameters is None else short(self.parameters)
        return [self.system, self.kind, self.what, self.part, self.model, size, ", ".join(self.licences), self.change]


@cache
def mechanisms() -> tuple[Mechanism, ...]:
    """All rows, by column in the order of the survey."""
    table = survey()
    known = set(list_models())
    models = {row["model"] for kind in KINDS for row in table[kind] if row.get("model") in known}
    sizes = costs(sorted(models))
    found = []
    for kind in KINDS:
        for row in table[kind]:
            model = row.get("model", "")
            weights = model_entry(model).weights if model in known else ()
            change = "\n".join(row.get("set", ()))
            change = f"no edit: {row['outside']}" if "outside" in row else change
            change += f"\nis an error: {row['error']}" if "error" in row else ""
            found.append(
                Mechanism(
                    row["system"], kind, row["what"], row.get("part", ""), model,
                    sizes[model][0] if model in sizes else None,
                    tuple(dict.fromkeys(weight.license for weight in weights)), change,
                )
            )  # fmt: skip
    return tuple(found)


def menu(name: str) -> list[str]:
    """The values of a filter: `system`, `kind`, `part`, `size` or `licence`."""
    rows = mechanisms()
    values: list[str]
    if name == "size":
        values = list(SIZES)
    elif name == "licence":
        values = sorted({licence for row in rows for licence in row.licences})
    elif name == "part":
        words = {word for row in rows for word in row.part.replace(",", " ").split()}
        values = sorted(words & {part for kind in KINDS for part in part_names(kind)})
    else:
        values = list(dict.fromkeys(getattr(row, name) for row in rows))
    return [ANY, *values]


def filtered(
    system: str = ANY, kind: str = ANY, part: str = ANY, size: str = ANY, licence: str = ANY, words: str = ""
) -> list[Mechanism]:
    """The rows that satisfy all filters.

    Args:
        system: its name.
        kind: a column.
        part: name of a part.
        size: a key of `SIZES`; rows without a model are left out.
        licence: of published weights of the model.
        words: each of which is in some cell, in any case.
    """
    wanted = words.lower().split()
    return [
        row
        for row in mechanisms()
        if system in (ANY, row.system)
        and kind in (ANY, row.kind)
        and (part == ANY or part in row.part.replace(",", " ").split())
        and (size == ANY or (row.parameters is not None and row.parameters <= SIZES[size]))
        and (licence == ANY or licence in row.licences)
        and all(word in " ".join(row.cells()).lower() for word in wanted)
    ]
