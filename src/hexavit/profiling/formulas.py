"""The cost formula of each part, evaluated beside the counted figure."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from hexavit.architecture import aligned
from hexavit.network.backbone import Backbone
from hexavit.network.block import Block, out_size
from hexavit.parts.attention import Attention
from hexavit.parts.contract import PartModule, Scope, Size, halves
from hexavit.profiling.cost import Cost, Place
from hexavit.profiling.profiler import Profile


@dataclass(frozen=True)
class Formula:
    """The multiply-adds of one kind of part in one stage.

    Attributes:
        stage: number of the stage, or `head`.
        kind: kind of part.
        formula: the formula of each class of part, in the symbols of its docstring.
        evaluated: the formula's value, over all blocks of the stage.
        counted: the figure that `hexavit.profile` counts.
    """

    stage: str
    kind: str
    formula: str
    evaluated: int
    counted: int


def formulas(model: Backbone, counted: Profile) -> list[Formula]:
    """The formulas of a model's parts, at the image size of a profile of that model."""
    evaluated: dict[Place, int] = {}
    texts: dict[Place, list[str]] = {}
    for place, part, size, extra, scope in _calls(model, counted.img_size):
        if isinstance(part, PartModule) and type(part).macs is not PartModule.macs:
            macs = part.macs(size, extra) if scope is None else part.macs_inside(size, scope)
            evaluated[place] = evaluated.get(place, 0) + macs
            known = texts.setdefault(place, [])
            text = " ".join((inspect.getdoc(type(part).macs) or "").split()).rstrip(".")
            known += [text] if text not in known else []
    return [
        Formula(*place, "; ".join(texts[place]), value, counted.places.get(place, Cost()).macs)
        for place, value in evaluated.items()
    ]


def formula_table(found: list[Formula]) -> str:
    """The formulas as aligned text."""
    rows = [["stage", "part", "formula", "evaluated", "counted"]]
    rows += [[each.stage, each.kind, each.formula, f"{each.evaluated:,}", f"{each.counted:,}"] for each in found]
    return aligned(rows, width=48)


def _calls(model: Backbone, size: Size) -> Iterator[tuple[Place, nn.Module, Size, int, Scope | None]]:
    """Each part of a model: its place, the part, the grid and the number of extra tokens that it gets, and of a
    position inside an attention where the heads meet."""
    extra = 0
    for number, stage in enumerate(model.stage_modules):
        name = str(number)
        yield (name, "tokens"), stage.tokens, size, extra, None
        size, extra = out_size(stage.tokens, size), stage.extra
        if stage.position is not None:
            yield (name, "position"), stage.position, size, extra, None
        for block in stage.typed_blocks:
            yield from _calls_of(block, name, size, extra)
            size = block.out_size(size)
    yield ("head", "head"), model.head, size, extra, None


def _calls_of(
    block: Block, stage: str, size: Size, extra: int
) -> Iterator[tuple[Place, nn.Module, Size, int, Scope | None]]:
    """Each part of a block, and of the blocks of lower resolutions, which have no extra tokens."""
    for below, at in zip(block.lower_blocks, halves(size, len(block.lower_blocks))[1:], strict=True):
        yield from _calls_of(below, stage, at, 0)
    for branch, before, after in block.sizes(size):
        # Only the extra tokens pass a feedforward in such a residual.
        alone = branch.kind == "feedforward" and getattr(branch.residual, "keeps_image", False)
        yield (stage, "residual"), branch.residual, before, extra, None
        yield (stage, branch.kind), branch.part, (0, 0) if alone else before, extra, None
        if isinstance(branch.part, Attention):
            for position, scope in branch.part.positions(before):
                yield (stage, "position"), position, before, extra, scope
        size = after
    if block.position is not None:
        yield (stage, "position"), block.position, size, extra, None
