"""LocalViT: "Bringing Locality to Vision Transformers", Li et al., 2021 (arXiv 2104.05707).

Authors' code: ofsoundof/LocalViT (MIT), commit f4972608. Names are its builders'.

What is new in it, against its host: the MLP becomes an inverted residual with a depth-wise convolution, optionally with
squeeze and excite; the image tokens alone pass it, without a norm before it. Here: the DeiT, T2T-ViT, PVT and Swin
hosts.

Shapes at 224: as the host's. Same as the authors' code: 4 and 8 heads on the DeiT host, no drop path around the
feedforward.
Differs: their grid is square, here any H x W.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import vit_stage
from hexavit.models.layouts import POINTWISE, As, Layout, Table
from hexavit.models.pvt.keys import AUTHORS
from hexavit.models.pvt.variants import DIMS, RATIOS, pvt
from hexavit.models.registry import Entry, Published, register
from hexavit.models.swin.keys import AUTHORS_END, BIAS, TRUNK
from hexavit.models.swin.variants import swin_stages
from hexavit.models.t2t_vit.variants import PERFORMER, token_layers
from hexavit.models.vit.keys import COLUMN
from hexavit.models.weights import Weight

PAPER = "https://arxiv.org/abs/2104.05707"
_README = "ofsoundof/LocalViT, README.md"


def local_feedforward(ratio: float = 4.0, **options: Any) -> Part:
    """LocalViT's inverted residual: h-swish unless `act` says otherwise."""
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


def _weight(name: str, top1: float) -> Weight:
    """The authors' file of that model."""
    return Weight(
        tag="in1k",
        link=f"https://github.com/ofsoundof/LocalViT/releases/download/v1.0.0/{_FILES[name]}",
        img_size=224,
        trained_on=("ImageNet-1k",),
        license="mit",
        code_license="mit",
        top1=top1,
        source=_README,
    )


for _name, _dim, _heads, _feedforward, _told in _VARIANTS:
    register(
        Entry(
            Architecture(
                _name,
                (vit_stage(_dim, 12, _heads, feedforward=_feedforward, residual=Part("local"), drop_path=0.1),),
                Part("class_token"),
            ),
            "localvit",
            f"LocalViT-{'S' if _dim == 384 else 'T'}, {_name.split('_', 2)[2]}",
            PAPER,
            published=(Published(_README, 224, _told[0], top1=_told[1]),) if _told else (),
            weights=(_weight(_name, _told[1]),) if _told else (),
        )
    )

register(
    Entry(
        Architecture(
            "localvit_t2t_conv7",
            (
                vit_stage(
                    256,
                    7,
                    4,
                    tokens=Part("tokens_to_token", local=True),
                    position=Part("sine_cosine"),
                    attention=Part("global", heads=4, qkv_bias=False),
                    feedforward=local_feedforward(2.0, excite="se", reduction=128),
                    residual=Part("local"),
                    drop_path=0.1,
                ),
            ),
            Part("class_token"),
            norm_eps=1e-5,
        ),
        "localvit",
        "LocalViT on T2T-ViT-7",
        PAPER,
        published=(Published("LocalViT, paper's table", 224, 4.3, top1=0.725),),
    )
)

register(
    Entry(
        pvt(
            "localvit_pvt_tiny",
            (2, 2, 2, 2),
            0.1,
            feedforward=[
                local_feedforward(ratio, excite="se", reduction=dim) for ratio, dim in zip(RATIOS, DIMS, strict=True)
            ],
            residual="local",
        ),
        "localvit",
        "LocalViT on PVT-Tiny",
        PAPER,
        published=(Published(_README, 224, 13.5, top1=0.781),),
        weights=(_weight("localvit_pvt_tiny", 0.781),),
    )
)

register(
    Entry(
        Architecture(
            "localvit_nano",
            (
                vit_stage(
                    96,
                    4,
                    3,
                    patch=8,
                    feedforward=local_feedforward(excite="se", reduction=96),
                    residual=Part("local"),
                    drop_path=0.1,
                ),
            ),
            Part("class_token"),
            img_size=(32, 32),
        ),
        "localvit",
        "LocalViT at half a million parameters, for small images and quick studies",
        PAPER,
    )
)

