"""CaiT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import BLOCK, COLUMN

_CLASS_BLOCK: Table = {
    theirs.replace("blocks.", "blocks_token_only."): ours.replace("stages.0", "stages.1")
    for theirs, ours in BLOCK.items()
    if isinstance(theirs, str) and isinstance(ours, str) and "qkv" not in theirs
}
_TABLE: Table = {
    **COLUMN,
    "cls_token": "stages.1.class_token",
    "blocks.{}.gamma_1": "stages.0.blocks.{}.attention_residual.gamma",
    "blocks.{}.gamma_2": "stages.0.blocks.{}.feedforward_residual.gamma",
    "blocks.{}.attn.proj_l.*": "stages.0.blocks.{}.attention.mix_before.*",
    "blocks.{}.attn.proj_w.*": "stages.0.blocks.{}.attention.mix_after.*",
    **_CLASS_BLOCK,
    "blocks_token_only.{}.gamma_1": "stages.1.blocks.{}.attention_residual.gamma",
    "blocks_token_only.{}.gamma_2": "stages.1.blocks.{}.feedforward_residual.gamma",
    "blocks_token_only.{}.attn.q.*": "stages.1.blocks.{}.attention.q.*",
    "blocks_token_only.{}.attn.k.*": "stages.1.blocks.{}.attention.k.*",
    "blocks_token_only.{}.attn.v.*": "stages.1.blocks.{}.attention.v.*",
}
_ONLY = {"head": ("class_token",), "norm_eps": ("1e-06",), "feedforward": ("mlp",), "feedforward.act": ("gelu",)}
LAYOUTS = (
    Layout("timm", "cait", _TABLE, only=_ONLY),
    Layout("authors", "cait", _TABLE, only=_ONLY),
)
"""The authors' names are timm's."""
