"""MViTv2: "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection", Li et al., CVPR 2022
(arXiv 2112.01526).

Origin: facebookresearch/mvit (Apache-2.0), commit dfbdfdf6. Names are timm's.

What is new against MViT: a relative position embedding, decomposed by height and width and read by the queries,
replaces the position table. The pooled queries are added to the attended values. All blocks pool the queries. In T, S
and B the width grows in the attention of a stage's first block; in L, as in MViT, in the feedforward of the last block.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000). The maps that
leave the stages of L have 2 C, 4 C, 8 C, 8 C channels.

Cost: 4.677, 6.960, 10.102, 43.711 and 119.589 G multiply-adds for T, S, B, L and H.

Same as the authors' code and timm: the offsets of the position embedding where queries and keys have two grids; the
projection of the skip reads the normed tokens.
Differs from the authors' code: any H x W is accepted, with the tables resized linearly as SlowFast's code does. H is as
the paper describes it, with the rate of stochastic depth of L: the authors published no configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part, Pattern, Stage
from hexavit.models.mvit.variants import kv_strides, pooled_patches, wider_at_the_end
from hexavit.models.mvit_v2 import weights as mvit_v2_weights
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2112.01526"
_README = "facebookresearch/mvit, README.md"
_1K, _21K = "ImageNet-1k", "ImageNet-21k"


def _mvit_v2(
    name: str,
    dim: int,
    depths: Sequence[int],
    heads: int,
    drop_path: float,
    *,
    wider_in_attention: bool = True,
    class_token: bool = False,
    stride_kv: int = 4,
    img_size: int = 224,
) -> Architecture:
    stages = []
    strides = kv_strides(stride_kv, len(depths))
    feedforward = [Part("mlp")] * len(depths) if wider_in_attention else wider_at_the_end(len(depths))
    for i, depth in enumerate(depths):
        options = {"heads": heads * 2**i, **({"stride_kv": strides[i]} if strides[i] > 1 else {})}
        plain = Part("pooling", **options)
        stages.append(
            Stage(
                dim * 2**i,
                depth,
                tokens=Part("keep") if i else pooled_patches(),
                position=Part("decomposed_relative"),
                attention=Pattern([plain], at={0: Part("pooling", **options, stride_q=2)}) if i else plain,
                feedforward=feedforward[i],
                residual=Part("pre_norm", pool_kernel=3),
                drop_path=drop_path,
            )
        )
    head = Part("class_token", enter=0) if class_token else Part("pool")
    return Architecture(name, tuple(stages), head, img_size=(img_size, img_size))


HYBRID_WINDOWS = (
    "stages.0.attention.window=56",
    "stages.1.attention.window=28",
    "stages.1.blocks.0.attention.window=56",
    "stages.1.blocks.-1.attention.window=0",
    "stages.2.attention.window=14",
    "stages.2.blocks.0.attention.window=28",
    "stages.2.blocks.-1.attention.window=0",
    "stages.3.attention.window=7",
    "stages.3.blocks.0.attention.window=14",
    "stages.3.blocks.-1.attention.window=0",
)
"""Overrides for hybrid window attention (Hwin, section 3.2): all blocks attend inside windows, but the last of stages
1, 2 and 3, counted from 0. The first block of a stage has the windows of the stage before, whose map it gets. Tables
of windows are those of the maps at 224."""

# name, C, depths, heads of the first stage, drop path, published millions of parameters, GFLOPs, top-1 by training data
_VARIANTS: tuple[tuple[str, int, tuple[int, ...], int, float, tuple[float, float], dict[str, float]], ...] = (
    ("tiny", 96, (1, 2, 5, 2), 1, 0.1, (24, 4.7), {_1K: 0.823}),
    ("small", 96, (1, 2, 11, 2), 1, 0.1, (35, 7.0), {_1K: 0.836}),
    ("base", 96, (2, 3, 16, 3), 1, 0.3, (52, 10.2), {_1K: 0.844}),
    ("large", 144, (2, 6, 36, 4), 2, 0.5, (218, 42.1), {_1K: 0.853, f"{_21K}, {_1K}": 0.875}),
    ("huge", 192, (4, 8, 60, 8), 3, 0.5, (667, 120.6), {f"{_21K}, {_1K}": 0.880}),
)

_FAMILY = Family("mvit_v2", PAPER)
for _name, _dim, _depths, _heads, _drop, _costs, _top1 in _VARIANTS:
    _FAMILY.register(
        _mvit_v2(f"mvitv2_{_name}", _dim, _depths, _heads, _drop, wider_in_attention=_name != "large"),
        f"MViTv2-{_name[0].upper()}",
        *(Published(_README, 224, *_costs, top1, data) for data, top1 in _top1.items()),
        weights=mvit_v2_weights.weights(f"mvitv2_{_name}"),
    )
for _name, _dim, _depths, _heads, _drop, *_ in _VARIANTS[1:]:
    _FAMILY.register(
        _mvit_v2(f"mvitv2_{_name}_cls", _dim, _depths, _heads, _drop, class_token=True),
        f"MViTv2-{_name[0].upper()} with a class token, wider in the attention",
        weights=mvit_v2_weights.weights(f"mvitv2_{_name}_cls"),
    )
_FAMILY.register_nano(
    _mvit_v2("mvit_v2_nano", 32, (1, 2, 2), 1, 0.0, stride_kv=2, img_size=32), "MViTv2 at 0.6 million"
)
