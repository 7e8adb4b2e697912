"""LocalViT: "Bringing Locality to Vision Transformers", Li et al., 2021 (arXiv 2104.05707).

Origin: ofsoundof/LocalViT (MIT), commit f4972608. Names are those of its builder functions.

What is new against its base model (DeiT, T2T-ViT, TNT, PVT or Swin): an inverted residual with a depth-wise
convolution, optionally with squeeze-and-excitation, replaces the MLP. Only the grid tokens pass through it, without a
norm before it.

Shapes at 224: as the base model.

Cost: 1.266 G multiply-adds for `localvit_tiny_mlp4_act3_r192`, 4.617 G for small, 1.978 G on PVT-Tiny, 4.543 G on
Swin-T.

Same as the authors' code: 4 and 8 heads on DeiT; no drop path around the feedforward.
Differs from the authors' code: any H x W is accepted; their grid is square.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import isotropic
from hexavit.models.pvt.variants import DIMS, RATIOS, pvt
from hexavit.models.registry import Family, Published
from hexavit.models.swin.variants import swin_stages
from hexavit.models.tnt.variants import tnt
from hexavit.models.weights import Weight, in1k_weight

PAPER = "https://arxiv.org/abs/2104.05707"
_README = "ofsoundof/LocalViT, README.md"


def local_feedforward(ratio: float = 4.0, **options: Any) -> Part:
    """LocalViT's inverted residual, with h-swish by default. `options` are those of the part `conv_mlp`."""
    return Part("conv_mlp", **{"ratio": ratio, "act": "hardswish", "bias": False, "extra": "zero", **options})


# name, width, heads, feedforward, published (millions of parameters, top-1)
_VARIANTS: tuple[tuple[str, int, int, Part, tuple[float, float] | None], ...] = (
    ("localvit_tiny_mlp4_act2", 192, 4, local_feedforward(), None),
    ("localvit_tiny_mlp4_act3_r192", 192, 4, local_feedforward(excite="se", reduction=192), (5.9, 0.748)),
    ("localvit_tiny_mlp4_act3_r4", 192, 4, local_feedforward(excite="se"), (9.4, 0.757)),
    ("localvit_tiny_mlp4_act4", 192, 4, local_feedforward(excite="eca"), None),
    ("localvit_tiny_mlp6_act1", 192, 4, local_feedforward(6.0, act="relu6"), None),
    ("localvit_small_mlp4_act3_r384", 384, 8, local_feedforward(excite="se", reduction=384), (22.4, 0.808)),
)

_FILES = {
    "localvit_tiny_mlp4_act3_r192": "localvit_t.pth",
    "localvit_tiny_mlp4_act3_r4": "localvit_t_se4.pth",
    "localvit_small_mlp4_act3_r384": "localvit_s.pth",
    "localvit_pvt_tiny": "localvit_pvt.pth",
    "localvit_swin_tiny_patch4_window7_224": "localvit_swin.pth",
}


def _weights(name: str, top1: float) -> list[Weight]:
    """The authors' weights of a model."""
    link = f"https://github.com/ofsoundof/LocalViT/releases/download/v1.0.0/{_FILES[name]}"
    return [in1k_weight(link, top1, _README, "mit")]


_FAMILY = Family("localvit", PAPER)
_COLUMNS: dict[str, Any] = {"residual": Part("local"), "drop_path": 0.1}
for _name, _dim, _heads, _feedforward, _figures in _VARIANTS:
    _FAMILY.register(
        isotropic(_name, _dim, 12, _heads, feedforward=_feedforward, **_COLUMNS),
        f"LocalViT-{'S' if _dim == 384 else 'T'}, {_name.split('_', 2)[2]}",
        *([Published(_README, 224, _figures[0], top1=_figures[1])] if _figures else []),
        weights=_weights(_name, _figures[1]) if _figures else (),
    )
_FAMILY.register(
    isotropic(
        "localvit_t2t_conv7",
        256,
        7,
        4,
        tokens=Part("tokens_to_token", local=True),
        position=Part("sine_cosine"),
        attention=Part("global", heads=4, qkv_bias=False),
        feedforward=local_feedforward(2.0, excite="se", reduction=128),
        norm_eps=1e-5,
        **_COLUMNS,
    ),
    "LocalViT on T2T-ViT-7",
    Published("LocalViT, paper's table", 224, 4.3, top1=0.725),
)
_FAMILY.register(
    pvt(
        "localvit_pvt_tiny",
        (2, 2, 2, 2),
        0.1,
        feedforward=[
            local_feedforward(ratio, excite="se", reduction=dim) for ratio, dim in zip(RATIOS, DIMS, strict=True)
        ],
        residual="local",
    ),
    "LocalViT on PVT-Tiny",
    Published(_README, 224, 13.5, top1=0.781),
    weights=_weights("localvit_pvt_tiny", 0.781),
)
_FAMILY.register_nano(
    isotropic(
        "localvit_nano",
        96,
        4,
        3,
        patch=8,
        feedforward=local_feedforward(excite="se", reduction=96),
        img_size=32,
        **_COLUMNS,
    ),
    "LocalViT at half a million",
)

_FAMILY.register(
    tnt(
        "localvit_tnt_t_patch16_224",
        192,
        3,
        12,
        3,
        first_release=True,
        feedforward=local_feedforward(excite="se", reduction=192),
        residual=Part("local"),
    ),
    "LocalViT on TNT-Ti",
    Published(_README, 224, 6.3, top1=0.759),
)

_SWIN_STAGES = tuple(
    replace(stage, feedforward=local_feedforward(excite="se", reduction=stage.dim // 4), residual=Part("local"))
    for stage in swin_stages(96, (2, 2, 6, 2), (3, 6, 12, 24), drop_path=0.1)
)
_FAMILY.register(
    Architecture("localvit_swin_tiny_patch4_window7_224", _SWIN_STAGES, Part("pool"), norm_eps=1e-5),
    "LocalViT on Swin-T",
    Published(_README, 224, 29.1, top1=0.8186),
    weights=_weights("localvit_swin_tiny_patch4_window7_224", 0.8186),
)
