"""A model as data: a row of the six-column table per stage, to and from JSON, compared, and printed.

`hexavit.Backbone` builds a model from it; `hexavit.architecture.editing` changes it by paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from textwrap import wrap
from typing import Any, Literal, get_args

from hexavit.errors import ArchitectureError, nearest
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS, check_options, options

COLUMNS = KINDS[:-1]
"""The columns of a stage; the sixth, the head, is the model's."""

Ramp = Literal["stage", "model", "constant"]
Option = bool | int | float | str | None | tuple["Option", ...]


class Part:
    """A part by name with the options that are chosen; the rest are its constructor's defaults."""

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
    """One row: its width, its number of blocks, five columns, and stochastic depth.

    `drop_path` is the rate of the last block; `ramp` says whether it rises from 0 over the `stage` (CvT) or over
    the whole `model` (most others), or is `constant` (CaiT).
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
        if not _is_int(self.dim) or self.dim < 1 or not _is_int(self.depth) or self.depth < 1:
            raise ArchitectureError(
                f"a stage has a width and a depth of at least 1, not dim={self.dim}, depth={self.depth}"
            )
        if self.ramp not in get_args(Ramp):
            raise ArchitectureError(
                f"drop_path ramps over the 'stage' or the 'model', or is 'constant', not {self.ramp!r}"
            )
        if not _number(self.drop_path) or not 0 <= self.drop_path < 1:
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


@dataclass(frozen=True)
class Architecture:
    """A whole model: its stages, its head, and what the six columns share.

    `img_size` (H, W) in pixels is the size it is built at; `norm_eps` goes to every norm; `init` names the scheme
    of `hexavit.network.initialisation`.
    """

    name: str
    stages: tuple[Stage, ...]
    head: Part
    in_chans: int = 3
    num_classes: int = 1000
    img_size: Size = (224, 224)
    norm_eps: float = 1e-6
    init: str = "trunc_normal"

    def __post_init__(self) -> None:
        if not isinstance(self.stages, list | tuple) or not all(isinstance(each, Stage) for each in self.stages):
            raise ArchitectureError(f"an architecture's stages are a list of Stage, not {self.stages!r}")
        if not self.stages:
            raise ArchitectureError("an architecture has at least one stage")
        if not isinstance(self.head, Part):
            raise ArchitectureError(f"head is a Part, as in Part('pool'), not {self.head!r}")
        if not _is_int(self.in_chans) or self.in_chans < 1 or not _is_int(self.num_classes) or self.num_classes < 0:
            raise ArchitectureError(
                f"in_chans is at least 1 and num_classes at least 0, not {self.in_chans!r} and {self.num_classes!r}"
            )
        for name, value in (("name", self.name), ("init", self.init)):
            if not isinstance(value, str):
                raise ArchitectureError(f"{name} is a word, not {value!r}")
        if not _number(self.norm_eps) or not 0 < self.norm_eps < 1:
            raise ArchitectureError(f"norm_eps is a number above 0 and below 1, not {self.norm_eps!r}")
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "img_size", image_size(self.img_size))

    def places(self) -> Iterator[tuple[str, str, Part]]:
        """Every part: where it stands (a path), on which shelf, and the part."""
        for i, stage in enumerate(self.stages):
            for kind in COLUMNS:
                column: Column = getattr(stage, kind)
                if isinstance(column, Part):
                    yield f"stages.{i}.{kind}", kind, column
                else:
                    for k, part in enumerate(column.cycle):
                        yield f"stages.{i}.{kind}" + (f".cycle.{k}" if len(column.cycle) > 1 else ""), kind, part
                    for index, part in column.at.items():
                        yield f"stages.{i}.blocks.{index}.{kind}", kind, part
        yield "head", "head", self.head

    def check(self) -> Architecture:
        """Refuse unknown parts and options, and values of another type; returns itself."""
        for where, kind, part in self.places():
            check_options(kind, part.name, part.options, where)
        return self

    def with_(self, **changes: Any) -> Architecture:
        """A copy with other fields; None leaves a field as it is."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    def override(self, edits: Sequence[str] | Mapping[str, Any]) -> Architecture:
        """A copy edited by paths: see `hexavit.architecture.editing.override`."""
        from hexavit.architecture.editing import override

        return override(self, edits)

    # JSON

    def to_json(self) -> str:
        """JSON text; `from_json` gives back an equal architecture."""
        return json.dumps({"format": 1, **_encode(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read `to_json`'s text.

        Raises:
            ArchitectureError: not JSON, an unknown or missing field, an unknown part or option.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArchitectureError(f"an architecture is JSON text, and this is not: {error}") from None
        if not isinstance(data, dict) or data.pop("format", None) != 1:
            raise ArchitectureError('an architecture is a JSON object with "format": 1')
        stages = data.get("stages", [])
        if not isinstance(stages, list):
            raise ArchitectureError(f"an architecture's stages are a JSON list, not {stages!r}")
        data["stages"] = tuple(_decode(Stage, stage, f"stages.{i}", KINDS) for i, stage in enumerate(stages))
        architecture: Architecture = _decode(cls, data, "architecture", ("head",))
        return architecture.check()

    # Comparison and print

    def leaves(self) -> dict[str, str]:
        """Every choice by its path, the parts' defaults filled in."""
        flat = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name not in ("stages", "head", "name")}
        for i, stage in enumerate(self.stages):
            for key in ("dim", "depth", "drop_path", "ramp"):
                flat[f"stages.{i}.{key}"] = str(getattr(stage, key))
        for where, kind, part in self.places():
            flat[where] = part.name
            for key, parameter in options(kind, part.name).items():
                value = part.options.get(key, parameter.default)
                flat[f"{where}.{key}"] = "required" if value is parameter.empty else written(value)
        return flat

    def diff(self, other: Architecture) -> list[tuple[str, str | None, str | None]]:
        """What differs: (path, here, there), None where one has no such choice. Empty for equal models."""
        here, there = self.leaves(), other.leaves()
        found: list[tuple[str, str | None, str | None]] = []
        replaced: list[str] = []
        for path in [*here, *(path for path in there if path not in here)]:
            a, b = here.get(path), there.get(path)
            if a == b or any(path.startswith(prefix + ".") for prefix in replaced):
                continue
            if path.rsplit(".", 1)[-1] in KINDS:
                replaced.append(path)  # another part: its options are not comparable
            found.append((path, a, b))
        return found

    def rows(self) -> list[list[str]]:
        """The six-column table: a header, then a row a stage. A cell is a part's name and, on a line of its own, the
        options that the data names."""
        table = [["stage", *COLUMNS, "head"]]
        for i, stage in enumerate(self.stages):
            cells = [_cell(getattr(stage, kind)) for kind in COLUMNS]
            last = _cell(self.head) if i == len(self.stages) - 1 else ""
            table.append([f"{i}: {stage.depth} x {stage.dim}", *cells, last])
        return table

    def row(self, *, options: bool = True) -> list[str]:
        """The whole model in one row of six columns: the parts of a column in the order in which they come, each once,
        with the options (but `heads`) that are the same wherever it stands."""
        found: dict[str, dict[str, list[Part]]] = {kind: {} for kind in KINDS}
        for _, kind, part in self.places():
            found[kind].setdefault(part.name, []).append(part)
        return [", then ".join(_common(parts, options) for parts in found[kind].values()) for kind in KINDS]

    def table(self, style: Literal["text", "markdown"] = "text", width: int = 18) -> str:
        """The six-column table as aligned text, cells wrapped at `width`, or as Markdown."""
        rows = self.rows()
        if style == "markdown":
            lines = ["| " + " | ".join(cell.replace("\n", "<br>") for cell in row) + " |" for row in rows]
            return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
        return aligned(rows, width)


def _common(parts: Sequence[Part], options: bool) -> str:
    """Parts of one name as one, with what they have in common."""
    same = set.intersection(*(set(part.options.items()) for part in parts)) if options else set()
    return str(Part(parts[0].name, **{k: v for k, v in parts[0].options.items() if k != "heads" and (k, v) in same}))


def aligned(rows: Sequence[Sequence[str]], width: int = 1000) -> str:
    """Rows of cells as text in columns, cells wrapped at `width`, a rule under the header."""
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


def image_size(value: Any) -> Size:
    """(H, W) from a side or a pair.

    Raises:
        ArchitectureError: not one or two whole numbers of at least 1.
    """
    pair = (value, value) if _is_int(value) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(_is_int(n) and n >= 1 for n in pair):
        raise ArchitectureError(f"img_size is a side or (H, W) in pixels, not {value!r}")
    return pair[0], pair[1]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Option:
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArchitectureError(f"an option is a number, a word, a truth value or a list of these, not {value!r}")


def written(value: Any) -> str:
    """A value of an option as an edit would write it."""
    return {True: "true", False: "false", None: "none"}.get(value, str(value)) if not _number(value) else f"{value:g}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(column: Column) -> str:
    """A column as the table shows it."""
    if isinstance(column, Pattern):
        cycle = "\nthen ".join(_cell(part) for part in column.cycle)
        return "\n".join([cycle, *(f"block {index}: {_cell(part)}" for index, part in column.at.items())])
    chosen = [f"{key}={written(value)}" for key, value in column.options.items()]
    return "\n".join([column.name, *([", ".join(chosen)] if chosen else [])])


def _encode(value: Any) -> Any:
    if isinstance(value, Part):
        return {"part": value.name, **({"options": value.options} if value.options else {})}
    if isinstance(value, Pattern):
        return {"cycle": [_encode(p) for p in value.cycle], "at": {str(k): _encode(p) for k, p in value.at.items()}}
    if isinstance(value, Stage | Architecture):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


def _decode(cls: Callable[..., Any], data: Any, where: str, columns: Sequence[str]) -> Any:
    if not isinstance(data, dict):
        raise ArchitectureError(f"{where} is a JSON object, not {data!r}")
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # always one of the two dataclasses
    for key in data:
        if key not in known:
            raise ArchitectureError(f"{where} has no field {key!r}: {nearest(key, known)}")
    decoded = {key: _decode_column(item, f"{where}.{key}") if key in columns else item for key, item in data.items()}
    try:
        return cls(**decoded)
    except TypeError as error:  # a field without a default is missing
        raise ArchitectureError(f"{where}: {str(error).split(') ')[-1]}") from None


def _decode_column(data: Any, where: str) -> Column:
    if isinstance(data, dict) and isinstance(data.get("part"), str) and set(data) <= {"part", "options"}:
        chosen = data.get("options", {})
        if isinstance(chosen, dict):
            return Part(data["part"], **chosen)
    if isinstance(data, dict) and isinstance(data.get("cycle"), list) and set(data) <= {"cycle", "at"}:
        at = data.get("at", {})
        if isinstance(at, dict) and all(re.fullmatch(r"-?\d+", index) for index in at):
            exceptions = {int(index): _decode_part(part, where) for index, part in at.items()}
            return Pattern([_decode_part(part, where) for part in data["cycle"]], exceptions)
    raise ArchitectureError(
        f'{where} is {{"part": name, "options": {{...}}}} or {{"cycle": [...], "at": {{block: ...}}}}'
    )


def _decode_part(data: Any, where: str) -> Part:
    column = _decode_column(data, where)
    if isinstance(column, Part):
        return column
    raise ArchitectureError(f"{where}: a pattern holds parts, not patterns")
