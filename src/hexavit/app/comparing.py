"""Two models as six columns: what differs, what each part costs, and which parts fit in a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hexavit.architecture import Architecture, Part
from hexavit.architecture.comparison import compare
from hexavit.architecture.stage import Pattern, written
from hexavit.errors import HexavitError
from hexavit.models import list_models, model_entry
from hexavit.parts.registry import KINDS, options, part_names
from hexavit.profiling import Profile, profile
from hexavit.profiling.counting import built

ALL = "all"
"""The menu's word for every stage."""


@dataclass(frozen=True)
class Side:
    """One of two models that are compared.

    Attributes:
        name: of the model, with the number of its edits.
        architecture: with the edits.
        counted: its cost for one image.
    """

    name: str
    architecture: Architecture
    counted: Profile


def edits_of(text: str) -> list[str]:
    """The edits in a text, one per line; a leading `--set` is ignored."""
    lines = (line.strip().removeprefix("--set").strip() for line in text.splitlines())
    return [line for line in lines if line]


def side(name: str, architecture: Architecture, edits: Sequence[str]) -> Side:
    """A model with edits, built on shapes and counted.

    Raises:
        HexavitError: an edit does not exist or does not fit; the sentence names both parts.
    """
    edited = architecture.override(list(edits))
    count = f" + {len(edits)} edit{'s' if len(edits) > 1 else ''}" if edits else ""
    return Side(name + count, edited, _counted(edited))


@lru_cache(maxsize=64)
def _counted(architecture: Architecture) -> Profile:
    return profile(architecture)


def stage_rows(one: Architecture, other: Architecture) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each stage its title and, for each of the six columns, the cells of both; empty where one has no such stage.

    The head is in the row of the last stage of each.
    """
    tables = [architecture.rows()[1:] for architecture in (one, other)]
    width = 1 + len(KINDS)
    rows = []
    for number in range(max(map(len, tables))):
        a, b = (table[number] if number < len(table) else [""] * width for table in tables)
        title = a[0] if a[0] == b[0] else f"{a[0] or '–'} | {b[0] or '–'}"
        rows.append((title, list(zip(a[1:], b[1:], strict=True))))
    return rows


def differences(one: Architecture, other: Architecture) -> list[list[str]]:
    """A header and a row for each choice that differs."""
    found = compare(one, other)
    return [["column", "where", "A", "B"], *([d.column, d.path, d.here or "–", d.there or "–"] for d in found)]


def cost_rows(one: Side, other: Side) -> list[list[str]]:
    """A header, and parameters, multiply-adds, activation bytes and image size of both."""
    rows = [["", "A", "B", "difference"]]
    for name in ("parameters", "macs", "activation_bytes"):
        a, b = getattr(one.counted, name), getattr(other.counted, name)
        title = {"macs": "multiply-adds", "activation_bytes": "activation bytes"}.get(name, name)
        rows.append([title, f"{a:,}", f"{b:,}", "equal" if a == b else f"{b / a - 1:+.1%}" if a else "–"])
    sizes = [" x ".join(map(str, each.counted.img_size)) for each in (one, other)]
    return [*rows, ["image size", *sizes, "equal" if sizes[0] == sizes[1] else "different"]]


def cost_by_kind(one: Side, other: Side, unit: str = "macs") -> list[tuple[str, list[tuple[float, str]]]]:
    """For each kind of part its multiply-adds (`macs`) or `parameters` in both, with the numbers as text."""
    both = [each.counted.by_kind() for each in (one, other)]
    kinds = [kind for kind in both[0] | both[1] if any(kind in each for each in both)]
    found = []
    for kind in kinds:
        values = [float(getattr(each[kind], unit)) if kind in each else 0.0 for each in both]
        found.append((kind.replace("_", " "), [(value, short(value)) for value in values]))
    return found


def short(value: float) -> str:
    """A number with three digits and a unit."""
    for unit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0f}"


# Menus of edits


@dataclass(frozen=True)
class Choice:
    """One entry of the menu of parts.

    Attributes:
        name: of the part.
        value: of the edit, such as `window(window=7)`.
        error: the sentence if it does not fit; empty if it does.
    """

    name: str
    value: str
    error: str = ""

    @property
    def label(self) -> str:
        """The text of the menu."""
        return f"{self.name} (does not fit)" if self.error else self.name


def stages_of(architecture: Architecture) -> list[str]:
    """The menu of stages."""
    count = len(architecture.stages)
    return [*(str(number) for number in range(count)), *([ALL] if count > 1 else [])]


def path_of(stage: str, kind: str) -> str:
    """Path of a column."""
    return "head" if kind == "head" else f"stages.{'*' if stage == ALL else stage}.{kind}"


@lru_cache(maxsize=64)
def choices(architecture: Architecture, stage: str, kind: str) -> tuple[Choice, ...]:
    """Every part of a kind for a column: those that fit first, each tried by building the model on shapes.

    A part with required options that the present part does not have gets those of the first model that uses it.
    """
    found = [_choice(architecture, path_of(stage, kind), kind, name) for name in part_names(kind)]
    return tuple(sorted(found, key=lambda each: bool(each.error)))


def _choice(architecture: Architecture, path: str, kind: str, name: str) -> Choice:
    error = ""
    for value in dict.fromkeys((name, str(Part(name, **_required(kind, name))))):
        try:
            built(architecture.override([f"{path}={value}"]))
        except HexavitError as raised:
            error = error or str(raised)
            continue
        except (RuntimeError, ValueError, TypeError) as raised:  # a part that builds on no shapes
            error = error or f"{path}={value} cannot be built: {' '.join(str(raised).split())}"
            continue
        return Choice(name, value)
    return Choice(name, name, error)


@lru_cache(maxsize=256)
def _required(kind: str, name: str) -> dict[str, object]:
    """The required options of a part, with the values of the first model that uses it."""
    needed = [key for key, parameter in options(kind, name).items() if parameter.default is parameter.empty]
    for model in list_models() if needed else ():
        for _, of_kind, part in model_entry(model).architecture.places():
            if (of_kind, part.name) == (kind, name):
                return {key: part.options[key] for key in needed if key in part.options}
    return {}


def current(architecture: Architecture, stage: str, kind: str) -> list[Part]:
    """The parts in a column, of the first stage for all."""
    if kind == "head":
        return [architecture.head]
    column = getattr(architecture.stages[0 if stage == ALL else int(stage)], kind)
    return list(dict.fromkeys((*column.cycle, *column.at.values()))) if isinstance(column, Pattern) else [column]


def option_values(architecture: Architecture, stage: str, kind: str) -> dict[str, str]:
    """The options of the parts in a column with their values, as an edit writes them."""
    found: dict[str, str] = {}
    for part in current(architecture, stage, kind):
        for key, parameter in options(kind, part.name).items():
            value = part.options.get(key, parameter.default)
            found.setdefault(key, "" if value is parameter.empty else written(value))
    return found


def with_edit(edits: Sequence[str], path: str, value: str) -> list[str]:
    """Edits with one more, which replaces earlier ones of the same path and of what lies below it."""
    kept = [
        each for each in edits if (old := each.partition("=")[0].strip()) != path and not old.startswith(path + ".")
    ]
    return [*kept, f"{path}={value}"]
