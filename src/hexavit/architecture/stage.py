"""One stage as data: its parts by name and options, a row of the six-column table; and the branches of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hexavit.errors import ArchitectureError
from hexavit.parts.registry import KINDS, Kind, part_names

COLUMNS = KINDS[:-1]
"""The columns of a stage; the sixth, the head, is the model's."""

Ramp = Literal["stage", "model", "constant"]
BranchKind = Literal["attention", "feedforward"]
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
class Branch:
    """One branch of a block: a part inside a residual.

    Attributes:
        kind: kind of part: `attention`, if it mixes tokens, or `feedforward`, if it transforms each.
        part: the part, or a pattern over the blocks; None for the stage's column of this kind.
        residual: norm, skip and sum around it; None for the stage's residual.
        position: of an attention, a position part that acts inside it besides the stage's; None for no other.
        parallel: read the tokens that the branch before it read, and add to that branch's sum.
        name: name of its modules in the block; empty for its kind.
    """

    kind: BranchKind
    part: Column | None = None
    residual: Column | None = None
    position: Column | None = None
    parallel: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(BranchKind):
            raise ArchitectureError(f"a branch's kind is 'attention' or 'feedforward', not {self.kind!r}")
        for field_ in BRANCH_COLUMNS:
            if not isinstance(getattr(self, field_), Part | Pattern | None):
                raise ArchitectureError(
                    f"a branch's {field_} is a Part, a Pattern or none, not {getattr(self, field_)!r}"
                )
        if self.position is not None and self.kind != "attention":
            raise ArchitectureError(f"position={self.position} acts inside an attention, not in a {self.kind}")
        if not isinstance(self.parallel, bool) or not isinstance(self.name, str):
            raise ArchitectureError(
                f"a branch's parallel is true or false and its name a word, not {self.parallel!r} and {self.name!r}"
            )
        if self.name and (not self.name.isidentifier() or self.name in _BLOCK_NAMES):
            raise ArchitectureError(f"a branch's name is an identifier and none of {_BLOCK_NAMES}, not {self.name!r}")

    @property
    def module(self) -> str:
        """Name of its module in the block."""
        return self.name or self.kind

    @property
    def columns(self) -> dict[str, tuple[str, Column]]:
        """What it sets itself: kind of part and column, by field."""
        kinds = {"part": self.kind, "residual": "residual", "position": "position"}
        return {name: (kind, held) for name, kind in kinds.items() if (held := getattr(self, name)) is not None}


BRANCH_COLUMNS = ("part", "residual", "position")
_BLOCK_NAMES = ("position", "residual", "output_map")
BLOCK = (Branch("attention"), Branch("feedforward"))
"""The Transformer's block."""


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        dim: width C.
        depth: number of blocks; 0 for a stage of tokens alone.
        tokens: how tokens enter the stage.
        attention: a part, or a pattern over the blocks, as the next three.
        position: how tokens know their place.
        feedforward: what transforms each token.
        residual: where norms and skips are placed.
        drop_path: rate of stochastic depth in the last block.
        ramp: `stage` if the rate rises from 0 over the stage (CvT), `model` over the whole model (most others),
            `constant` if it is equal in all blocks (CaiT).
        block: the branches of each block, in order.
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
    block: tuple[Branch, ...] = BLOCK

    def __post_init__(self) -> None:
        if not is_int(self.dim) or self.dim < 1 or not is_int(self.depth) or self.depth < 0:
            raise ArchitectureError(
                f"a stage has a width of at least 1 and a depth of at least 0, not dim={self.dim}, depth={self.depth}"
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
        if not isinstance(self.block, list | tuple) or not self.block:
            raise ArchitectureError(f"a block is a list of at least one Branch, not {self.block!r}")
        object.__setattr__(self, "block", tuple(_branch(each) for each in self.block))
        names = [branch.module for branch in self.block]
        if len(set(names)) < len(names):
            raise ArchitectureError(f"the branches of a block are {', '.join(names)}: give each a name of its own")
        if self.block[0].parallel:
            raise ArchitectureError("the first branch of a block has none before it to be parallel to")

    @property
    def used(self) -> tuple[Kind, ...]:
        """The columns that are used: those of branches only if a branch of the block takes its part from there."""
        taken = {branch.kind for branch in self.block if branch.part is None}
        return tuple(kind for kind in COLUMNS if kind not in get_args(BranchKind) or kind in taken)

    def column(self, kind: str, block: int | None = None) -> Part:
        """The part in a column, at a block for a pattern."""
        return self.chosen(getattr(self, kind), kind, block)

    def columns(self) -> Iterator[tuple[str, str, Column]]:
        """Path in the stage, kind, and column: the columns that are used, then what the branches of the block set."""
        for kind in self.used:
            yield kind, kind, getattr(self, kind)
        for k, branch in enumerate(self.block):
            for name, (of_kind, column) in branch.columns.items():
                yield f"block.{k}.{name}", of_kind, column

    def chosen(self, column: Column, kind: str, block: int | None) -> Part:
        """The part of a column at a block."""
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


def _branch(value: Any) -> Branch:
    """A branch, or one by its kind or its part alone."""
    if isinstance(value, str):
        return Branch(value)  # type: ignore[arg-type]  # checked there
    if isinstance(value, Part):
        found = [kind for kind in get_args(BranchKind) if value.name in part_names(kind)]
        if not found:
            raise ArchitectureError(f"a branch of a block is an attention or a feedforward, and {value} is neither")
        return Branch(found[0], value, name="" if value.name in _BLOCK_NAMES else value.name)
    if not isinstance(value, Branch):
        raise ArchitectureError(f"a block is a list of Branch, not of {value!r}")
    return value


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
