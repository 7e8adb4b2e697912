"""LocalViT's tensors as its authors name them."""

from __future__ import annotations

from typing import Any

from hexavit.models.key_tables import POINTWISE, As, Table
from hexavit.models.layouts import Layout
from hexavit.models.pvt.keys import AUTHORS
from hexavit.models.swin.keys import AUTHORS_END, BIAS, NEIGHBOURS, TRUNK
from hexavit.models.t2t_vit.keys import PERFORMER, token_layers
from hexavit.models.tnt.keys import FIRST_NAMES, WORDS_TABLE, tnt_table
from hexavit.models.tnt.keys import ONLY as ONLY_TNT
from hexavit.models.vit.keys import COLUMN

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
_TNT: Table = {
    **tnt_table(FIRST_NAMES, _inverted("blocks.{}.conv.conv", _OURS, True)),
    **WORDS_TABLE,
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
        _TNT,
        only={**ONLY_TNT, **_ONLY, **_EXCITED, "residual": ("local", "pre_norm"), "tokens.whole": ("true",)},
    ),
    Layout(
        "authors",
        "localvit",
        _SWIN,
        only={
            **_POOLED,
            **_EXCITED,
            **NEIGHBOURS,
            "attention": ("window",),
            "position": ("relative_bias",),
            "norm_eps": ("1e-05",),
        },
    ),
)
