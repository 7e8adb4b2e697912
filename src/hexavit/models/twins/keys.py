"""Twins's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.pyramids import block_table
from hexavit.models.swin.keys import NEIGHBOURS

TABLE: Table = {
    "patch_embeds.{}.proj.*": "stages.{}.tokens.conv.*",
    "patch_embeds.{}.norm.*": "stages.{}.tokens.norm.*",
    "pos_block.{}.proj.0.*": "stages.{}.blocks.0.position.conv.*",
    **block_table("blocks.{}.{}", "stages.{}.blocks.{}"),
    "blocks.{}.{}.attn.qkv.*": "stages.{}.blocks.{}.attention.qkv.*",
    "norm.*": "head.norm.*",
    "head.*": "head.fc.*",
}
"""The authors' names, which are timm's."""
_ONLY = {
    "attention": ("spatial_reduction", "window"),
    **NEIGHBOURS,
    "attention.shifted": ("false",),
    "attention.cosine": ("false",),
    "attention.key_bias": ("true",),
    "attention.method": ("conv",),
    "attention.head_dim": ("none",),
    "attention.mix_heads": ("false",),
    "attention.eps": ("1e-05",),
    "tokens": ("conv",),
    "tokens.eps": ("1e-05",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "residual": ("pre_norm",),
    "head": ("pool",),
    "norm_eps": ("1e-06",),
}
LAYOUTS = (
    Layout("timm", "twins", TABLE, only=_ONLY),
    Layout("authors", "twins", TABLE, only=_ONLY),
)
