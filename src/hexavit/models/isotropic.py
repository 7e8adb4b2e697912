"""Isotropic models: one stage, ViT's, in which each model changes some columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hexavit.architecture import Architecture, Part, Stage


def vit_stage(dim: int, depth: int, heads: int, *, patch: int = 16, **changes: Any) -> Stage:
    """ViT's stage: patches without a norm, a learned position table, global attention.

    Args:
        dim: width.
        depth: number of blocks.
        heads: attention heads.
        patch: side of a patch in pixels.
        **changes: other fields of `Stage`, or replacements of those above.
    """
    stage = Stage(
        dim=dim,
        depth=depth,
        tokens=Part("conv", kernel=patch, stride=patch, norm=False),
        position=Part("learned", resize="bicubic_plain"),
        attention=Part("global", heads=heads),
    )
    return replace(stage, **changes)


def isotropic(
    name: str,
    dim: int,
    depth: int,
    heads: int,
    *,
    head: Part | str = "class_token",
    img_size: int = 224,
    norm_eps: float = 1e-6,
    **changes: Any,
) -> Architecture:
    """An architecture with the stage of `vit_stage` alone, to which `changes` are passed."""
    part = Part(head) if isinstance(head, str) else head
    stage = vit_stage(dim, depth, heads, **changes)
    return Architecture(name, (stage,), part, img_size=(img_size, img_size), norm_eps=norm_eps)
