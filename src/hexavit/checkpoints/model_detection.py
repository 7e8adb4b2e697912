"""Which named model a state belongs to, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

import torch
from torch import Tensor

from hexavit.architecture import Architecture, Part
from hexavit.errors import HexavitError
from hexavit.models import KEYS, list_models, model_entry
from hexavit.models.layouts import moved
from hexavit.network.backbone import Backbone
from hexavit.parts.positions import DecomposedRelative, LearnedPosition, RelativeBias

Shapes = Mapping[str, tuple[int, ...]]
_STAGE = re.compile(r"stages\.(\d+)\.")
_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Sketch:
    """What names and shapes alone show: widths, depths, channels, classes, and whether there is a class token."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    in_chans: int
    num_classes: int
    class_token: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Sketch:
        """The sketch of a state under hexavit's names; 0 where it does not show a number."""
        blocks = {int(match[1]): 0 for match in filter(None, map(_STAGE.match, state))}
        for match in filter(None, map(_BLOCK.match, state)):
            blocks[int(match[1])] = max(blocks.get(int(match[1]), 0), int(match[2]) + 1)
        stages = range(len(blocks)) if set(blocks) == set(range(len(blocks))) else range(0)
        return cls(
            tuple(_width(state, f"stages.{i}.") for i in stages),
            tuple(blocks[i] for i in stages),
            _channels(state),
            _size(state, "head.fc.weight", 0, 2),
            any(key.endswith(".class_token") for key in state),
        )


def _size(state: Mapping[str, Tensor], key: str, axis: int, ndim: int) -> int:
    """A tensor's size along an axis, 0 if there is no such tensor."""
    tensor = state.get(key)
    return tensor.shape[axis] if tensor is not None and tensor.ndim == ndim else 0


def _width(state: Mapping[str, Tensor], stage: str) -> int:
    """The output width of a stage's first attention, else of its convolution."""
    width = _size(state, f"{stage}blocks.0.attention.proj.weight", 0, 2)
    return width or _size(state, f"{stage}tokens.conv.weight", 0, 4)


def _channels(state: Mapping[str, Tensor]) -> int:
    """The input channels of the first convolution, or what a family reads from its own tensors; 0 if unknown."""
    tokens = "stages.0.tokens."
    first = _size(state, f"{tokens}steps.0.0.weight", 1, 4) or _size(state, f"{tokens}conv.weight", 1, 4)
    others = (keys.input_channels(state) for keys in KEYS.values() if hasattr(keys, "input_channels"))
    return first or next(filter(None, others), 0)


Places = Callable[[Architecture], Mapping[str, str]]


def guess(state: Mapping[str, Tensor], family: str = "", places: Places | None = None) -> Architecture | None:
    """The named model, edited where the keys require it, that has exactly these tensors; None if there is none.

    Options that leave no trace in keys and shapes keep the named model's value: strides, paddings, activations, and
    whether a projection without convolutions is `linear` or `avg`.

    Args:
        state: tensors under hexavit's names.
        family: the family of the file's layout; its models come first where several have the same tensors.
        places: where modules that the layout numbers through all stages stand in an architecture.
    """
    return next(iter(matches(state, family, places)), None)


def matches(state: Mapping[str, Tensor], family: str = "", places: Places | None = None) -> list[Architecture]:
    """All named models that have exactly these tensors, the best match first.

    Models with the fewest edits come first, then models at the image size of the position tables, then those of the
    family.
    """
    found: list[tuple[tuple[int, bool, bool], Architecture]] = []
    for architecture, named, sketch in _near(state, family, places):
        wanted = _wanted(named)
        edited = _edited(architecture, sketch, named)
        at = edited and _at_size(edited, wanted)
        if edited is not None and at is not None:
            rank = len(architecture.diff(edited)), at.img_size != edited.img_size, model_entry(at.name).family != family
            found.append((rank, at))
    found.sort(key=lambda each: each[0])
    return [at for rank, at in found if rank[:2] == found[0][0][:2]]


