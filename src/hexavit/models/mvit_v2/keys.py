"""MViTv2's tensors as timm and its authors name them. timm numbers blocks by stages, the authors through all stages."""

from __future__ import annotations

from hexavit.models.layouts import Layout, Table
from hexavit.models.mvit.keys import ENDS, IMAGE_POOL, ONLY, RELATIVE, authors, block_rows

_TABLE: Table = {**ENDS, **block_rows(IMAGE_POOL), **RELATIVE}
_ONLY = {
    **ONLY,
    "attention.pool_q": ("true",),
    "attention.residual_q": ("true",),
    "position": ("decomposed_relative",),
}
LAYOUTS = (
    Layout("timm", "mvit_v2", {**_TABLE, "head.fc.*": "head.fc.*"}, only=_ONLY),
    authors("mvit_v2", {**_TABLE, "head.projection.*": "head.fc.*"}, _ONLY),
)
