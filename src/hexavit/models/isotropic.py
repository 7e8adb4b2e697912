"""What the columnar models share: ViT's one stage, of which each changes some columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hexavit.architecture import Part, Stage


def vit_stage(dim: int, depth: int, heads: int, *, patch: int = 16, **changes: Any) -> Stage:
    """A ViT's stage: patches without a norm, a learned table, global attention; `changes` are other fields."""
    stage = Stage(
        dim=dim,
        depth=depth,
        tokens=Part("conv", kernel=patch, stride=patch, norm=False),
        position=Part("learned", resize="bicubic_plain"),
        attention=Part("global", heads=heads),
    )
    return replace(stage, **changes)
