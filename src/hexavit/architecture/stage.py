"""One stage as data: its parts by name and options, a row of the six-column table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hexavit.errors import ArchitectureError
from hexavit.parts.registry import KINDS

COLUMNS = KINDS[:-1]
"""The columns of a stage; the sixth, the head, is the model's."""

Ramp = Literal["stage", "model", "constant"]
_MAX_DEPTH = 10_000  # more is a mistake, and building would not end
Option = bool | int | float | str | None | tuple["Option", ...]


class Part:
    """A part by name, with the options that are set; other options have the defaults of its constructor."""

    __slots__ = ("name", "options")

    def __init__(self, name: str, /, **options: Any) -> None:
        self.name = name
        self.options: dict[str, Option] = {key: _plain(value) for key, value in options.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.name, self.options) == (other.name, other.options)

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.options.items(), key=lambda item: item[0]))))

    def __repr__(self) -> str:
        return f"Part({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.options.items())])})"

    def __str__(self) -> str:
        chosen = ", ".join(f"{key}={written(value)}" for key, value in self.options.items())
        return f"{self.name}({chosen})" if chosen else self.name


class Pattern:
    """A column that changes over the blocks of its stage: a cycle of parts, and exceptions by block number.

    `Pattern([window, shifted])` alternates; `Pattern([none], at={0: peg})` is PEG after block 0;
    `Pattern([plain], at={-1: other, -2: other})` has the last two differ. Negative numbers count from the end.
    """

    __slots__ = ("at", "cycle")

    def __init__(self, cycle: Sequence[Part], at: Mapping[int, Part] | None = None) -> None:
        if not cycle:
            raise ArchitectureError("a pattern needs at least one part in its cycle")
        self.cycle = tuple(cycle)
        self.at = dict(at or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and (self.cycle, self.at) == (other.cycle, other.at)

    def __hash__(self) -> int:
        return hash((self.cycle, tuple(sorted(self.at.items()))))

    def __repr__(self) -> str:
        return f"Pattern({list(self.cycle)!r}, at={self.at!r})"

    def __str__(self) -> str:
        parts = [" / ".join(map(str, self.cycle)), *(f"{index}: {part}" for index, part in self.at.items())]
        return "; ".join(parts)


Column = Part | Pattern


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        dim: width C.
        depth: number of blocks.
        tokens: how tokens enter the stage.
        attention: a part, or a pattern over the blocks, as the next three.
        position: how tokens know their place.
        feedforward: what transforms each token.
        residual: where norms and skips are placed.
        drop_path: rate of stochastic depth in the last block.
        ramp: `stage` if the rate rises from 0 over the stage (CvT), `model` over the whole model (most others),
            `constant` if it is equal in all blocks (CaiT).
    """

    dim: int
    depth: int
    tokens: Part
    attention: Column
    position: Column = field(default_factory=lambda: Part("none"))
    feedforward: Column = field(default_factory=lambda: Part("mlp"))
    residual: Column = field(default_factory=lambda: Part("pre_norm"))
    drop_path: float = 0.0
    ramp: Ramp = "model"

    def __post_init__(self) -> None:
        if not is_int(self.dim) or self.dim < 1 or not is_int(self.depth) or self.depth < 1:
            raise ArchitectureError(
                f"a stage has a width and a depth of at least 1, not dim={self.dim}, depth={self.depth}"
            )
        if self.depth > _MAX_DEPTH:
            raise ArchitectureError(f"a stage has at most {_MAX_DEPTH} blocks, not depth={self.depth}")
        if self.ramp not in get_args(Ramp):
            raise ArchitectureError(
                f"drop_path ramps over the 'stage' or the 'model', or is 'constant', not {self.ramp!r}"
            )
        if not is_number(self.drop_path) or not 0 <= self.drop_path < 1:
            raise ArchitectureError(f"drop_path is a probability in [0, 1), not {self.drop_path!r}")
        for kind in COLUMNS:
            column = getattr(self, kind)
            if not isinstance(column, Part | Pattern):
                raise ArchitectureError(f"{kind} is a Part or a Pattern, as in Part('name'), not {column!r}")

    def column(self, kind: str, block: int | None = None) -> Part:
        """The part in a column, at a block for a pattern."""
        column: Column = getattr(self, kind)
        if isinstance(column, Part):
            return column
        if block is None:
            raise ArchitectureError(
                f"{kind}={column} changes over the blocks, and here it must be one part for the stage"
            )
        found = column.cycle[block % len(column.cycle)]
        for index, part in column.at.items():
            if not -self.depth <= index < self.depth:
                raise ArchitectureError(f"{kind} names block {index} of a stage of {self.depth}")
            if index % self.depth == block:
                found = part
        return found


def is_int(value: Any) -> bool:
    """Whether a value is a whole number, which a truth value is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Option:
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArchitectureError(f"an option is a number, a word, a truth value or a list of these, not {value!r}")


def written(value: Any) -> str:
    """A value of an option, as in an edit."""
    return {True: "true", False: "false", None: "none"}.get(value, str(value)) if not is_number(value) else f"{value:g}"


def is_number(value: Any) -> bool:
    """Whether a value is a number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
