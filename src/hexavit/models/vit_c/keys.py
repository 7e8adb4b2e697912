"""ViT-C's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import SEQUENCE_FIRST, As
from hexavit.models.layouts import Layout

_OURS = "stages.0.blocks.{}"
LAYOUTS = (
    Layout(
        "authors",
        "vit_c",
        {
            "class_token": "stages.0.class_token",
            "pos_embedding": As("stages.0.position.table", SEQUENCE_FIRST),
            "stem.patchify.*": "stages.0.tokens.conv.*",
            "stem.cstem{}_conv.weight": "stages.0.tokens.steps.{}.0.weight",
            "stem.cstem{}_bn.*": "stages.0.tokens.steps.{}.1.*",
            "stem.cstem_last_conv.*": "stages.0.tokens.conv.*",
            "encoder.block_{}.ln_1.*": f"{_OURS}.attention_residual.norm.*",
            "encoder.block_{}.self_attention.block.in_proj_weight": f"{_OURS}.attention.qkv.weight",
            "encoder.block_{}.self_attention.block.in_proj_bias": f"{_OURS}.attention.qkv.bias",
            "encoder.block_{}.self_attention.block.out_proj.*": f"{_OURS}.attention.proj.*",
            "encoder.block_{}.ln_2.*": f"{_OURS}.feedforward_residual.norm.*",
            "encoder.block_{}.mlp_block.linear_1.*": f"{_OURS}.feedforward.fc1.*",
            "encoder.block_{}.mlp_block.linear_2.*": f"{_OURS}.feedforward.fc2.*",
            "encoder.ln.*": "head.norm.*",
            "head.head_fc.*": "head.fc.*",
        },
        only={"attention": ("global",), "norm_eps": ("1e-05",), "feedforward": ("mlp",), "feedforward.act": ("gelu",)},
        suffixes=(".pyth",),
    ),
)
