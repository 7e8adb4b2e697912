"""Which named model a state belongs to, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt

import torch
from torch import Tensor

from hexavit._backbone import Backbone
from hexavit.architecture import Architecture, Part
from hexavit.errors import HexavitError
from hexavit.models import list_models, model_entry

_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Sketch:
    """What shapes alone tell: widths, depths, the first kernel, channels, classes, whether a class token enters."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    kernel: int
    in_chans: int
    num_classes: int
    class_token: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Sketch:
        """The sketch of a state under our names; zeros where it does not say."""
        blocks: dict[int, int] = {}
        for match in filter(None, map(_BLOCK.match, state)):
            blocks[int(match[1])] = max(blocks.get(int(match[1]), 0), int(match[2]) + 1)
        stages = range(len(blocks)) if set(blocks) == set(range(len(blocks))) else range(0)
        first = state.get("stages.0.tokens.conv.weight")
        known = first is not None and first.ndim == 4
        head = state.get("head.fc.weight")
        fronts = ("conv", "reduction")  # a convolution, or the linear of a merging
        widths = [
            next((state[key] for name in fronts if (key := f"stages.{i}.tokens.{name}.weight") in state), None)
            for i in stages
        ]
        return cls(
            tuple(0 if w is None else w.shape[0] for w in widths),
            tuple(blocks[i] for i in stages),
            first.shape[2] if known and first is not None else 0,
            first.shape[1] if known and first is not None else 0,
            head.shape[0] if head is not None and head.ndim == 2 else 0,
            any(key.endswith(".class_token") for key in state),
        )


def guess(state: Mapping[str, Tensor]) -> Architecture | None:
    """The named model, edited where its keys say so, that has just these tensors; None if no one does.

    What leaves no trace in keys and shapes keeps the named model's value: strides, paddings, activations, and
    whether keys without convolutions are `linear` or `avg`.
    """
    sketch = Sketch.of(state)
    wanted = {key: tuple(t.shape) for key, t in state.items() if not key.endswith(".num_batches_tracked")}
    found: list[Architecture] = []
    for architecture in _near(sketch):
        edited = _edited(architecture, sketch, state)
        if edited is not None and _shapes(edited) == wanted:
            if edited.img_size == architecture.img_size:
                return edited
            found.append(edited)
    return found[0] if found else None


def _near(sketch: Sketch) -> Iterator[Architecture]:
    for name in list_models():
        architecture = model_entry(name).architecture
        stages = architecture.stages
        kernel = stages[0].tokens.options.get("kernel")
        here = tuple(s.dim for s in stages), tuple(s.depth for s in stages), kernel
        if here == (sketch.dims, sketch.depths, sketch.kernel):
            yield architecture


def _edited(architecture: Architecture, sketch: Sketch, state: Mapping[str, Tensor]) -> Architecture | None:
    edits: list[str] = []
    if architecture.head.name == "class_token" and not sketch.class_token:
        edits.append("head=pool")
    if "head.pre_logits.0.weight" in state:
        edits.append("head.pre_logits=true")
    for i, stage in enumerate(architecture.stages):
        part, front = stage.column("attention", 0), f"stages.{i}.blocks.0.attention."
        if part.name == "conv_projection":
            if f"{front}conv_q.conv.weight" not in state:
                edits.append(f"stages.{i}.attention.method=linear")
            if f"{front}proj_q.bias" not in state and part.options.get("qkv_bias", True):
                edits.append(f"stages.{i}.attention.qkv_bias=false")
        if f"stages.{i}.position.table" in state:
            edits += [f"stages.{i}.position=learned"] if stage.position == Part("none") else []
    try:
        edited = architecture.override(edits)
    except HexavitError:
        return None
    edited = replace(edited, in_chans=sketch.in_chans, num_classes=sketch.num_classes)
    return _at_table_size(edited, state, sketch)


def _at_table_size(architecture: Architecture, state: Mapping[str, Tensor], sketch: Sketch) -> Architecture:
    """The architecture at the square image size that a column's position table is for."""
    table = state.get("stages.0.position.table")
    if table is None or table.ndim != 3 or len(architecture.stages) > 1:
        return architecture
    side = isqrt(max(table.shape[1] - int(sketch.class_token), 0))
    return replace(architecture, img_size=(max(side, 1) * sketch.kernel,) * 2)


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            state = Backbone(architecture).state_dict()
    except (HexavitError, RuntimeError, OverflowError):  # a size that no model can have
        return {}
    return {key: tuple(t.shape) for key, t in state.items() if not key.endswith(".num_batches_tracked")}
