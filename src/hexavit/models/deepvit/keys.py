"""DeepViT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import COLUMN

STEM: Table = {
    f"patch_embed.{layer}{k + 1}.*": f"stages.0.tokens.steps.{k}.{place}.*"
    for k in range(3)
    for place, layer in enumerate(("conv", "bn"))
}
LAYOUTS = (
    Layout(
        "authors",
        "deepvit",
        {
            **COLUMN,
            **STEM,
            "blocks.{}.attn.reatten_matrix.*": "stages.0.blocks.{}.attention.theta.*",
            "blocks.{}.attn.var_norm.*": "stages.0.blocks.{}.attention.norm.*",
        },
        only={"head": ("class_token",), "norm_eps": ("1e-06",), "feedforward": ("mlp",), "feedforward.act": ("gelu",)},
    ),
)
