"""MSG-Transformer's tensors as its authors name them: Swin's names, with the messengers' beside them."""

from __future__ import annotations

from math import isqrt

from hexavit.architecture import Architecture
from hexavit.models.key_tables import POINTWISE, As, Form, Table
from hexavit.models.layouts import Layout, State, filled
from hexavit.models.swin.keys import BIAS, MLP, TRUNK

_MESSENGERS = Form("(1, S^2, 1, C)", lambda t: t[:, :, 0], lambda t, heads: t[:, :, None])
_TABLE: Table = {
    **TRUNK,
    **BIAS,
    **MLP,
    "msg_tokens": As("stages.0.tokens.messengers", _MESSENGERS),
    "layers.{}.blocks.{}.attn.rel_pos_msg": As("stages.{}.blocks.{}.attention.messenger_bias", POINTWISE),
    **{
        f"layers.{i}.downsample.{theirs}.*": f"stages.{i + 1}.tokens.{ours}.*"
        for i in range(3)
        for theirs, ours in (("reduction", "conv"), ("norm", "norm"))
    },
    "head.*": "head.fc.*",
}
LAYOUTS = (
    Layout(
        "authors",
        "msg_transformer",
        _TABLE,
        only={
            "attention": ("messenger_window",),
            "attention.head_dim": ("none",),
            "position": ("relative_bias",),
            "tokens": ("messenger_conv", "messenger_merging"),
            "tokens.kernel": ("7", "3"),
            "tokens.stride": ("4", "2"),
            "tokens.padding": ("2",),
            "tokens.norm": ("true",),
            "tokens.eps": ("none",),
            "feedforward": ("mlp",),
            "feedforward.act": ("gelu",),
            "residual": ("messenger_exchange",),
            "head": ("messengers",),
            "head.norm": ("true",),
            "norm_eps": ("1e-05",),
        },
        uniform=("window",),
    ),
)


def edits(state: State, architecture: Architecture) -> list[str]:
    """Windows of another side, which the bias tables show: of 8, say, at 256, as the last map is one window."""
    table = state.get("stages.0.blocks.0.attention.position.table")
    held = filled("attention", architecture.stages[0].column("attention", 0)).get("window")
    if table is None or table.ndim != 2 or (window := (isqrt(table.shape[0]) + 1) // 2) == held:
        return []
    parts = ("tokens", "attention", "residual")
    return [*(f"stages.*.{part}.window={window}" for part in parts), f"img_size={32 * window}"]
