"""ELSA-Swin's tensors as its authors name them: the last stage has windows, all others the local operator."""

from __future__ import annotations

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import As, Form, Table
from hexavit.models.layouts import Layout, filled
from hexavit.models.swin.keys import AUTHORS_END, MLP, NEIGHBOURS, smallest_map
from hexavit.parts.positions.relative import offset_index

_LAST = 3
_BLOCK = "stages.{}.blocks.{}"


def _thirds(tensor: Tensor, by: int) -> Tensor:
    return tensor.roll(by * (tensor.shape[0] // 3), 0)


VALUE_FIRST = Form("value, query, key", lambda t: _thirds(t, -1), lambda t, heads: _thirds(t, 1))
KEY_MINUS_QUERY = Form("(h, offsets of the key)", lambda t: t.mT.flip(0), lambda t, heads: t.flip(0).mT)

_TABLE: dict[str | tuple[str, ...], str | As | None] = {
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "patch_embed.norm.*": "stages.0.tokens.norm.*",
    "layers.{}.blocks.{}.norm1.*": f"{_BLOCK}.attention_residual.norm.*",
    "layers.{}.blocks.{}.norm2.*": f"{_BLOCK}.feedforward_residual.norm.*",
    "layers.{}.blocks.{}.attn.post_proj.*": f"{_BLOCK}.attention.proj.*",
    "layers.{}.blocks.{}.attn.ghost_head": f"{_BLOCK}.attention.ghost",
    "layers.{}.blocks.{}.attn.attn.0.*": f"{_BLOCK}.attention.mix.*",
    "layers.{}.blocks.{}.attn.attn.2.*": f"{_BLOCK}.attention.logits.*",
    # Computed here, of the size at hand.
    "layers.{}.blocks.{}.attn_mask": None,
    "layers.{}.blocks.{}.attn.relative_id": None,
    "norm.*": "head.norm.*",
}
for _i in range(_LAST):
    _TABLE[f"layers.{_i}.blocks.{{}}.attn.pre_proj.*"] = f"stages.{_i}.blocks.{{}}.attention.qkv.*"
for _kind in ("weight", "bias"):
    _TABLE[f"layers.{_LAST}.blocks.{{}}.attn.pre_proj.{_kind}"] = As(
        f"stages.{_LAST}.blocks.{{}}.attention.qkv.{_kind}", VALUE_FIRST
    )
_TABLE[f"layers.{_LAST}.blocks.{{}}.attn.rb"] = As(
    f"stages.{_LAST}.blocks.{{}}.attention.position.table", KEY_MINUS_QUERY
)
TABLE: Table = {**_TABLE, **MLP, **AUTHORS_END}


def _misplaced(architecture: Architecture) -> list[str]:
    """Parts that the authors have in other stages."""
    found = []
    for i, stage in enumerate(architecture.stages):
        for j in range(stage.depth):
            expected = "local" if i < _LAST else "window"
            part, position = stage.column("attention", j), stage.column("position", j)
            if part.name != expected:
                found.append(f"stages.{i}.attention={part.name}")
            if position.name != ("none" if i < _LAST else "relative_bias"):
                found.append(f"stages.{i}.position={position.name}")
    return found


def _relative_id(architecture: Architecture) -> dict[str, Tensor]:
    """The place of each pair's offset in the last stage's table, which the authors keep beside it."""
    stage = architecture.stages[_LAST]
    found = {}
    for j in range(stage.depth):
        side = min(int(filled("attention", stage.column("attention", j))["window"]), smallest_map(architecture))
        found[f"layers.{_LAST}.blocks.{j}.attn.relative_id"] = offset_index((side, side)).t().flatten()
    return found


_ONLY = {
    "attention.terms": ("hadamard",),
    "attention.norm": ("softmax",),
    "attention.application": ("sliding",),
    "attention.shrink": ("true",),
    "attention.cosine": ("false",),
    "attention.key_bias": ("true",),
    "attention.head_dim": ("none",),
    **NEIGHBOURS,
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "residual": ("pre_norm",),
    "residual.layer_scale": ("none",),
    "tokens.norm": ("true", "before"),
    "head": ("pool",),
    "norm_eps": ("1e-05",),
}
LAYOUTS = (Layout("authors", "elsa", TABLE, only=_ONLY, cannot=_misplaced, computed=_relative_id),)
