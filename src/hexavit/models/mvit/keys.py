"""MViT's tensors as its authors name them.

The authors number the blocks of all stages in one sequence. The projected skip of a block has one name there, whether
the width grows in the attention or in the feedforward. Pooling weights of the video code have an axis of time (1).
"""

from __future__ import annotations

from hexavit.architecture import Architecture
from hexavit.models.key_tables import SAME, As, Form, Table
from hexavit.models.layouts import Layout, filled, numbered_through

POOLS = ("pool_q", "pool_k", "pool_v")
IMAGE_POOL = Form("(d, 1, k, k)", lambda t: t.squeeze(2) if t.ndim == 5 else t, lambda t, heads: t)
"""Pooling weights; an axis of time is left out and not written."""
VIDEO_POOL = Form("(d, 1, 1, k, k)", lambda t: t.squeeze(2) if t.ndim == 5 else t, lambda t, heads: t.unsqueeze(2))
"""Pooling weights, written with an axis of time."""

ENDS: Table = {
    "cls_token": "stages.0.class_token",
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "norm.*": "head.norm.*",
}


def block_rows(block: str, pool: Form = SAME) -> Table:
    """Rows of a block, for blocks numbered as in `block`."""
    names = {
        "norm1": "attention_residual.norm",
        "attn.qkv": "attention.qkv",
        "attn.proj": "attention.proj",
        **{f"attn.norm_{x}": f"attention.norm_{x}" for x in "qkv"},
        "norm2": "feedforward_residual.norm",
        "mlp.fc1": "feedforward.fc1",
        "mlp.fc2": "feedforward.fc2",
    }
    rows: dict[str | tuple[str, ...], str | As] = {f"{block}.{a}.*": f"{block}.{b}.*" for a, b in names.items()}
    for name in POOLS:
        rows[f"{block}.attn.{name}.weight"] = As(f"{block}.attention.{name}.weight", pool)
    return dict(rows.items())


def relative_rows(block: str) -> Table:
    """Rows of the decomposed relative position."""
    return {f"{block}.attn.rel_pos_{x}": f"{block}.attention.position.table_{x}" for x in "hw"}


def places(architecture: Architecture) -> dict[str, str]:
    """Where the numbered blocks and their projected skips stand in an architecture."""
    found = numbered_through(architecture)
    for number, place in list(found.items()):
        _, stage, _, block = place.split(".")
        feedforward = architecture.stages[int(stage)].column("feedforward", int(block))
        wider = filled("feedforward", feedforward).get("out_ratio", 1.0) != 1.0
        found[f"{number}.proj"] = f"{place}.{'feedforward' if wider else 'attention'}_residual.skip"
    return found


def authors(family: str, table: Table, only: dict[str, tuple[str, ...]]) -> Layout:
    """The authors' layout, for a table with blocks numbered through all stages."""
    return Layout(
        "authors",
        family,
        {**table, "blocks.{}.proj.*": "blocks.{}.proj.*"},
        only=only,
        suffixes=(".pyth", ".pth", ".safetensors"),
        places=places,
    )


ONLY: dict[str, tuple[str, ...]] = {
    "attention": ("pooling",),
    "attention.head_dim": ("none",),
    "attention.kernel": ("3",),
    "attention.window": ("0",),
    "tokens.norm": ("false",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "residual": ("pre_norm",),
    "residual.layer_scale": ("none",),
    "residual.pool_kernel": ("3",),
    "norm_eps": ("1e-06",),
}
"""What the code of MViT and MViTv2 can compute."""
_TABLE: Table = {
    **ENDS,
    "pos_embed": "stages.0.position.table",
    **block_rows("blocks.{}", VIDEO_POOL),
    "head.projection.*": "head.fc.*",
}
_ONLY = {
    **ONLY,
    "attention.residual_q": ("false",),
    "position": ("learned", "none"),
    "head": ("class_token",),
}
LAYOUTS = (authors("mvit", _TABLE, _ONLY),)
