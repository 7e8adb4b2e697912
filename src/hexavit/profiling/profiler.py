"""What a model costs: parameters, multiply-adds and activation bytes, by stage and by kind of part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hexavit.architecture import Architecture, aligned, image_size
from hexavit.errors import HexavitError
from hexavit.models.registry import resolve
from hexavit.network.backbone import Backbone, FeatureBackbone
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS
from hexavit.profiling.cost import CLASS_TOKEN, Cost, Place


@dataclass(frozen=True)
class Profile:
    """A model's cost for one image.

    Attributes:
        model: name of the architecture.
        img_size: height and width of the image.
        places: cost by stage and kind of part.
    """

    model: str
    img_size: Size
    places: Mapping[Place, Cost]

    @property
    def total(self) -> Cost:
        """The sum over all places."""
        return sum(self.places.values(), Cost())

    @property
    def parameters(self) -> int:
        """Learned values and constants of the whole model."""
        return self.total.parameters

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole model for one image."""
        return self.total.macs

    @property
    def activation_bytes(self) -> int:
        """Bytes that one image keeps for the backward pass."""
        return self.total.activation_bytes

    def by_stage(self) -> dict[str, Cost]:
        """The cost of each stage (`"0"`, `"1"`, ...) and of the head (`"head"`)."""
        return self._summed(0)

    def by_kind(self) -> dict[str, Cost]:
        """The cost of each kind of part, in the table's order, and of the class token."""
        found = self._summed(1)
        return {kind: found[kind] for kind in (*KINDS, CLASS_TOKEN) if kind in found}

    def _summed(self, axis: int) -> dict[str, Cost]:
        sums: dict[str, Cost] = {}
        for place, cost in self.places.items():
            sums[place[axis]] = sums.get(place[axis], Cost()) + cost
        return sums

    def as_dict(self) -> dict[str, Any]:
        """For JSON: multiply-adds and bytes, in total, by stage and by kind."""
        return {
            "model": self.model,
            "img_size": list(self.img_size),
            **self.total.as_dict(),
            "stages": {stage: cost.as_dict() for stage, cost in self.by_stage().items()},
            "kinds": {kind: cost.as_dict() for kind, cost in self.by_kind().items()},
        }

    def table(self) -> str:
        """Aligned text: a row a stage, a row a kind of part, and the total."""
        rows = [_row(f"stage {name}" if name.isdigit() else name, cost) for name, cost in self.by_stage().items()]
        kinds = [_row(name, cost) for name, cost in self.by_kind().items()]
        header = ["", "parameters", "multiply-adds", "activation bytes"]
        title = f"{self.model} at {self.img_size[0]} x {self.img_size[1]}, one image"
        sections = [[*rows, _row("total", self.total)], kinds]
        if self.total.constants:
            sections[0].append(_row("of which constants", Cost(constants=self.total.constants)))
        blank = [""] * len(header)
        cells = _right([header, *sections[0], blank, *sections[1]])
        return f"{title}\n\n{aligned(cells)}"


def profile(
    model_or_name_or_architecture: str | Architecture | Backbone | FeatureBackbone,
    *,
    img_size: int | Size | None = None,
) -> Profile:
    """Count parameters, multiply-adds and activation bytes of a model for one image.

    The forward pass runs on shapes alone: no weights are allocated and no value is computed.

    *Multiply-adds* are PyTorch's count (`torch.utils.flop_counter`, halved) of matrix products and convolutions in
    evaluation mode, with the two products of attention, fused or not. *Activation bytes* are those of the distinct
    tensors that autograd keeps for the backward pass of one float32 image on the CPU: all parameters are trained, fused
    attention is used where a part has it, and there is no gradient checkpointing, dropout or drop path. Weights,
    buffers and the image are not counted. A tensor that several parts keep is counted for the first.

    Args:
        model_or_name_or_architecture: a name or an architecture is built for `img_size`; a model is counted as it is,
            whatever its device, dtype and mode.
        img_size: side or (H, W) in pixels; None for the architecture's.

    Raises:
        ArchitectureError: an unknown name, or parts that do not fit together.
        HexavitError: not a model, an image that is too small, or a part whose work depends on the values of its tokens.
    """
    # What PyTorch counts with is heavy to import.
    from hexavit.profiling.counting import built, count

    model = model_or_name_or_architecture
    if isinstance(model, str | Architecture):
        model = built(resolve(model, img_size=img_size))
    if not isinstance(model, Backbone | FeatureBackbone):
        raise HexavitError(f"profile takes a model's name, an Architecture or a model of hexavit, not {type(model)}")
    architecture = model.architecture
    size = architecture.img_size if img_size is None else image_size(img_size)
    return Profile(architecture.name, size, MappingProxyType(count(model, size)))


def costs(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds of named models at their image sizes.

    Read from the table that `docs/tables.py` writes; a model that is not in it is counted, in about half a second.
    """
    known = json.loads((Path(__file__).parent / "counted.json").read_text(encoding="utf-8"))
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        counted = None if name in known else profile(name)
        found[name] = (counted.parameters, counted.macs) if counted else (known[name][0], known[name][1])
    return found


def _row(name: str, cost: Cost) -> list[str]:
    return [name, f"{cost.parameters:,}", f"{cost.macs:,}", f"{cost.activation_bytes:,}"]


def _right(rows: list[list[str]]) -> list[list[str]]:
    """All columns but the first aligned to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [[row[0], *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
