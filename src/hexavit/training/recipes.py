"""The recipes of this package: what each is for, and what it reaches, from the header of its file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hexavit.training.config import RECIPES, recipe_path

_LINE = re.compile(r"# (\w+) {2,}(\S.*)")
_NEXT = re.compile(r"# {6,}(\S.*)")


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        name: for ``hexavit train --config NAME``.
        purpose: model, data and method in a sentence.
        command: how to train with it.
        facts: ``hardware``, ``published`` (with its source), ``measured``, and others, by their names in the header.
    """

    name: str
    purpose: str
    command: str
    facts: dict[str, str]


def list_recipes() -> list[Recipe]:
    """All recipes of this package, by name."""
    return [load_recipe(file.stem) for file in sorted(RECIPES.glob("*.yaml"))]


def load_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigError: there is none.
    """
    path = recipe_path(name)
    first, *lines = (line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    command, facts, last = "", dict[str, str](), ""
    for line in lines:
        if found := _LINE.fullmatch(line):
            last, facts[found[1]] = found[1], found[2]
        elif last and (more := _NEXT.fullmatch(line)):
            facts[last] += " " + more[1]
        elif line.startswith("#   hexavit train"):
            command = line[1:].strip()
    return Recipe(path.stem, first[1:].strip(), command, facts)
