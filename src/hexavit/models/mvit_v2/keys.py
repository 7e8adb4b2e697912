"""MViTv2's tensors as timm and its authors name them. timm numbers blocks by stages, the authors through all stages."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.mvit.keys import ENDS, IMAGE_POOL, ONLY, authors, block_rows, relative_rows

_STAGE_BLOCK = "stages.{}.blocks.{}"


def _table(block: str) -> Table:
    return {**ENDS, **block_rows(block, IMAGE_POOL), **relative_rows(block)}


_SKIPS: Table = {
    f"{_STAGE_BLOCK}.shortcut_proj_{name}.*": f"{_STAGE_BLOCK}.{ours}_residual.skip.*"
    for name, ours in (("attn", "attention"), ("mlp", "feedforward"))
}
_ONLY = {
    **ONLY,
    "attention.pool_q": ("true",),
    "attention.residual_q": ("true",),
    "position": ("decomposed_relative",),
}
LAYOUTS = (
    Layout("timm", "mvit_v2", {**_table(_STAGE_BLOCK), **_SKIPS, "head.fc.*": "head.fc.*"}, only=_ONLY),
    authors("mvit_v2", {**_table("blocks.{}"), "head.projection.*": "head.fc.*"}, _ONLY),
)
