"""LocalViT: "Bringing Locality to Vision Transformers", Li et al., 2021 (arXiv 2104.05707).

Authors' code: ofsoundof/LocalViT (MIT), commit f4972608. Names are its builders'.

What is new in it, against its host: the MLP becomes an inverted residual with a depth-wise convolution, optionally with
squeeze and excite; the image tokens alone pass it, without a norm before it. Here: the DeiT host and the T2T-ViT host.

Shapes at 224: as the host's. Same as the authors' code: 4 and 8 heads on the DeiT host, no drop path around the
feedforward.
Differs: their grid is square, here any H x W.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture, Part
from hexavit.layouts import POINTWISE, As, Layout, Table
from hexavit.models.columns import vit_stage
from hexavit.models.registry import Entry, Published, register
from hexavit.models.vit_keys import COLUMN

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
        )
    )

_OURS = "stages.0.blocks.{}.feedforward"


def _table(excite: bool) -> Table:
    """Their feedforward is a numbered sequence, in which an excitation takes the sixth place."""
    block, last = "blocks.{}.conv.conv", 7 if excite else 6
    excitation: Table = {
        f"{block}.6.fc.0.*": f"{_OURS}.excite.fc1.*",
        f"{block}.6.fc.2.*": f"{_OURS}.excite.fc2.*",
        f"{block}.6.conv.weight": f"{_OURS}.excite.conv.weight",
    }
    return {
        **COLUMN,
        f"{block}.0.weight": As(f"{_OURS}.fc1.weight", POINTWISE),
        f"{block}.1.*": f"{_OURS}.norm1.*",
        f"{block}.3.weight": f"{_OURS}.conv.weight",
        f"{block}.4.*": f"{_OURS}.norm2.*",
        **(excitation if excite else {}),
        f"{block}.{last}.weight": As(f"{_OURS}.fc2.weight", POINTWISE),
        f"{block}.{last + 1}.*": f"{_OURS}.norm3.*",
    }


_ONLY = {"feedforward": ("conv_mlp",), "residual": ("local",), "norm_eps": ("1e-06",), "head": ("class_token",)}
LAYOUTS = (
    Layout(
        "authors",
        "localvit",
        _table(True),
        only={**_ONLY, "feedforward.excite": ("se", "eca", "eca_hard")},
        suffixes=(".pth",),
    ),
    Layout("authors", "localvit", _table(False), only={**_ONLY, "feedforward.excite": ("none",)}, suffixes=(".pth",)),
)
