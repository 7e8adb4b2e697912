"""Making a tensor fit a model of other classes, channels or image size, when that was asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hexavit.errors import CheckpointError, nearest
from hexavit.models.imagenet import IMAGENET_1K, imagenet_classes
from hexavit.network.backbone import Backbone
from hexavit.parts.attention import Attention
from hexavit.parts.contract import Size
from hexavit.parts.heads import Head
from hexavit.parts.layers import resize_table
from hexavit.parts.positions import DecomposedRelative, LearnedPosition, RelativeBias
from hexavit.parts.positions.decomposed import resize_rows
from hexavit.parts.positions.relative import resize_offsets

Adaptation = Literal["classes", "channels", "position"]
ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)

_TOKENS = "stages.0.tokens."


def chosen(adapt: bool | str | Collection[str]) -> frozenset[str]:
    """The adaptations that were asked for, by name or True for all.

    Raises:
        CheckpointError: one that there is not.
    """
    if isinstance(adapt, bool):
        return frozenset(ADAPTATIONS if adapt else ())
    names = frozenset([adapt] if isinstance(adapt, str) else adapt)
    for name in sorted(names - set(ADAPTATIONS)):
        raise CheckpointError(f"there is nothing to adapt by the name {name!r}: {nearest(name, ADAPTATIONS)}")
    return names


def classifier_keys(model: Backbone) -> tuple[str, ...]:
    """The tensors of a model's last linears, which have a row a class; a head may have two of them."""
    names = model.head.classifiers if isinstance(model.head, Head) else ()
    return tuple(f"head.{name}.{kind}" for name in names for kind in ("weight", "bias"))


def _near(name: str, names: Sequence[str]) -> str:
    """The nearest class, or the number of classes and the first one."""
    hint = nearest(name, names)
    return hint if hint.startswith("did") else f"it has {len(names)}, such as {names[0]!r}"