def has_tensors(architecture: Architecture, state: Mapping[str, Tensor]) -> bool:
    """Whether a model of an architecture has exactly these tensors."""
    return _shapes(architecture) == _wanted(state)


def _wanted(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(t.shape) for key, t in state.items() if not key.endswith(".num_batches_tracked")}


def _near(
    state: Mapping[str, Tensor], family: str, places: Places | None
) -> Iterator[tuple[Architecture, Mapping[str, Tensor], Sketch]]:
    """The named models of these depths and widths, each with the state under its names and the sketch of that."""
    sketch = Sketch.of(state)
    for name in list_models(family=family) if places else list_models():
        architecture, named = model_entry(name).architecture, state
        if places is not None:
            at = places(architecture)
            named = {moved(key, at): tensor for key, tensor in state.items()}
            sketch = Sketch.of(named)
        widths = zip((stage.dim for stage in architecture.stages), sketch.dims, strict=False)
        depths = tuple(stage.depth for stage in architecture.stages)
        if depths == sketch.depths and all(known in (0, dim) for dim, known in widths):
            yield architecture, named, sketch


def _edited(architecture: Architecture, sketch: Sketch, state: Mapping[str, Tensor]) -> Architecture | None:
    edits: list[str] = []
    if architecture.head.name == "class_token" and not sketch.class_token:
        edits.append("head=pool")
    if "head.pre_logits.0.weight" in state:
        edits.append("head.pre_logits=true")
    for i, stage in enumerate(architecture.stages):
        if f"stages.{i}.position.table" in state and stage.position == Part("none"):
            edits.append(f"stages.{i}.position=learned")
    if found := getattr(KEYS[model_entry(architecture.name).family], "edits", None):
        edits += found(state, architecture)
    try:
        edited = architecture.override(edits)
    except HexavitError:
        return None
    return replace(edited, in_chans=sketch.in_chans or edited.in_chans, num_classes=sketch.num_classes)


def _at_size(architecture: Architecture, wanted: Shapes) -> Architecture | None:
    """The architecture with exactly these shapes, at its own image size or at the square size of its first position
    table; None if neither fits."""
    own = _shapes(architecture)
    if own == wanted:
        return architecture
    ends = (".position.table", ".position.table_h")
    tables = (key for key in own if key.endswith(ends) and own[key] != wanted.get(key))
    table = next(tables, None)
    if table is None or set(own) != set(wanted) or len(own[table]) != len(wanted[table]):
        return None
    resized = _resized(architecture, table, wanted[table])
    return resized if resized is not None and _shapes(resized) == wanted else None


def _resized(architecture: Architecture, table: str, shape: tuple[int, ...]) -> Architecture | None:
    """The architecture at the square image size of one position table: of a grid, or of a window that fills it."""
    with torch.device("meta"):
        model = Backbone(architecture)
    position = model.get_submodule(table.rpartition(".")[0])
    if isinstance(position, LearnedPosition) and len(shape) == 3:
        grid, side = position.size, isqrt(max(shape[1] - position.prefix, 0))
    elif isinstance(position, RelativeBias):
        grid, side = architecture.img_size, (isqrt(shape[0]) + 1) // 2
        for stage in model.stage_modules[: int(table.split(".")[1]) + 1]:
            grid = stage.out_size(grid)
    elif isinstance(position, DecomposedRelative):
        finer = max(position.scope, position.key_scope)
        grid, side = finer, (shape[0] + 1) // 2
    else:
        return None
    if side < 1 or any(whole % part for whole, part in zip(architecture.img_size, grid, strict=True)):
        return None
    return replace(architecture, img_size=(side * (architecture.img_size[0] // grid[0]),) * 2)


@lru_cache(maxsize=64)
def _shapes(architecture: Architecture) -> Shapes:
    try:
        with torch.device("meta"):
            state = Backbone(architecture).state_dict()
    except (HexavitError, RuntimeError, OverflowError):  # a size that no model can have
        return {}
    return _wanted(state)
