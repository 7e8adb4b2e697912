"""LV-ViT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.deepvit.keys import STEM
from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import COLUMN

LAYOUTS = (
    Layout(
        "authors",
        "lvvit",
        {**COLUMN, **STEM, "aux_head.*": "head.fc2.*"},
        only={"head": ("token_labels",), "norm_eps": ("1e-05",), "feedforward": ("mlp",), "feedforward.act": ("gelu",)},
    ),
)
