"""From an architecture to modules: the stages, with their blocks, and the head."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hexavit.architecture import COLUMNS, Architecture, Part, Stage
from hexavit.errors import ArchitectureError
from hexavit.network.block import Block, out_size
from hexavit.network.checks import acts_on, check_fits, head_entry
from hexavit.network.stage import CLASS_TOKENS, StageModule
from hexavit.parts.attention import Attention
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.registry import build_part, part_class

__all__ = ["Block", "StageModule", "as_tokens", "check_fits", "compose", "head_entry"]


def compose(architecture: Architecture) -> tuple[list[StageModule], nn.Module]:
    """The stages and the head of an architecture.

    Raises:
        ArchitectureError: a part or an option that does not exist, a value for which its part raises, or two parts
            that do not fit together.
    """
    check_fits(architecture.check())
    size, in_dim, extra = architecture.img_size, architecture.in_chans, 0
    enter, entering = head_entry(architecture)
    total, done = sum(stage.depth for stage in architecture.stages), 0
    stages: list[StageModule] = []
    for i, stage in enumerate(architecture.stages):
        rates = _drop_rates(stage, done, total)
        extra += entering if i == enter else 0
        context = {"in_dim": in_dim, "dim": stage.dim, "extra": extra, "norm_eps": architecture.norm_eps}
        tokens = _build("tokens", stage.tokens, {**context, "size": size}, f"stages.{i}.tokens")
        size = _size_of_tokens(tokens, size, architecture.img_size, f"stages.{i}.tokens={stage.tokens}")
        position = _stage_position(stage, {**context, "size": size}, i)
        blocks: list[Block] = []
        shared = nn.ModuleDict({kind: nn.ModuleDict() for kind in COLUMNS[1:]})
        for k in range(stage.depth):
            of_block = {**context, "size": size, "drop_path": rates[k], "index": k}
            block = _build_block(stage, k, of_block, f"stages.{i}.blocks.{k}", shared)
            size = block.out_size(size)
            blocks.append(block)
        token = nn.Parameter(torch.zeros(1, entering, stage.dim)) if entering and i == enter else None
        normed = bool(getattr(blocks[-1].feedforward_residual, "stage_norm", False))
        norm = nn.LayerNorm(stage.dim, eps=architecture.norm_eps) if normed else None
        stages.append(StageModule(tokens, token, position, blocks, _used(shared), norm))
        in_dim, done = stage.dim, done + stage.depth
    of_head = {
        "dim": in_dim,
        "norm_eps": architecture.norm_eps,
        "num_classes": architecture.num_classes,
        "size": size,
        "extra": extra,
        "blocks": sum(stage.depth for stage in architecture.stages[enter:]),
    }
    for module in stages[enter:]:
        module.collects = CLASS_TOKENS in getattr(part_class("head", architecture.head.name), "takes", ())
    return stages, _build("head", architecture.head, of_head, "head")


def as_tokens(images: Tensor) -> Tokens:
    """Images (B, C, H, W) as tokens, one a pixel: what the first stage takes."""
    return Tokens.of_map(images)


def _stage_position(stage: Stage, context: Mapping[str, Any], i: int) -> nn.Module | None:
    if not isinstance(stage.position, Part) or acts_on(stage.position) != "tokens":
        return None
    return _build("position", stage.position, context, f"stages.{i}.position")


def _used(shared: nn.ModuleDict) -> nn.ModuleDict | None:
    """What the blocks of a stage share, by kind of part; None if nothing."""
    held = nn.ModuleDict({kind: held for kind, held in shared.items() if len(held)})  # type: ignore[arg-type]
    return held if len(held) else None


def _build_block(stage: Stage, k: int, context: Mapping[str, Any], where: str, shared: nn.ModuleDict) -> Block:
    build = partial(_build_at, stage, k, where, shared)
    position, attention_part = stage.column("position", k), stage.column("attention", k)
    acts = acts_on(position)
    attention = build("attention", context)
    if acts in ("logits", "values"):
        inside = _context_inside(attention, attention_part, context["size"])
        attention.position = build("position", {**context, **inside})
    after = {**context, "size": out_size(attention, context["size"])}
    stride = getattr(attention, "stride", 1)
    attention_residual = build("residual", {**context, "stride": stride, "role": "attention"})
    return Block(
        attention,
        build("feedforward", after),
        attention_residual,
        build("residual", {**after, "stride": 1, "role": "feedforward"}),
        build("position", after) if acts == "block" else None,
    )


def _context_inside(attention: nn.Module, part: Part, size: Size) -> dict[str, Any]:
    """What a position inside an attention gets to know of it."""
    known = {"heads": part.options.get("heads", 1), "scope": size}
    if isinstance(attention, Attention):
        known["scope"] = attention.scope(size)
    return {**known, "head_dim": attention.head_dim} if hasattr(attention, "head_dim") else known


def _build_at(
    stage: Stage, k: int, where: str, shared: nn.ModuleDict, kind: str, context: Mapping[str, Any]
) -> nn.Module:
    return _build(kind, stage.column(kind, k), {**context, "shared": shared[kind]}, f"{where}.{kind}")


def _build(kind: str, part: Part, context: Mapping[str, Any], where: str) -> nn.Module:
    return build_part(kind, part.name, part.options, context, where)


def _drop_rates(stage: Stage, done: int, total: int) -> list[float]:
    """The rate of stochastic depth in each block of a stage, of `total` blocks of which `done` come before it."""
    if stage.ramp == "constant":
        return [stage.drop_path] * stage.depth
    first, span = (0, stage.depth) if stage.ramp == "stage" else (done, total)
    return [stage.drop_path * (first + k) / max(span - 1, 1) for k in range(stage.depth)]


def _size_of_tokens(tokens: nn.Module, size: Size, img_size: Size, where: str) -> Size:
    out = out_size(tokens, size)
    if min(out) < 1:
        raise ArchitectureError(
            f"{where} leaves no token of a grid of {size[0]}x{size[1]}: an image of {img_size} is too small"
        )
    return out
