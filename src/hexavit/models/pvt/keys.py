"""PVT's tensors as others name them: the authors, and Hugging Face's transformers.

The authors number stages from 1; transformers has queries, keys and values apart.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Join, Table
from hexavit.models.layouts import Layout, filled, not_in_transformers
from hexavit.models.pyramids import AUTHORS_STAGE, numbered, parts_of

SHARED = {
    "attention": ("spatial_reduction",),
    "attention.head_dim": ("none",),
    "attention.mix_heads": ("false",),
    "residual": ("pre_norm",),
    "tokens": ("conv",),
    "tokens.norm": ("true",),
    "norm_eps": ("1e-06",),
}
EPS = {"tokens.eps": ("1e-05",), "attention.eps": ("1e-05",)}
_V1 = {
    **SHARED,
    "attention.method": ("conv",),
    "feedforward": ("mlp",),
    "head": ("class_token",),
    "position": ("learned",),
    "residual.stage_norm": ("false",),
}
UNIFORM = ("act", "attn_drop", "qkv_bias")
"""Options of which transformers has one value for all blocks."""
GELU = {"feedforward.act": ("gelu",)}
SAYS = {
    "tokens.eps=1e-06": "transformers computes every norm with one eps, where the authors' embeddings have 1e-05",
    "attention.eps=1e-06": "transformers computes every norm with one eps, where the authors' reductions have 1e-05",
}

AUTHORS: Table = {
    **numbered({**AUTHORS_STAGE, "pos_embed<n>": "stages.<s>.position.table"}),
    "cls_token": "stages.3.class_token",
    "norm.*": "head.norm.*",
    "head.*": "head.fc.*",
}
"""whai362/PVT's names of a PVT."""


def transformers_block(theirs: str, attention: dict[str, str], reduction: str) -> Table:
    """A block of transformers': `attention` names query, key, value and output."""
    ours = "stages.{}.blocks.{}"
    keys, values = attention["key"], attention["value"]
    return {
        f"{theirs}.layer_norm_1.*": f"{ours}.attention_residual.norm.*",
        f"{theirs}.{attention['query']}.*": f"{ours}.attention.q.*",
        (f"{theirs}.{keys}.weight", f"{theirs}.{values}.weight"): Join(f"{ours}.attention.kv.weight"),
        (f"{theirs}.{keys}.bias", f"{theirs}.{values}.bias"): Join(f"{ours}.attention.kv.bias"),
        f"{theirs}.{reduction}_reduction.*": f"{ours}.attention.reduction.conv.*",
        f"{theirs}.{reduction.rpartition('.')[0]}.layer_norm.*": f"{ours}.attention.norm.*",
        f"{theirs}.{attention['output']}.*": f"{ours}.attention.proj.*",
        f"{theirs}.layer_norm_2.*": f"{ours}.feedforward_residual.norm.*",
        f"{theirs}.mlp.dense1.*": f"{ours}.feedforward.fc1.*",
        f"{theirs}.mlp.dense2.*": f"{ours}.feedforward.fc2.*",
    }


_HF: Table = {
    "pvt.encoder.patch_embeddings.{}.projection.*": "stages.{}.tokens.conv.*",
    "pvt.encoder.patch_embeddings.{}.layer_norm.*": "stages.{}.tokens.norm.*",
    "pvt.encoder.patch_embeddings.{}.position_embeddings": "stages.{}.position.table",
    "pvt.encoder.patch_embeddings.{}.cls_token": "stages.{}.class_token",
    **transformers_block(
        "pvt.encoder.block.{}.{}",
        {
            **{name: f"attention.self.{name}" for name in ("query", "key", "value")},
            "output": "attention.output.dense",
        },
        "attention.self.sequence",
    ),
    "pvt.encoder.layer_norm.*": "head.norm.*",
    "classifier.*": "head.fc.*",
}


def common_config(architecture: Architecture) -> dict[str, Any]:
    """The part of `config.json` that PVT and PVT v2 share."""
    stages = architecture.stages
    tokens = [filled("tokens", stage.tokens) for stage in stages]
    attention = [filled("attention", part) for part in parts_of(stages, "attention")]
    feedforward = [filled("feedforward", part) for part in parts_of(stages, "feedforward")]
    if broken := [f["ratio"] for f in feedforward if f["ratio"] != int(f["ratio"])]:
        raise not_in_transformers(architecture, f"its PVT needs whole MLP ratios, not {broken[0]}")
    return {
        "num_channels": architecture.in_chans,
        "num_labels": architecture.num_classes,
        "num_encoder_blocks": len(stages),
        "depths": [stage.depth for stage in stages],
        "hidden_sizes": [stage.dim for stage in stages],
        "patch_sizes": [t["kernel"] for t in tokens],
        "strides": [t["stride"] for t in tokens],
        "num_attention_heads": [a["heads"] for a in attention],
        "mlp_ratios": [int(f["ratio"]) for f in feedforward],
        "hidden_act": feedforward[0]["act"],
        "attention_probs_dropout_prob": attention[0]["attn_drop"],
        "drop_path_rate": stages[-1].drop_path,
        "layer_norm_eps": architecture.norm_eps,
        "qkv_bias": attention[0]["qkv_bias"],
    }


def pvt_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this PVT."""
    if architecture.img_size[0] != architecture.img_size[1]:
        raise not_in_transformers(architecture, "its PVT reads square images")
    ratios = [filled("attention", part)["sr_ratio"] for part in parts_of(architecture.stages, "attention")]
    return {
        **common_config(architecture),
        "architectures": ["PvtForImageClassification"],
        "model_type": "pvt",
        "image_size": architecture.img_size[0],
        "sequence_reduction_ratios": ratios,
    }


LAYOUTS = (
    Layout("authors", "pvt", AUTHORS, only={**_V1, **EPS, **GELU}),
    Layout("huggingface", "pvt", _HF, only=_V1, says=SAYS, base="pvt.", config=pvt_config, uniform=UNIFORM),
)
