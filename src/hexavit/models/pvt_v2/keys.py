"""PVT v2's tensors as others name them: the authors, timm, and Hugging Face's transformers."""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout, filled
from hexavit.models.pvt.keys import EPS, GELU, SAYS, SHARED, UNIFORM, common_config, transformers_block
from hexavit.models.pyramids import AUTHORS_STAGE, block_table, numbered, parts_of

_V2 = {
    **SHARED,
    "attention.method": ("conv", "pool"),
    "attention.side": ("7",),
    "feedforward": ("conv_mlp",),
    "feedforward.norm": ("false",),
    "feedforward.excite": ("none",),
    "feedforward.kernel": ("3",),
    "head": ("pool",),
    "head.norm": ("false",),
    "position": ("none",),
    "residual.stage_norm": ("true",),
}

AUTHORS_V2: Table = {
    **numbered(
        {
            **AUTHORS_STAGE,
            "block<n>.{}.mlp.dwconv.dwconv.*": "stages.<s>.blocks.{}.feedforward.conv.*",
            "norm<n>.*": "stages.<s>.norm.*",
        }
    ),
    "head.*": "head.fc.*",
}
TIMM_V2: Table = {
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "patch_embed.norm.*": "stages.0.tokens.norm.*",
    "stages.{}.downsample.proj.*": "stages.{}.tokens.conv.*",
    "stages.{}.downsample.norm.*": "stages.{}.tokens.norm.*",
    **block_table("stages.{}.blocks.{}", "stages.{}.blocks.{}"),
    "stages.{}.blocks.{}.mlp.dwconv.*": "stages.{}.blocks.{}.feedforward.conv.*",
    "stages.{}.norm.*": "stages.{}.norm.*",
    "head.*": "head.fc.*",
}


_HF_V2: Table = {
    "pvt_v2.encoder.layers.{}.patch_embedding.proj.*": "stages.{}.tokens.conv.*",
    "pvt_v2.encoder.layers.{}.patch_embedding.layer_norm.*": "stages.{}.tokens.norm.*",
    **transformers_block(
        "pvt_v2.encoder.layers.{}.blocks.{}",
        {**{name: f"attention.{name}" for name in ("query", "key", "value")}, "output": "attention.proj"},
        "attention.spatial",
    ),
    "pvt_v2.encoder.layers.{}.blocks.{}.mlp.dwconv.dwconv.*": "stages.{}.blocks.{}.feedforward.conv.*",
    "pvt_v2.encoder.layers.{}.layer_norm.*": "stages.{}.norm.*",
    "classifier.*": "head.fc.*",
}


def pvt_v2_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this PVT v2."""
    attention = [filled("attention", part) for part in parts_of(architecture.stages, "attention")]
    return {
        **common_config(architecture),
        "architectures": ["PvtV2ForImageClassification"],
        "model_type": "pvt_v2",
        "image_size": list(architecture.img_size),
        "sr_ratios": [a["sr_ratio"] for a in attention],
        "linear_attention": attention[0]["method"] == "pool",
    }


LAYOUTS = (
    Layout("authors", "pvt_v2", AUTHORS_V2, only={**_V2, **EPS, **GELU}),
    Layout("timm", "pvt_v2", TIMM_V2, only={**_V2, **EPS, **GELU}),
    Layout("huggingface", "pvt_v2", _HF_V2, only=_V2, says=SAYS, base="pvt_v2.", config=pvt_v2_config, uniform=UNIFORM),
)
