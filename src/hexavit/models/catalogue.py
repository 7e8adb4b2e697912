"""The registered parts with their documentation, their options and the models that use them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from textwrap import fill
from typing import Any, get_type_hints

from hexavit.architecture import aligned, written
from hexavit.errors import ArchitectureError, nearest
from hexavit.models.registry import list_models, model_entry, parts_of
from hexavit.parts.registry import KINDS, described, options, part_class, part_names


@dataclass(frozen=True)
class PartOption:
    """An option of a part: the values that it takes, in words, and its default, or `required`."""

    name: str
    takes: str
    default: str


@dataclass(frozen=True)
class PartPage:
    """The documentation of one part."""

    kind: str
    name: str
    text: str
    options: tuple[PartOption, ...]
    used_by: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first paragraph of its text, in one line."""
        return " ".join(self.text.split("\n\n")[0].split())

    def table(self) -> str:
        """The text, the options and the models, for a terminal."""
        rows = [["option", "default", "takes"], *([each.name, each.default, each.takes] for each in self.options)]
        chosen = aligned(rows, width=60) if self.options else "no options"
        used = fill(", ".join(self.used_by) or "no named model", 110, break_on_hyphens=False)
        return f"{self.kind} {self.name}\n\n{self.text}\n\n{chosen}\n\nused by: {used}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "text": self.text,
            "options": {each.name: {"takes": each.takes, "default": each.default} for each in self.options},
            "used_by": list(self.used_by),
        }


def part_page(kind: str, name: str) -> PartPage:
    """The documentation of a part.

    Raises:
        ArchitectureError: no such kind, or no part of that kind with this name.
    """
    if kind not in KINDS:
        raise ArchitectureError(f"there is no kind of part {kind!r}: {nearest(kind, KINDS)}")
    cls = part_class(kind, name)
    known = options(kind, name)
    hints = get_type_hints(cls.__init__) if known else {}
    found = tuple(
        PartOption(
            key,
            described(hints[key]) if key in hints else "anything",
            "required" if parameter.default is parameter.empty else written(parameter.default),
        )
        for key, parameter in known.items()
    )
    return PartPage(kind, name, inspect.getdoc(cls) or "", found, _users().get((kind, name), ()))


def find_parts(name: str | None = None) -> list[PartPage]:
    """All parts, those of one kind (`attention`), those of one name, or one part (`attention.global`).

    Raises:
        ArchitectureError: neither a kind nor a part has this name.
    """
    every = [(kind, part) for kind in KINDS for part in part_names(kind)]
    found = [(kind, part) for kind, part in every if name is None or name in (kind, part, f"{kind}.{part}")]
    if not found:
        kind = str(name).partition(".")[0]
        known = [f"{kind}.{part}" for part in part_names(kind)] if kind in KINDS else [part for _, part in every]
        raise ArchitectureError(f"there is no part or kind of part {name!r}: {nearest(str(name), [*KINDS, *known])}")
    return [part_page(kind, part) for kind, part in found]


@cache
def _users() -> dict[tuple[str, str], tuple[str, ...]]:
    """The models that use a part, by kind and name."""
    users: dict[tuple[str, str], list[str]] = {}
    for model in list_models():
        for place in parts_of(model_entry(model).architecture):
            users.setdefault(place, []).append(model)
    return {place: tuple(names) for place, names in users.items()}
