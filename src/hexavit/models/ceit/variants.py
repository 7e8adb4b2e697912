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
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Entry, Published, register

PAPER = "https://arxiv.org/abs/2103.11816"
_README = "coeusguo/ceit, README.md"
_STEM = Part("conv_stem", channels=(64,), kernels=(7,), strides=(2,), act=None, pool=True, last_kernel=4, last_stride=4)

# size, width, heads, image size, millions of parameters, GFLOPs (without attention's products), top-1
_VARIANTS = (
    ("tiny", 192, 3, 224, 6.4, 1.2, 0.764),
    ("tiny", 192, 3, 384, 6.4, 3.6, 0.788),
    ("small", 384, 6, 224, 24.2, 4.5, 0.820),
    ("small", 384, 6, 384, 24.2, 12.9, 0.833),
    ("base", 768, 12, 224, 94.4, None, 0.825),
)

for _size, _dim, _heads, _img_size, _params, _gflops, _top1 in _VARIANTS:
    register(
        Entry(
            Architecture(
                f"ceit_{_size}_patch16_{_img_size}",
                (vit_stage(_dim, 12, _heads, tokens=_STEM, feedforward=Part("conv_mlp"), drop_path=0.1),),
                Part("layer_class_attention", heads=_heads),
                img_size=(_img_size, _img_size),
            ),
            "ceit",
            f"CeiT-{_size[0].upper()}",
            PAPER,
            published=(Published(_README, _img_size, _params, _gflops, _top1),),
        )
    )

register(
    Entry(
        Architecture(
            "ceit_nano",
            (
                vit_stage(
                    96,
                    4,
                    3,
                    tokens=Part(
                        "conv_stem",
                        channels=(24,),
                        kernels=(7,),
                        strides=(2,),
                        act=None,
                        pool=True,
                        last_kernel=2,
                        last_stride=2,
                    ),
                    feedforward=Part("conv_mlp"),
                    drop_path=0.1,
                ),
            ),
            Part("layer_class_attention", heads=3),
            img_size=(32, 32),
        ),
        "ceit",
        "CeiT at 0.7 million parameters, for small images and quick studies",
        PAPER,
    )
)
