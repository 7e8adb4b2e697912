"""ViTAE's tensors as its authors name them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout


def _normal(theirs: str, ours: str) -> dict[str | tuple[str, ...], str]:
    """A normal cell: the parallel convolutions are a numbered sequence there."""
    cell, block = f"{theirs}.NC.{{}}", f"{ours}.blocks.{{}}"
    return {
        f"{cell}.norm1.*": f"{block}.attention_residual.norm.*",
        f"{cell}.attn.qkv.*": f"{block}.attention.qkv.*",
        f"{cell}.attn.proj.*": f"{block}.attention.proj.*",
        f"{cell}.norm2.*": f"{block}.feedforward_residual.norm.*",
        f"{cell}.mlp.fc1.*": f"{block}.feedforward.fc1.*",
        f"{cell}.mlp.fc2.*": f"{block}.feedforward.fc2.*",
        f"{cell}.PCM.0.*": f"{block}.conv.conv1.*",
        f"{cell}.PCM.1.*": f"{block}.conv.norm1.*",
        f"{cell}.PCM.3.*": f"{block}.conv.conv2.*",
        f"{cell}.PCM.4.*": f"{block}.conv.rest.0.*",
        f"{cell}.PCM.6.*": f"{block}.conv.rest.2.*",
    }


def _reduction(theirs: str, ours: str) -> dict[str | tuple[str, ...], str]:
    cell, tokens = f"{theirs}.RC", f"{ours}.tokens"
    return {
        f"{cell}.PRM.convs.{{}}.0.*": f"{tokens}.pyramid.{{}}.*",
        f"{cell}.PCM.{{}}.*": f"{tokens}.parallel.{{}}.*",
        f"{cell}.attn.w": f"{tokens}.layer.w",
        f"{cell}.attn.kqv.*": f"{tokens}.layer.qkv.*",
        f"{cell}.attn.proj.*": f"{tokens}.layer.proj.*",
        f"{cell}.attn.norm1.*": f"{tokens}.layer.norm1.*",
        f"{cell}.attn.norm2.*": f"{tokens}.layer.norm2.*",
        f"{cell}.attn.mlp.0.*": f"{tokens}.layer.feedforward.fc1.*",
        f"{cell}.attn.mlp.2.*": f"{tokens}.layer.feedforward.fc2.*",
    }


_CELLS: Table = {
    key: ours
    for s in range(3)
    for key, ours in {**_reduction(f"layers.{s}", f"stages.{s}"), **_normal(f"layers.{s}", f"stages.{s}")}.items()
} | {"head.*": "head.fc.*"}
_COLUMN: Table = {
    "layers.0.RC.PRM.proj.*": "stages.0.tokens.conv.*",
    "layers.0.RC.pos_embed": "stages.0.position.table",
    "layers.0.RC.cls_token": "stages.0.class_token",
    **_normal("layers.2", "stages.0"),
    "fc_norm.*": "head.fc_norm.*",
    "head.*": "head.fc.*",
}
_ONLY = {
    "attention": ("global",),
    "feedforward": ("mlp",),
    "residual": ("pre_norm",),
    "block.1.part": ("conv_module",),
    "block.1.part.act": ("silu",),
    "norm_eps": ("1e-06",),
}

LAYOUTS = (
    Layout("authors", "vitae", _CELLS, only={**_ONLY, "tokens": ("reduction_cell",), "head.norm": ("false",)}),
    Layout("authors", "vitae", _COLUMN, only={**_ONLY, "tokens": ("conv",), "head.mean": ("true",)}),
)
"""With reduction cells, and of the isotropic model, whose second and third reduction are empty there."""


def input_channels(state: Mapping[str, Tensor]) -> int:
    """The channels that the first convolution of the pyramid reads; 0 if there is none."""
    weight = state.get("stages.0.tokens.pyramid.0.weight")
    return weight.shape[1] if weight is not None and weight.ndim == 4 else 0
