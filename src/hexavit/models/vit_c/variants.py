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
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published

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

_FAMILY = Family("vit_c", PAPER)


def _vit_c(name: str, dim: int, depth: int, heads: int, ratio: float, **options: Any) -> Architecture:
    return isotropic(name, dim, depth, heads, feedforward=Part("mlp", ratio=ratio), norm_eps=1e-5, **options)


def _stem(channels: tuple[int, ...], strides: tuple[int, ...]) -> Part:
    return Part("conv_stem", channels=channels, kernels=(3,) * len(channels), strides=strides)


for _cost, _dim, _heads, _ratio, _patch, _conv, _layers in _VARIANTS:
    for _kind, (_depth, _params, _gflops) in (("p", _patch), ("c", _conv)):
        _tokens = {"tokens": _stem(*_layers)} if _kind == "c" else {}
        _FAMILY.register(
            _vit_c(f"vit_{_kind}_{_cost}", _dim, _depth, _heads, _ratio, **_tokens),
            f"ViT-{_kind.upper()}, {_cost.upper()}",
            Published(_TABLE, 224, _params, _gflops),
        )
_FAMILY.register_nano(
    _vit_c("vit_c_nano", 96, 4, 3, 3.0, tokens=_stem((24, 48, 96), (2, 2, 2)), img_size=32),
    "ViT-C at half a million",
)
