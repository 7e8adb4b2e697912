"""CeiT: "Incorporating Convolution Designs into Visual Transformers", Yuan et al., ICCV 2021 (arXiv 2103.11816).

Origin: coeusguo/ceit (Apache-2.0), commit 44c16d3e. Names are those of its builder functions.

What is new against DeiT: a 7x7/2 convolution, batch norm and max pooling precede patches of 4x4. The feedforward
contains a depth-wise convolution (LeFF). A last block attends from the last class token to those of all blocks (LCA).

Shapes at 224: as ViT with patches of 16.

Cost: 1.395 G multiply-adds for tiny, 4.760 G for small, 17.749 G for base, at 224.

Same as the authors' code: the stem has 64 channels and no activation; each feedforward adds the normalised class token
to the class token.
Differs from the authors' code: any H x W is accepted; their grid is square.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2103.11816"
_README = "coeusguo/ceit, README.md"

# size, width, heads, image size, millions of parameters, GFLOPs (without attention's products), top-1
_VARIANTS = (
    ("tiny", 192, 3, 224, 6.4, 1.2, 0.764),
    ("tiny", 192, 3, 384, 6.4, 3.6, 0.788),
    ("small", 384, 6, 224, 24.2, 4.5, 0.820),
    ("small", 384, 6, 384, 24.2, 12.9, 0.833),
    ("base", 768, 12, 224, 94.4, None, 0.825),
)


def _ceit(
    name: str, dim: int, depth: int, heads: int, img_size: int, patch: int = 4, channels: int = 64
) -> Architecture:
    stem = {"channels": (channels,), "kernels": (7,), "strides": (2,), "act": None, "pool": True}
    return isotropic(
        name,
        dim,
        depth,
        heads,
        head=Part("layer_class_attention", heads=heads),
        img_size=img_size,
        tokens=Part("conv_stem", **stem, last_kernel=patch, last_stride=patch),
        feedforward=Part("conv_mlp"),
        drop_path=0.1,
    )


_FAMILY = Family("ceit", PAPER)
for _size, _dim, _heads, _img_size, *_figures in _VARIANTS:
    _FAMILY.register(
        _ceit(f"ceit_{_size}_patch16_{_img_size}", _dim, 12, _heads, _img_size),
        f"CeiT-{_size[0].upper()}",
        Published(_README, _img_size, *_figures),
    )
_FAMILY.register_nano(_ceit("ceit_nano", 96, 4, 3, 32, patch=2, channels=24), "CeiT at 0.7 million")
