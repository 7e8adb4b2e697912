"""DeepViT: "Towards Deeper Vision Transformer", Zhou et al., 2021 (arXiv 2103.11886).

Origin: zhoudaquan/dvit_repo (MIT), commit 1ccb152. Names are those of its builder functions.

What is new against ViT: Re-attention mixes the attention maps across the heads after the softmax, in all blocks or in
the last ones. This keeps the maps of deep blocks different from each other. S and L have a convolutional stem and
divide branches by 0.5.

Shapes at 224: as ViT.

Cost: 5.272 G multiply-adds for 16 blocks, 6.361 G for S, 13.149 G for L at 224.

Same as the authors' code. It divides by the block scale before or after stochastic depth; the results are equal.
Differs from the authors' code: a block does not return its attention map, which no block of theirs uses.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture, Part, Pattern
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.weights import INCEPTION_MEAN_STD, Preprocessing

PAPER = "https://arxiv.org/abs/2103.11886"
_README = "zhoudaquan/dvit_repo, README.md"
_MLP = Part("mlp", ratio=3.0)


_FAMILY = Family("deepvit", PAPER)


def _stem(channels: int, patch: int) -> Part:
    """A 7x7/2 and a 3x3 convolution, then patches of `patch` x `patch`."""
    return Part(
        "conv_stem",
        channels=(channels, channels),
        kernels=(7, 3),
        strides=(2, 1),
        last_kernel=patch,
        last_stride=patch,
    )


def _deep(
    name: str, dim: int, depth: int, attention: Part | Pattern, img_size: int = 224, **columns: Any
) -> Architecture:
    return isotropic(
        name, dim, depth, 12, img_size=img_size, attention=attention, feedforward=_MLP, **{"drop_path": 0.2, **columns}
    )


def _mixed(heads: int, last: int, **options: Any) -> Pattern:
    """Re-attention in the last `last` blocks, global attention in the others."""
    again = Part("re_attention", heads=heads, **options)
    return Pattern([Part("global", heads=heads)], at={-k: again for k in range(last, 0, -1)})


def _register(architecture: Architecture, summary: str, top1: float, crop_pct: float = 0.9) -> None:
    figures = Published(_README, architecture.img_size[0], top1=top1)
    preprocessing = Preprocessing(*INCEPTION_MEAN_STD, crop_pct=crop_pct)
    _FAMILY.register(architecture, summary, figures, preprocessing=preprocessing)


for _depth, _top1 in ((16, 0.7910), (24, 0.7999), (32, 0.8090)):
    _name = f"deepvit_patch16_224_re_attn_{_depth}b"
    _register(_deep(_name, 384, _depth, Part("re_attention", heads=12)), f"DeepViT, {_depth} blocks", _top1)

_HALVED: dict[str, Any] = {"tokens": _stem(64, 8), "residual": Part("pre_norm", block_scale=0.5)}
_register(_deep("deepvit_s", 396, 16, _mixed(12, 5, transform_scale=True), **_HALVED), "DeepViT-S", 0.823)
_register(_deep("deepvit_l", 420, 32, _mixed(12, 12), **_HALVED), "DeepViT-L", 0.831)
_register(_deep("deepvit_l_384", 420, 32, _mixed(12, 12), 384, **_HALVED), "DeepViT-L at 384", 0.8425, crop_pct=1.0)
_FAMILY.register_nano(
    _deep(
        "deepvit_nano",
        96,
        4,
        _mixed(3, 2, transform_scale=True),
        32,
        tokens=_stem(16, 4),
        residual=_HALVED["residual"],
        drop_path=0.1,
    ),
    "DeepViT-S at half a million",
)
