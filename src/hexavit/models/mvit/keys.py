"""MViT's tensors as its authors name them.

The authors number the blocks of all stages in one sequence; where a stage begins is seen from the widths. Pooling
weights of the video code have an axis of time, of size 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hexavit.models.layouts import SAME, As, Form, RenamedLayout, State, Table

POOLS = ("pool_q", "pool_k", "pool_v")
_BLOCK = re.compile(r"blocks\.(0|[1-9][0-9]{0,3})\.(.+)")
_STAGE_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")
_PROJECTIONS = ("shortcut_proj_attn", "shortcut_proj_mlp")


IMAGE_POOL = Form("(d, 1, k, k)", lambda t: t.squeeze(2) if t.ndim == 5 else t, lambda t, heads: t)
"""Pooling weights; an axis of time is left out and not written."""
VIDEO_POOL = Form("(d, 1, 1, k, k)", lambda t: t.squeeze(2) if t.ndim == 5 else t, lambda t, heads: t.unsqueeze(2))
"""Pooling weights, written with an axis of time."""

ENDS: Table = {
    "cls_token": "stages.0.class_token",
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "norm.*": "head.norm.*",
}
RELATIVE: Table = {
    "stages.{}.blocks.{}.attn.rel_pos_h": "stages.{}.blocks.{}.attention.position.table_h",
    "stages.{}.blocks.{}.attn.rel_pos_w": "stages.{}.blocks.{}.attention.position.table_w",
}


def block_rows(pool: Form = SAME) -> Table:
    """Rows of a block, with blocks numbered by stages and the names of projections as in timm."""
    theirs = ours = "stages.{}.blocks.{}"
    names = {
        "norm1": "attention_residual.norm",
        "attn.qkv": "attention.qkv",
        "attn.proj": "attention.proj",
        **{f"attn.norm_{x}": f"attention.norm_{x}" for x in "qkv"},
        "norm2": "feedforward_residual.norm",
        "mlp.fc1": "feedforward.fc1",
        "mlp.fc2": "feedforward.fc2",
        "shortcut_proj_attn": "attention_residual.skip",
        "shortcut_proj_mlp": "feedforward_residual.skip",
    }
    table: dict[str | tuple[str, ...], str | As] = {f"{theirs}.{a}.*": f"{ours}.{b}.*" for a, b in names.items()}
    for name in POOLS:
        table[f"{theirs}.attn.{name}.weight"] = As(f"{ours}.attention.{name}.weight", pool)
    return dict(table.items())


def to_stages(state: State) -> dict[str, str]:
    """The keys of a state whose blocks are numbered through all stages, with stage and block."""
    matched = {key: match for key in state if (match := _BLOCK.fullmatch(key))}
    found: dict[str, str] = {}
    places: dict[int, tuple[int, int]] = {}
    grows: dict[int, bool] = {}
    stage, block, before = 0, -1, 0
    for n in sorted({int(match[1]) for match in matched.values()}):
        comes, attends = (_width(state, f"blocks.{n}.{name}") for name in ("norm1.weight", "attn.proj.weight"))
        grows[n] = 0 < comes < attends
        # A stage begins where the width grows in the attention, or behind a feedforward that has made it grow.
        if block >= 0 and (grows[n] or 0 < before < comes):
            stage, block = stage + 1, -1
        block, before = block + 1, attends
        places[n] = stage, block
    for key, match in matched.items():
        n, name = int(match[1]), match[2]
        if name.startswith("proj."):
            name = name.replace("proj", _PROJECTIONS[0] if grows[n] else _PROJECTIONS[1], 1)
        found[key] = "stages.{}.blocks.{}.".format(*places[n]) + name
    return found


def _width(state: State, key: str) -> int:
    """The first axis of a tensor, 0 if there is none."""
    tensor = state.get(key)
    return tensor.shape[0] if tensor is not None and tensor.ndim else 0


def from_stages(keys: Iterable[str]) -> dict[str, str]:
    """The inverse of `to_stages`."""
    matched = {key: match for key in keys if (match := _STAGE_BLOCK.fullmatch(key))}
    places = sorted({(int(match[1]), int(match[2])) for match in matched.values()})
    number = {place: n for n, place in enumerate(places)}
    found = {}
    for key, match in matched.items():
        name = match[3]
        for projection in _PROJECTIONS:
            name = re.sub(rf"^{projection}\.", "proj.", name)
        found[key] = f"blocks.{number[int(match[1]), int(match[2])]}.{name}"
    return found


def authors(family: str, table: Table, only: dict[str, tuple[str, ...]]) -> RenamedLayout:
    """The authors' layout for a table of keys by stages."""
    keys = [key for key in table if isinstance(key, str) and not any(name in key for name in _PROJECTIONS)]
    patterns = [key.replace("stages.{}.", "") for key in keys]
    return RenamedLayout(
        "authors",
        family,
        table,
        only=only,
        suffixes=(".pyth", ".pth", ".safetensors"),
        patterns=(*patterns, "blocks.{}.proj.*"),
        rename=to_stages,
        rename_back=from_stages,
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
    **block_rows(VIDEO_POOL),
    "head.projection.*": "head.fc.*",
}
_ONLY = {
    **ONLY,
    "attention.residual_q": ("false",),
    "position": ("learned", "none"),
    "head": ("class_token",),
}
LAYOUTS = (authors("mvit", _TABLE, _ONLY),)
