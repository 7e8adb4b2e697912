"""CeiT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import POINTWISE, As, Split
from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import COLUMN

_OURS = "stages.0.blocks.{}.feedforward"
LAYOUTS = (
    Layout(
        "authors",
        "ceit",
        {
            **COLUMN,
            "i2t.backbone.conv.weight": "stages.0.tokens.steps.0.0.weight",
            "i2t.backbone.bn.*": "stages.0.tokens.steps.0.1.*",
            "i2t.proj.*": "stages.0.tokens.conv.*",
            "blocks.{}.leff.conv1.weight": As(f"{_OURS}.fc1.weight", POINTWISE),
            "blocks.{}.leff.conv1.bias": f"{_OURS}.fc1.bias",
            "blocks.{}.leff.conv2.*": f"{_OURS}.conv.*",
            "blocks.{}.leff.conv3.weight": As(f"{_OURS}.fc2.weight", POINTWISE),
            "blocks.{}.leff.conv3.bias": f"{_OURS}.fc2.bias",
            **{f"blocks.{{}}.leff.bn{k}.*": f"{_OURS}.norm{k}.*" for k in (1, 2, 3)},
            "pos_layer_embed": "head.table",
            "lca.norm1.*": "head.norm1.*",
            **{
                f"lca.attn.qkv.{name}": Split(*(f"head.attention.{x}.{name}" for x in "qkv"))
                for name in ("weight", "bias")
            },
            "lca.attn.proj.*": "head.attention.proj.*",
            "lca.norm2.*": "head.norm2.*",
            "lca.feedforward.fc1.*": "head.feedforward.fc1.*",
            "lca.feedforward.fc2.*": "head.feedforward.fc2.*",
        },
        only={"head": ("layer_class_attention",), "norm_eps": ("1e-06",), "feedforward": ("conv_mlp",)},
    ),
)
