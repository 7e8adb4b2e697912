"""BoTNet's tensors as timm names them. Its authors published no PyTorch code.

timm counts the offsets of its position tables from query to key, hexavit from key to query: the rows are in reverse.
"""

from __future__ import annotations

from hexavit.models.key_tables import POINTWISE, As, Form, Table
from hexavit.models.layouts import Layout

_REVERSED = Form("rows in reverse", lambda t: t.flip(0), lambda t, heads: t.flip(0))
_THEIRS, _OURS = "stages.{}.{}", "stages.{}.blocks.{}"
_TABLE: Table = {
    **{f"stem.conv{n + 1}.conv.*": f"stages.0.tokens.steps.{n}.0.*" for n in range(3)},
    **{f"stem.conv{n + 1}.bn.*": f"stages.0.tokens.steps.{n}.1.*" for n in range(3)},
    f"{_THEIRS}.shortcut.conv.*": f"{_OURS}.attention_residual.skip.*",
    f"{_THEIRS}.shortcut.bn.*": f"{_OURS}.attention_residual.skip_norm.*",
    f"{_THEIRS}.conv1_1x1.conv.*": f"{_OURS}.attention.conv1.*",
    f"{_THEIRS}.conv1_1x1.bn.*": f"{_OURS}.attention.norm1.*",
    f"{_THEIRS}.conv2_kxk.conv.*": f"{_OURS}.attention.conv2.*",
    f"{_THEIRS}.conv2_kxk.bn.*": f"{_OURS}.attention.norm2.*",
    f"{_THEIRS}.self_attn.qkv.weight": As(f"{_OURS}.attention.qkv.weight", POINTWISE),
    f"{_THEIRS}.self_attn.pos_embed.height_rel": As(f"{_OURS}.attention.position.table_h", _REVERSED),
    f"{_THEIRS}.self_attn.pos_embed.width_rel": As(f"{_OURS}.attention.position.table_w", _REVERSED),
    f"{_THEIRS}.post_attn.*": f"{_OURS}.attention.norm.*",
    f"{_THEIRS}.conv3_1x1.conv.*": f"{_OURS}.attention.conv3.*",
    f"{_THEIRS}.conv3_1x1.bn.*": f"{_OURS}.attention.norm3.*",
    "head.fc.*": "head.fc.*",
}
_ONLY = {
    "tokens": ("conv_stem", "keep"),
    "tokens.channels": ("(24, 32, 64)",),
    "tokens.pool": ("true",),
    "tokens.act": ("relu",),
    "position": ("none", "decomposed_relative"),
    "position.scaled": ("false",),
    "attention": ("conv_bottleneck", "bottleneck"),
    "attention.act": ("relu",),
    "residual": ("post_act",),
    "residual.act": ("relu",),
    "block": ("attention",),
    "head": ("pool",),
    "head.norm": ("false",),
}
LAYOUTS = (Layout("timm", "botnet", _TABLE, only=_ONLY),)
