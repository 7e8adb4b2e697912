"""ResT's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.pyramids import block, numbered

_BLOCK = {
    theirs.replace(".attn.norm.", ".attn.sr_norm."): ours
    for theirs, ours in block("stage<n>.{}", "stages.<s>.blocks.{}").items()
}
_TABLE: Table = {
    "stem.conv1.*": "stages.0.tokens.steps.0.0.*",
    "stem.norm1.*": "stages.0.tokens.steps.0.1.*",
    "stem.conv2.*": "stages.0.tokens.steps.1.0.*",
    "stem.norm2.*": "stages.0.tokens.steps.1.1.*",
    "stem.conv3.*": "stages.0.tokens.conv.*",
    "stem.pos.pa_conv.*": "stages.0.position.conv.*",
    **numbered(
        {
            "patch_embed_<n>.conv.*": "stages.<s>.tokens.conv.*",
            "patch_embed_<n>.norm.*": "stages.<s>.tokens.norm.*",
            "patch_embed_<n>.pos.pa_conv.*": "stages.<s>.position.conv.*",
            **_BLOCK,
            "stage<n>.{}.attn.transform_conv.*": "stages.<s>.blocks.{}.attention.mix.*",
        }
    ),
    "norm.*": "head.norm.*",
    "head.*": "head.fc.*",
}
LAYOUTS = (
    Layout(
        "authors",
        "rest",
        _TABLE,
        only={
            "attention": ("spatial_reduction",),
            "attention.method": ("depthwise",),
            "attention.head_dim": ("none",),
            "feedforward": ("mlp",),
            "feedforward.act": ("gelu",),
            "position": ("pixel_attention",),
            "residual": ("pre_norm",),
            "tokens": ("conv_stem", "conv"),
            "head": ("pool",),
            "norm_eps": ("1e-05",),
        },
    ),
)
