"""TNT's tensors as others name them: its authors, and timm, whose names are those of the first release.

Their attentions have one linear for q and k and one for v, which are one here. The authors' `outer_tokens` are zeros
that nothing reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import As, Form, Join, Table
from hexavit.models.layouts import Layout, State
from hexavit.network.composition import compose

_WORDS_MAP = Form(
    "a map of words (1, c, s, s)",
    lambda t: t.flatten(2).mT,
    lambda t, heads: t.mT.unflatten(2, (isqrt(t.shape[1]), -1)),
)


def _attention(theirs: str, ours: str) -> Table:
    linears = (f"{theirs}.qk", f"{theirs}.v")
    joined: Table = {
        tuple(f"{name}.{end}" for name in linears): Join(f"{ours}.qkv.{end}", shares=(2, 1))
        for end in ("weight", "bias")
    }
    return {**joined, f"{theirs}.proj.*": f"{ours}.proj.*"}


def tnt_table(names: Mapping[str, str], feedforward: Table) -> Table:
    """The rows of a TNT.

    Args:
        names: their names of the parts, by ours.
        feedforward: the rows of the feedforward over the patches, and of its norm.
    """
    ours, inner = "stages.0.blocks.{}", "stages.0.blocks.{}.words"
    block = "blocks.{}"
    return {
        "cls_token": "stages.0.class_token",
        names["position"]: "stages.0.position.table",
        f"{names['conv']}.proj.*": "stages.0.tokens.conv.*",
        f"{names['norm1']}.*": "stages.0.tokens.norm1.*",
        "proj.*": "stages.0.tokens.proj.*",
        f"{names['norm2']}.*": "stages.0.tokens.norm2.*",
        f"{block}.{names['inner_norm']}.*": f"{inner}.attention_residual.norm.*",
        **_attention(f"{block}.{names['inner_attention']}", f"{inner}.attention"),
        f"{block}.{names['inner_mlp_norm']}.*": f"{inner}.feedforward_residual.norm.*",
        f"{block}.{names['inner_mlp']}.fc1.*": f"{inner}.feedforward.fc1.*",
        f"{block}.{names['inner_mlp']}.fc2.*": f"{inner}.feedforward.fc2.*",
        f"{block}.{names['norm1']}.*": f"{inner}.norm1.*",
        f"{block}.proj.*": f"{inner}.proj.*",
        f"{block}.{names['norm2']}.*": f"{inner}.norm2.*",
        f"{block}.{names['norm']}.*": f"{ours}.attention_residual.norm.*",
        **_attention(f"{block}.{names['attention']}", f"{ours}.attention"),
        **feedforward,
        "norm.*": "head.norm.*",
        "head.*": "head.fc.*",
    }


def _mlp(norm: str, mlp: str) -> Table:
    ours = "stages.0.blocks.{}"
    return {
        f"blocks.{{}}.{norm}.*": f"{ours}.feedforward_residual.norm.*",
        f"blocks.{{}}.{mlp}.fc1.*": f"{ours}.feedforward.fc1.*",
        f"blocks.{{}}.{mlp}.fc2.*": f"{ours}.feedforward.fc2.*",
    }


FIRST_NAMES = {
    "position": "patch_pos",
    "conv": "pixel_embed",
    "norm1": "norm1_proj",
    "norm2": "norm2_proj",
    "inner_norm": "norm_in",
    "inner_attention": "attn_in",
    "inner_mlp_norm": "norm_mlp_in",
    "inner_mlp": "mlp_in",
    "norm": "norm_out",
    "attention": "attn_out",
}
"""Names of the first release."""
_NAMES = {
    "position": "outer_pos",
    "conv": "patch_embed",
    "norm1": "proj_norm1",
    "norm2": "proj_norm2",
    "inner_norm": "inner_norm1",
    "inner_attention": "inner_attn",
    "inner_mlp_norm": "inner_norm2",
    "inner_mlp": "inner_mlp",
    "norm": "outer_norm1",
    "attention": "outer_attn",
}
WORDS_TABLE: Table = {"pixel_pos": As("stages.0.tokens.table", _WORDS_MAP)}
AUTHORS: Table = {
    **tnt_table(_NAMES, _mlp("outer_norm2", "outer_mlp")),
    "inner_pos": "stages.0.tokens.table",
    "outer_tokens": None,
    **{f"blocks.{{}}.se_layer.fc.{n}.*": f"stages.0.blocks.{{}}.feedforward.excite.{n}.*" for n in (0, 1, 3)},
}
TIMM: Table = {**tnt_table(FIRST_NAMES, _mlp("norm_mlp", "mlp")), **WORDS_TABLE}


def _outer_tokens(architecture: Architecture) -> dict[str, Tensor]:
    """The authors' zeros, one for each patch."""
    with torch.device("meta"):
        stages, _ = compose(architecture)
    h, w = stages[0].out_size(architecture.img_size)
    return {"outer_tokens": torch.zeros(1, h * w, architecture.stages[0].dim)}


ONLY = {
    "tokens": ("words",),
    "position": ("learned",),
    "attention": ("global",),
    "attention.head_dim": ("none",),
    "residual": ("pre_norm",),
    "head": ("class_token",),
    "head.pre_logits": ("false",),
    "norm_eps": ("1e-05",),
    "part": ("inner_transformer",),
}
_ACT = {"feedforward.act": ("gelu",)}
_NOW = {**ONLY, **_ACT, "tokens.whole": ("false",), "part.each": ("false",)}
_FIRST = {**ONLY, **_ACT, "feedforward": ("mlp",), "tokens.whole": ("true",), "part.each": ("true",)}
LAYOUTS = (
    Layout("authors", "tnt", AUTHORS, only={**_NOW, "feedforward": ("mlp", "excited_mlp")}, computed=_outer_tokens),
    Layout("timm", "tnt", TIMM, only={**_NOW, "feedforward": ("mlp",)}),
    Layout("timm", "tnt", TIMM, only=_FIRST),
    Layout("authors", "tnt", TIMM, only=_FIRST),
)


def edits(state: State, architecture: Architecture) -> list[str]:
    """The override that squeeze-excite requires, which no published model has."""
    excited = any(".feedforward.excite." in key for key in state)
    held = architecture.stages[0].column("feedforward", 0).name
    return ["stages.0.feedforward=excited_mlp"] if excited and held == "mlp" else []
