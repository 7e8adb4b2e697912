"""CPVT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import COLUMN

LAYOUTS = (
    Layout(
        "authors",
        "cpvt",
        {**COLUMN, "pos_block.{}.proj.0.*": "stages.0.blocks.{}.position.conv.*"},
        only={"attention": ("global",), "norm_eps": ("1e-06",), "feedforward": ("mlp",), "feedforward.act": ("gelu",)},
    ),
)