@dataclass
class Adapter:
    """Fits a state to a model, noting what it did.

    `done` says by our key how a tensor was changed, `kept` by our key why the model's start stays, and `wanting`
    collects the sentences on what does not fit unless it is asked for.
    """

    model: Backbone
    asked: frozenset[str]
    classes: Sequence[int | str] | None
    class_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.done: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        self.wanting: list[str] = []

    def fit(self, state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state with its head, first convolution and position tables of the target's shapes."""
        out = dict(state)
        self._fit_head(out, target)
        self._fit_channels(out, target)
        sides = _fixed_sides(self.model)
        for path, module in self.model.named_modules():
            if isinstance(module, LearnedPosition) and f"{path}.table" in out:
                self._fit_table(out, f"{path}.table", module, state)
            if isinstance(module, RelativeBias) and f"{path}.table" in out:
                self._fit_offsets(out, f"{path}.table", module, sides.get(module, (None, None)))
            if isinstance(module, DecomposedRelative):
                for name in ("table_h", "table_w"):
                    self._fit_rows(out, f"{path}.{name}", getattr(module, name))
        return out

    # Classes

    def _fit_head(self, out: dict[str, Tensor], target: Mapping[str, Tensor]) -> None:
        here, there = self._rows(out), self._rows(target)
        if self.classes is not None:
            self._pick(out, here, there)
        elif here != there:
            if "classes" not in self.asked:
                self.wanting.append(self._other_classes(here, there))
            for key in classifier_keys(self.model):
                if out.pop(key, None) is not None or key in target:
                    self.kept[key] = f"the file has {here} classes, the model {there}"

    @staticmethod
    def _other_classes(here: int, there: int) -> str:
        said = f"it has {here or 'no'} classes and the model {there or 'none'}: adapt='classes' "
        if not there:
            return f"{said}leaves the file's head aside"
        return f"{said}keeps the model's own head" + (", and classes=[...] picks rows of the file's" if here else "")

    def _pick(self, out: dict[str, Tensor], here: int, there: int) -> None:
        assert self.classes is not None
        if not here:
            raise CheckpointError("classes picks rows of the file's head, and it has none")
        rows = [self._row(one, here) for one in self.classes]
        if len(rows) != there:
            raise CheckpointError(f"classes picks {len(rows)} rows for a model of {there} classes: give one a class")
        for key in classifier_keys(self.model):
            if key in out:
                out[key] = out[key][torch.tensor(rows)]
                self.done[key] = f"{there} of {here} rows picked"

    def _row(self, one: int | str, here: int) -> int:
        """The number of a row that is given by its number, or by its class's name."""
        if isinstance(one, str):
            names = self.class_names or (imagenet_classes() if here == IMAGENET_1K else ())
            if self.class_names is not None and len(names) != here:
                raise CheckpointError(f"class_names names {len(names)} classes, and the file has {here}")
            if not names:
                raise CheckpointError(
                    f"the names of the file's {here} classes are not known: give class_names, or numbers"
                )
            if one not in names:
                raise CheckpointError(f"the file has no class {one!r}: {_near(one, names)}")
            return list(names).index(one)
        if not isinstance(one, int) or not 0 <= one < here:
            raise CheckpointError(
                f"classes are names or numbers of the file's {here} rows, 0 to {here - 1}, not {one!r}"
            )
        return one

    @staticmethod
    def _rows(state: Mapping[str, Tensor]) -> int:
        weight = state.get("head.fc.weight")
        return weight.shape[0] if weight is not None and weight.ndim == 2 else 0

    # Channels

    def _fit_channels(self, out: dict[str, Tensor], target: Mapping[str, Tensor]) -> None:
        inside = getattr(self.model.get_submodule(_TOKENS[:-1]), "first_conv", None)
        first = f"{_TOKENS}{inside}.weight"
        of_tokens = [{key for key in keys if key.startswith(_TOKENS)} for keys in (out, target)]
        if inside is None or first not in out or of_tokens[0] != of_tokens[1]:
            return  # other tokens: then it is no matter of channels
        weight, shape = out[first], target[first].shape
        if weight.shape == shape or weight.ndim != 4 or (weight.shape[0], weight.shape[2:]) != (shape[0], shape[2:]):
            return  # equal, or of another kernel
        here, there = weight.shape[1], shape[1]
        if "channels" not in self.asked:
            self.wanting.append(f"it reads {here} channels, the model {there}: adapt='channels' sums or repeats them")
            return
        for key in of_tokens[0]:  # parallel convolutions may read the image
            if out[key].ndim == 4 and (out[key].shape[1], target[key].shape[1]) == (here, there):
                out[key], self.done[key] = adapt_channels(out[key], there)

    # Position tables

    def _fit_table(self, out: dict[str, Tensor], key: str, part: LearnedPosition, state: Mapping[str, Tensor]) -> None:
        table, shape = out[key], part.table.shape
        if table.shape == shape or table.ndim != 3 or table.shape[2] != shape[2]:
            return
        extra = sum(t.shape[1] for name, t in state.items() if name.endswith(".class_token") and t.ndim == 3)
        fits = ((p, _grid(table.shape[1] - p, part.size)) for p in (part.prefix, extra) if p >= part.prefix)
        prefix, grid = next(((p, g) for p, g in fits if g is not None), (0, None))
        if grid is None:
            return  # of another kind of model: its shape is an error
        here, there = f"{grid[0]} x {grid[1]}", f"{part.size[0]} x {part.size[1]}"
        rows = f" and {prefix - part.prefix} more for extra tokens" if prefix > part.prefix else ""
        if "position" not in self.asked:
            self.wanting.append(
                f"its position table is for a grid of {here}{rows}, the model's for {there}: adapt='position' makes it "
                f"fit ({part.resize})"
            )
            return
        resized = table if grid == part.size else resize_table(table, grid, part.size, prefix, part.resize)
        out[key] = torch.cat((resized[:, : part.prefix], resized[:, prefix:]), dim=1)
        self.done[key] = f"resized from {here}{rows} to {there} ({part.resize})"

    def _fit_offsets(self, out: dict[str, Tensor], key: str, part: RelativeBias, sides: tuple[int | None, ...]) -> None:
        """A table of offsets inside another window."""
        table, shape = out[key], part.table.shape
        if table.shape == shape or table.ndim != 2 or table.shape[1] != shape[1]:
            return
        window = _window(table.shape[0], sides)
        if window is None:
            return  # no table of such a window: its shape is an error
        here, there = f"{window[0]} x {window[1]}", f"{part.scope[0]} x {part.scope[1]}"
        if "position" not in self.asked:
            mismatch = f"its position biases are for windows of {here}, the model's for {there}"
            if not any(each.startswith(mismatch) for each in self.wanting):  # once, not for every block
                self.wanting.append(f"{mismatch}: adapt='position' makes them fit (bicubic)")
            return
        out[key] = resize_offsets(table, window, part.scope)
        self.done[key] = f"resized from windows of {here} to {there} (bicubic)"

    def _fit_rows(self, out: dict[str, Tensor], key: str, part: Tensor) -> None:
        """A table of the offsets along one axis."""
        table = out.get(key, part)
        if table.shape == part.shape or table.ndim != 2 or table.shape[1] != part.shape[1]:
            return
        here, there = len(table), len(part)
        if "position" not in self.asked:
            if not any("position tables" in each for each in self.wanting):  # once, not for every block
                self.wanting.append(
                    f"its position tables are of {here} offsets, the model's of {there}: adapt='position' makes them "
                    "fit (linear)"
                )
            return
        out[key], self.done[key] = resize_rows(table, there), f"resized from {here} offsets to {there} (linear)"


def adapt_channels(weight: Tensor, chans: int) -> tuple[Tensor, str]:
    """A first convolution (C, I, k, k) for `chans` channels, and what was done.

    One channel gets the sum over all; more get the file's in turn, scaled by I / chans, so that an image with equal
    channels gives the same output. Same as timm's for I = 3.
    """
    held = weight.shape[1]
    if chans == 1:
        return weight.float().sum(1, keepdim=True).to(weight.dtype), f"{held} channels summed"
    turns = -(-chans // held)
    repeated = weight.float().repeat(1, turns, 1, 1)[:, :chans] * (held / chans)
    return repeated.to(weight.dtype), f"{held} channels repeated to {chans} and scaled by {held}/{chans}"


def _grid(count: int, like: Size) -> Size | None:
    """The grid of `count` tokens: a square, or else one of the shape of `like`."""
    side = isqrt(max(count, 0))
    if side and side * side == count:
        return side, side
    height = isqrt(max(count, 0) * like[0] // like[1])
    for h in (height, height + 1):
        if h and count % h == 0 and h * like[1] == (count // h) * like[0]:
            return h, count // h
    return None


def _window(count: int, sides: tuple[int | None, ...]) -> Size | None:
    """The window with `count` offsets: with one side given the other follows, else it is square."""
    known = [side for side in sides if side is not None]
    if len(known) != 1:
        side = isqrt(count)
        return ((side + 1) // 2,) * 2 if side * side == count and side % 2 else None
    offsets, rest = divmod(count, 2 * known[0] - 1)
    h, w = (side or (offsets + 1) // 2 for side in sides)
    return None if rest or offsets % 2 == 0 else (h, w)


def _fixed_sides(model: Backbone) -> dict[nn.Module, tuple[int | None, ...]]:
    """Of each position inside an attention, the sides of its scope that no map changes: the width of a stripe."""
    found: dict[nn.Module, tuple[int | None, ...]] = {}
    for attention in (module for module in model.modules() if isinstance(module, Attention)):
        pairs = zip(attention.positions((89, 97)), attention.positions((101, 103)), strict=True)
        for (position, one), (_, other) in pairs:
            sides = zip(one.queries, other.queries, strict=True)
            found[position] = tuple(a if a == b else None for a, b in sides)
    return found


def is_norm_counter(module: nn.Module, key: str) -> bool:
    """Whether a key counts a batch norm's steps, which files may lack: inference does not read it."""
    path, _, name = key.rpartition(".")
    return name == "num_batches_tracked" and isinstance(module.get_submodule(path), nn.BatchNorm1d | nn.BatchNorm2d)
