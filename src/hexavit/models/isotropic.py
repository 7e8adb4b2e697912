"""The single stage of isotropic models: ViT's stage, in which each model changes some columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hexavit.architecture import Part, Stage


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
