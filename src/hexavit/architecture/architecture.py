"""A model as data: stages of five columns and a head; edited, compared, saved as JSON, printed as a table.

`hexavit.Backbone` builds a model from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from hexavit.architecture.editing import override
from hexavit.architecture.serialization import decode, encode
from hexavit.architecture.stage import BLOCK, Part, Pattern, Stage, is_int, is_number, written
from hexavit.architecture.table import single_row, table_rows, table_text
from hexavit.errors import ArchitectureError
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS, check_options, options


@dataclass(frozen=True)
class Architecture:
    """A whole model: its stages, its head, and what all parts share.

    Attributes:
        name: of the model.
        stages: one row of the table each.
        head: the sixth column.
        in_chans: channels of the images.
        num_classes: number of classes; 0 for pooled features.
        img_size: height and width in pixels of the images for which the model is built.
        norm_eps: epsilon of every norm.
        init: scheme of `hexavit.network.initialisation`.
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
        if not is_int(self.in_chans) or self.in_chans < 1 or not is_int(self.num_classes) or self.num_classes < 0:
            raise ArchitectureError(
                f"in_chans is at least 1 and num_classes at least 0, not {self.in_chans!r} and {self.num_classes!r}"
            )
        for name, value in (("name", self.name), ("init", self.init)):
            if not isinstance(value, str):
                raise ArchitectureError(f"{name} is a word, not {value!r}")
        if not is_number(self.norm_eps) or not 0 < self.norm_eps < 1:
            raise ArchitectureError(f"norm_eps is a number above 0 and below 1, not {self.norm_eps!r}")
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "img_size", image_size(self.img_size))

    def places(self) -> Iterator[tuple[str, str, Part]]:
        """Every part: its path, its kind, and the part."""
        for i, stage in enumerate(self.stages):
            for path, kind, column in stage.columns():
                if isinstance(column, Part):
                    yield f"stages.{i}.{path}", kind, column
                else:
                    for k, part in enumerate(column.cycle):
                        yield f"stages.{i}.{path}" + (f".cycle.{k}" if len(column.cycle) > 1 else ""), kind, part
                    for index, part in column.at.items():
                        yield f"stages.{i}.blocks.{index}.{path}", kind, part
        yield "head", "head", self.head

    def check(self) -> Architecture:
        """Raise for unknown parts and options, and for values of another type; returns itself."""
        for where, kind, part in self.places():
            check_options(kind, part.name, part.options, where)
        return self

    def with_(self, **changes: Any) -> Architecture:
        """A copy with other fields; None leaves a field as it is."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    def override(self, edits: Sequence[str] | Mapping[str, Any]) -> Architecture:
        """A copy edited by paths: see `hexavit.architecture.editing.override`."""
        return override(self, edits)

    # JSON

    def to_json(self) -> str:
        """JSON text; `from_json` gives back an equal architecture."""
        return json.dumps({"format": 1, **encode(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read the text that `to_json` gives.

        Raises:
            ArchitectureError: not JSON, an unknown or missing field, an unknown part or option.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArchitectureError(f"an architecture is JSON text, and this is not: {error}") from None
        architecture: Architecture = decode(cls, data)
        return architecture.check()

    # Comparison and print

    def leaves(self) -> dict[str, str]:
        """Every choice by its path, with the defaults of the parts."""
        flat = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name not in ("stages", "head", "name")}
        for i, stage in enumerate(self.stages):
            for key in ("dim", "depth", "drop_path", "ramp"):
                flat[f"stages.{i}.{key}"] = str(getattr(stage, key))
            if stage.block != BLOCK:
                names = [f"parallel {each.module}" if each.parallel else each.module for each in stage.block]
                flat[f"stages.{i}.block"] = ", ".join(names)
        for where, kind, part in self.places():
            flat[where] = part.name
            for key, parameter in options(kind, part.name).items():
                value = part.options.get(key, parameter.default)
                flat[f"{where}.{key}"] = "required" if value is parameter.empty else written(value)
        return flat

    def diff(self, other: Architecture) -> list[tuple[str, str | None, str | None]]:
        """What differs: (path, here, there), None where one has no such choice. Empty for equal models."""
        here, there = ({**each._cycles(), **each.leaves()} for each in (self, other))
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

    def _cycles(self) -> dict[str, str]:
        """The names in columns that alternate, by the path of a column that is one part."""
        columns = {
            f"stages.{i}.{path}": held for i, stage in enumerate(self.stages) for path, _, held in stage.columns()
        }
        cycles = {path: column.cycle for path, column in columns.items() if isinstance(column, Pattern)}
        return {path: " / ".join(p.name for p in cycle) for path, cycle in cycles.items() if len(cycle) > 1}

    def rows(self) -> list[list[str]]:
        """The six-column table: a header, then a row for each stage."""
        return table_rows(self)

    def row(self, *, options: bool = True) -> list[str]:
        """The whole model in one row of six columns; see `hexavit.architecture.table.single_row`."""
        return single_row(self, options=options)

    def table(self, style: Literal["text", "markdown"] = "text", width: int = 18) -> str:
        """The six-column table as aligned text, cells wrapped at `width`, or as Markdown."""
        return table_text(table_rows(self), style, width)


def image_size(value: Any) -> Size:
    """(H, W) from a side or a pair.

    Raises:
        ArchitectureError: not one or two whole numbers from 1 to 1,000,000.
    """
    pair = (value, value) if is_int(value) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(is_int(n) and n >= 1 for n in pair):
        raise ArchitectureError(f"img_size is a side or (H, W) in pixels, not {value!r}")
    if max(pair) > 1_000_000:  # PyTorch's sizes overflow
        raise ArchitectureError(f"img_size is at most 1000000 pixels per side, not {value!r}")
    return pair[0], pair[1]