_SWIN_STAGES = tuple(
    replace(stage, feedforward=local_feedforward(excite="se", reduction=stage.dim // 4), residual=Part("local"))
    for stage in swin_stages(96, (2, 2, 6, 2), (3, 6, 12, 24), drop_path=0.1)
)
register(
    Entry(
        Architecture("localvit_swin_tiny_patch4_window7_224", _SWIN_STAGES, Part("pool"), norm_eps=1e-5),
        "localvit",
        "LocalViT on Swin-T",
        PAPER,
        published=(Published(_README, 224, 29.1, top1=0.8186),),
        weights=(_weight("localvit_swin_tiny_patch4_window7_224", 0.8186),),
    )
)

_OURS = "stages.0.blocks.{}.feedforward"


def _inverted(block: str, ours: str, excite: bool) -> dict[str | tuple[str, ...], Any]:
    """Their feedforward is a numbered sequence, in which an excitation takes the sixth place."""
    last = 7 if excite else 6
    table: dict[str | tuple[str, ...], Any] = {
        f"{block}.0.weight": As(f"{ours}.fc1.weight", POINTWISE),
        f"{block}.1.*": f"{ours}.norm1.*",
        f"{block}.3.weight": f"{ours}.conv.weight",
        f"{block}.4.*": f"{ours}.norm2.*",
        f"{block}.{last}.weight": As(f"{ours}.fc2.weight", POINTWISE),
        f"{block}.{last + 1}.*": f"{ours}.norm3.*",
    }
    if excite:
        table[f"{block}.6.fc.0.*"] = f"{ours}.excite.fc1.*"
        table[f"{block}.6.fc.2.*"] = f"{ours}.excite.fc2.*"
        table[f"{block}.6.conv.weight"] = f"{ours}.excite.conv.weight"
    return table


def _table(excite: bool) -> Table:
    return {**COLUMN, **_inverted("blocks.{}.conv.conv", _OURS, excite)}


# On this host `pos_embed` is computed here; the layers' norm2 is there, but nothing uses it.
_T2T: Table = {
    **_table(True),
    "pos_embed": None,
    **token_layers({**PERFORMER, "norm2.*": "norm2.*", **_inverted("conv.conv", "feedforward", False)}),
}
_SWIN: Table = {
    **{theirs: ours for theirs, ours in TRUNK.items() if "norm2" not in str(theirs)},
    **BIAS,
    **AUTHORS_END,
    **_inverted("layers.{}.blocks.{}.conv.conv", "stages.{}.blocks.{}.feedforward", True),
}
_PVT: Table = {
    **{theirs: ours for theirs, ours in AUTHORS.items() if ".mlp." not in theirs and ".norm2." not in theirs},
    **{
        theirs: ours
        for s in range(4)
        for theirs, ours in _inverted(
            f"block{s + 1}.{{}}.conv.conv", f"stages.{s}.blocks.{{}}.feedforward", True
        ).items()
    },
}
_ONLY = {"feedforward": ("conv_mlp",), "residual": ("local",), "head": ("class_token",)}
_EXCITED = {"feedforward.excite": ("se", "eca", "eca_hard")}
_DEIT = {"tokens": ("conv",), "attention": ("global",), "norm_eps": ("1e-06",)}
_POOLED = {**_ONLY, "head": ("pool",)}
LAYOUTS = (
    Layout("authors", "localvit", _table(True), only={**_ONLY, **_DEIT, **_EXCITED}),
    Layout("authors", "localvit", _table(False), only={**_ONLY, **_DEIT, "feedforward.excite": ("none",)}),
    Layout(
        "authors",
        "localvit",
        _T2T,
        only={**_ONLY, **_EXCITED, "tokens": ("tokens_to_token",), "tokens.local": ("true",), "norm_eps": ("1e-05",)},
    ),
    Layout(
        "authors",
        "localvit",
        _PVT,
        only={
            **_ONLY,
            **_EXCITED,
            "tokens": ("conv",),
            "attention": ("spatial_reduction",),
            "attention.method": ("conv",),
            "attention.eps": ("1e-05",),
            "tokens.eps": ("1e-05",),
            "norm_eps": ("1e-06",),
        },
    ),
    Layout(
        "authors",
        "localvit",
        _SWIN,
        only={**_POOLED, **_EXCITED, "attention": ("window",), "position": ("relative_bias",), "norm_eps": ("1e-05",)},
    ),
)
