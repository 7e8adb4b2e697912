"""Swin Transformer: "Hierarchical Vision Transformer using Shifted Windows", Liu et al., ICCV 2021 (arXiv 2103.14030).

Origin: microsoft/Swin-Transformer (MIT), commit f82860bf. Names are those of its configurations and timm's.

What is new against ViT: a pyramid of four stages. Attention is inside windows; every second block shifts them by half
a window. Each head has a learned bias for each offset inside a window.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 4.491 G multiply-adds for Swin-T, 8.741 G for Swin-S, 15.431 G for Swin-B.

Same as the authors' code at every size that it accepts: `img_size` decides where a window shrinks to its map and is
not shifted.
Differs from the authors' code: maps that the window does not divide are padded, as in their detection code; their
classification code raises an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hexavit.architecture import Architecture, Part, Pattern, Stage
from hexavit.models.registry import Family, Published
from hexavit.models.swin import weights as swin_weights

PAPER = "https://arxiv.org/abs/2103.14030"
_README = "microsoft/Swin-Transformer, README.md"


def window_pair(**options: Any) -> Pattern:
    """Window attention, shifted in every second block."""
    return Pattern([Part("window", **options), Part("window", **options, shifted=True)])


HYBRID_WINDOWS = (
    "stages.*.attention.shifted=false",
    "stages.1.blocks.-1.attention=global",
    "stages.2.blocks.-1.attention=global",
    "stages.3.blocks.-1.attention=global",
)
"""Overrides for hybrid window attention (MViTv2: Li et al., CVPR 2022, section 3.2): windows without a shift, and the
whole map in the last block of stages 1 to 3, whose position biases are then for the whole map."""


def swin_stages(
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    window: int = 7,
    drop_path: float = 0.0,
    patch: int = 4,
    **changes: Any,
) -> tuple[Stage, ...]:
    """Swin's stages: patches with a norm, then patch merging; window attention with a relative position bias.

    Args:
        dim: width of the first stage; it doubles in each later stage.
        depths: number of blocks of each stage.
        heads: attention heads of each stage.
        window: side of a window in tokens.
        drop_path: rate of the last block; it rises from 0 over the model.
        patch: side of a patch in pixels.
        **changes: fields of `Stage` to replace in each stage.
    """
    stages = []
    for i, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        stage = Stage(
            dim=dim * 2**i,
            depth=depth,
            tokens=Part("patch_merging") if i else Part("conv", kernel=patch, stride=patch),
            position=Part("relative_bias"),
            attention=window_pair(heads=head, window=window),
            drop_path=drop_path,
        )
        stages.append(replace(stage, **changes))
    return tuple(stages)


def _swin(
    name: str, dim: int, depths: Sequence[int], heads: Sequence[int], img_size: int, **options: Any
) -> Architecture:
    stages = swin_stages(dim, depths, heads, **options)
    return Architecture(name, stages, Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5)


_T, _S = (2, 2, 6, 2), (2, 2, 18, 2)
_1K, _22K = "ImageNet-1k", "ImageNet-22k"

# name, summary, C, depths, heads of the first stage, window, size, drop path, published M and G, top-1 by training data
_VARIANTS: tuple[
    tuple[str, str, int, tuple[int, ...], int, int, int, float, tuple[float, float], dict[str, float]], ...
] = (
    ("swin_tiny_patch4_window7_224", "Swin-T", 96, _T, 3, 7, 224, 0.2, (28, 4.5), {_1K: 0.812, _22K: 0.809}),
    (
        "swin_tiny_c24_patch4_window8_256",
        "Swin-T with heads of 24 and windows of 8 at 256",
        *(96, _T, 4, 8, 256, 0.2, (28, 5.9), {_1K: 0.816}),
    ),
    ("swin_small_patch4_window7_224", "Swin-S", 96, _S, 3, 7, 224, 0.3, (50, 8.7), {_1K: 0.832, _22K: 0.832}),
    ("swin_base_patch4_window7_224", "Swin-B", 128, _S, 4, 7, 224, 0.5, (88, 15.4), {_1K: 0.835, _22K: 0.852}),
    (
        "swin_base_patch4_window12_384",
        "Swin-B at 384, with windows of 12",
        *(128, _S, 4, 12, 384, 0.5, (88, 47.1), {_1K: 0.845, _22K: 0.864}),
    ),
    ("swin_large_patch4_window7_224", "Swin-L", 192, _S, 6, 7, 224, 0.2, (197, 34.5), {_22K: 0.863}),
    (
        "swin_large_patch4_window12_384",
        "Swin-L at 384, with windows of 12",
        *(192, _S, 6, 12, 384, 0.2, (197, 103.9), {_22K: 0.873}),
    ),
)

_FAMILY = Family("swin", PAPER)
for _name, _summary, _dim, _depths, _heads, _window, _size, _drop, _costs, _top1 in _VARIANTS:
    _FAMILY.register(
        _swin(_name, _dim, _depths, [_heads * 2**i for i in range(4)], _size, window=_window, drop_path=_drop),
        _summary,
        *(Published(_README, _size, *_costs, top1, data) for data, top1 in _top1.items()),
        weights=swin_weights.weights(_name),
        preprocessing=swin_weights.preprocessing(_size),
    )
_FAMILY.register_nano(_swin("swin_nano", 32, (2, 2, 2), (1, 2, 4), 32, window=3, drop_path=0.1), "Swin at 0.7 million")
