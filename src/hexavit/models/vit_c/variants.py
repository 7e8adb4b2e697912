"""ViT-C: "Early Convolutions Help Transformers See Better", Xiao et al., NeurIPS 2021 (arXiv 2106.14881).

Origin: facebookresearch/pycls, pycls/models/vit.py (MIT), commit 5719de6. It includes no configuration; stems and
depths are the paper's.

What is new against ViT: a few 3x3 convolutions, most with stride 2, and a 1x1 convolution replace the patch
convolution. The model has one block less in exchange. `vit_p_*` are the controls with patches.

Shapes at 224: as ViT with patches of 16.

Cost: 1.076 G multiply-adds for ViT-C 1GF, 3.959 G for 4GF, 17.711 G for 18GF, 35.002 G for 36GF.

Same as the authors' code: LayerNorm eps is 1e-5.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Entry, Published, register

PAPER = "https://arxiv.org/abs/2106.14881"
_TABLE = "ViT-C, paper's table of model definitions (as recalled)"
_LARGE_STEM = ((64, 128, 128, 256, 256, 512), (2, 2, 1, 2, 1, 2))

# cost, width, heads, MLP ratio, (blocks, millions of parameters, GFLOPs) of P and of C, (channels, strides) of C's stem
_VARIANTS = (
    ("1gf", 192, 3, 3.0, (12, 4.8, 1.1), (11, 4.6, 1.1), ((24, 48, 96, 192), (2, 2, 2, 2))),
    ("4gf", 384, 6, 3.0, (12, 18.5, 3.9), (11, 17.8, 4.0), ((48, 96, 192, 384), (2, 2, 2, 2))),
    ("18gf", 768, 12, 4.0, (12, 86.7, 17.5), (11, 81.6, 17.7), _LARGE_STEM),
    ("36gf", 1024, 16, 4.0, (14, 178.4, 35.9), (13, 167.8, 35.0), _LARGE_STEM),
)

for _cost, _dim, _heads, _ratio, _patch, _conv, (_channels, _strides) in _VARIANTS:
    for _kind, (_depth, _params, _gflops) in (("p", _patch), ("c", _conv)):
        _stem = Part("conv_stem", channels=_channels, kernels=(3,) * len(_channels), strides=_strides)
        _changes: dict[str, Any] = {"tokens": _stem} if _kind == "c" else {}
        register(
            Entry(
                Architecture(
                    f"vit_{_kind}_{_cost}",
                    (vit_stage(_dim, _depth, _heads, feedforward=Part("mlp", ratio=_ratio), **_changes),),
                    Part("class_token"),
                    norm_eps=1e-5,
                ),
                "vit_c",
                f"ViT-{_kind.upper()}, {_cost.upper()}",
                PAPER,
                published=(Published(_TABLE, 224, _params, _gflops),),
            )
        )

register(
    Entry(
        Architecture(
            "vit_c_nano",
            (
                vit_stage(
                    96,
                    4,
                    3,
                    tokens=Part("conv_stem", channels=(24, 48, 96), kernels=(3, 3, 3), strides=(2, 2, 2)),
                    feedforward=Part("mlp", ratio=3.0),
                ),
            ),
            Part("class_token"),
            img_size=(32, 32),
            norm_eps=1e-5,
        ),
        "vit_c",
        "ViT-C at half a million parameters, for small images and quick studies",
        PAPER,
    )
)
