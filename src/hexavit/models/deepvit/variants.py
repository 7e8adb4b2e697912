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
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Entry, Published, register
from hexavit.models.weights import INCEPTION_MEAN_STD, Preprocessing

PAPER = "https://arxiv.org/abs/2103.11886"
_README = "zhoudaquan/dvit_repo, README.md"
_MLP = Part("mlp", ratio=3.0)
_STEM = Part("conv_stem", channels=(64, 64), kernels=(7, 3), strides=(2, 1), last_kernel=8, last_stride=8)


def _deep(
    name: str, dim: int, depth: int, last: int | None, transform_scale: bool, img_size: int = 224
) -> Architecture:
    """Build a DeepViT.

    Args:
        name: name of the model.
        dim: width.
        depth: number of blocks.
        last: number of last blocks with Re-attention, in a model with a stem and a block scale of 0.5; None for
            Re-attention in every block of a model with patches.
        transform_scale: also multiply the mixed maps by d^-0.5.
        img_size: image size.
    """
    again = Part("re_attention", heads=12, **({"transform_scale": True} if transform_scale else {}))
    changes: dict[str, Any] = {"attention": again, "feedforward": _MLP, "drop_path": 0.2}
    if last is not None:
        plain = Pattern([Part("global", heads=12)], at={-k: again for k in range(last, 0, -1)})
        changes |= {"attention": plain, "tokens": _STEM, "residual": Part("pre_norm", block_scale=0.5)}
    stage = vit_stage(dim, depth, 12, **changes)
    return Architecture(name, (stage,), Part("class_token"), img_size=(img_size, img_size))


def _register(architecture: Architecture, summary: str, top1: float, crop_pct: float = 0.9) -> None:
    size = architecture.img_size[0]
    preprocessing = Preprocessing(*INCEPTION_MEAN_STD, crop_pct=crop_pct)
    register(Entry(architecture, "deepvit", summary, PAPER, preprocessing, (Published(_README, size, top1=top1),)))


for _depth, _top1 in ((16, 0.7910), (24, 0.7999), (32, 0.8090)):
    _register(
        _deep(f"deepvit_patch16_224_re_attn_{_depth}b", 384, _depth, None, False), f"DeepViT, {_depth} blocks", _top1
    )
_register(_deep("deepvit_s", 396, 16, 5, True), "DeepViT-S", 0.823)
_register(_deep("deepvit_l", 420, 32, 12, False), "DeepViT-L", 0.831)
_register(_deep("deepvit_l_384", 420, 32, 12, False, 384), "DeepViT-L at 384", 0.8425, crop_pct=1.0)

_NANO_AGAIN = Part("re_attention", heads=3, transform_scale=True)
register(
    Entry(
        Architecture(
            "deepvit_nano",
            (
                vit_stage(
                    96,
                    4,
                    3,
                    tokens=Part(
                        "conv_stem", channels=(16, 16), kernels=(7, 3), strides=(2, 1), last_kernel=4, last_stride=4
                    ),
                    attention=Pattern([Part("global", heads=3)], at={-2: _NANO_AGAIN, -1: _NANO_AGAIN}),
                    feedforward=_MLP,
                    residual=Part("pre_norm", block_scale=0.5),
                    drop_path=0.1,
                ),
            ),
            Part("class_token"),
            img_size=(32, 32),
        ),
        "deepvit",
        "DeepViT-S at half a million parameters, for small images and quick studies",
        PAPER,
    )
)
