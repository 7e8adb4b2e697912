"""CvT's tensors as others name them: its authors, Hugging Face's transformers, and vit-pytorch.

The authors' and transformers' hold the same tensors, one to one. vit-pytorch's has one pointwise convolution for keys
and values, 1x1 convolutions where others have linears, and norms of shape (1, C, 1, 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import CHANNELS, POINTWISE, As, Split
from hexavit.models.layouts import Layout, filled, not_in_transformers

_BLOCK = "stages.{}.blocks.{}"

AUTHORS = Layout(
    "authors",
    "cvt",
    {
        "stage{}.cls_token": "stages.{}.class_token",
        "stage{}.patch_embed.proj.*": "stages.{}.tokens.conv.*",
        "stage{}.patch_embed.norm.*": "stages.{}.tokens.norm.*",
        "stage{}.blocks.{}.norm1.*": f"{_BLOCK}.attention_residual.norm.*",
        "stage{}.blocks.{}.attn.conv_proj_q.conv.weight": f"{_BLOCK}.attention.conv_q.conv.weight",
        "stage{}.blocks.{}.attn.conv_proj_k.conv.weight": f"{_BLOCK}.attention.conv_k.conv.weight",
        "stage{}.blocks.{}.attn.conv_proj_v.conv.weight": f"{_BLOCK}.attention.conv_v.conv.weight",
        "stage{}.blocks.{}.attn.conv_proj_q.bn.*": f"{_BLOCK}.attention.conv_q.bn.*",
        "stage{}.blocks.{}.attn.conv_proj_k.bn.*": f"{_BLOCK}.attention.conv_k.bn.*",
        "stage{}.blocks.{}.attn.conv_proj_v.bn.*": f"{_BLOCK}.attention.conv_v.bn.*",
        "stage{}.blocks.{}.attn.proj_q.*": f"{_BLOCK}.attention.proj_q.*",
        "stage{}.blocks.{}.attn.proj_k.*": f"{_BLOCK}.attention.proj_k.*",
        "stage{}.blocks.{}.attn.proj_v.*": f"{_BLOCK}.attention.proj_v.*",
        "stage{}.blocks.{}.attn.proj.*": f"{_BLOCK}.attention.proj.*",
        "stage{}.blocks.{}.norm2.*": f"{_BLOCK}.feedforward_residual.norm.*",
        "stage{}.blocks.{}.mlp.fc1.*": f"{_BLOCK}.feedforward.fc1.*",
        "stage{}.blocks.{}.mlp.fc2.*": f"{_BLOCK}.feedforward.fc2.*",
        "norm.*": "head.norm.*",
        "head.*": "head.fc.*",
    },
    only={
        "attention": ("conv_projection",),
        "attention.scale": ("dim",),
        "attention.share_kv": ("false",),
        "attention.head_dim": ("none",),
        "attention.stride_q": ("1",),
        "feedforward": ("mlp",),
        "feedforward.act": ("quick_gelu",),
        "position": ("none",),
        "residual": ("pre_norm",),
        "tokens": ("conv",),
        "tokens.norm": ("true",),
        "norm_eps": ("1e-05",),
    },
)

_HF_STAGE = "cvt.encoder.stages.{}"
_HF_ATTENTION = f"{_HF_STAGE}.layers.{{}}.attention.attention"


def transformers_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this CvT.

    Raises:
        CheckpointError: it cannot: it looks a stage's drop-path rate up by the stage's number among its blocks.
    """
    stages = architecture.stages
    if short := [i for i, stage in enumerate(stages) if stage.depth <= i]:
        i = short[0]
        raise not_in_transformers(
            architecture, f"its CvT needs at least {i + 1} blocks in stage {i}, which has {stages[i].depth}"
        )
    tokens = [filled("tokens", stage.tokens) for stage in stages]
    attention = [filled("attention", stage.column("attention", 0)) for stage in stages]
    feedforward = [filled("feedforward", stage.column("feedforward", 0)) for stage in stages]
    head = filled("head", architecture.head)
    enters = head["enter"] % len(stages) if architecture.head.name == "class_token" else None
    return {
        "architectures": ["CvtForImageClassification"],
        "model_type": "cvt",
        "num_channels": architecture.in_chans,
        "num_labels": architecture.num_classes,
        "patch_sizes": [t["kernel"] for t in tokens],
        "patch_stride": [t["stride"] for t in tokens],
        "patch_padding": [t["padding"] for t in tokens],
        "embed_dim": [stage.dim for stage in stages],
        "depth": [stage.depth for stage in stages],
        "num_heads": [a["heads"] for a in attention],
        "mlp_ratio": [f["ratio"] for f in feedforward],
        "attention_drop_rate": [a["attn_drop"] for a in attention],
        "drop_rate": [f["drop"] for f in feedforward],
        "drop_path_rate": [stage.drop_path for stage in stages],
        "qkv_bias": [a["qkv_bias"] for a in attention],
        "cls_token": [i == enters for i in range(len(stages))],
        "qkv_projection_method": [a["method"] for a in attention],
        "kernel_qkv": [a["kernel"] for a in attention],
        "padding_q": [a["padding_q"] for a in attention],
        "padding_kv": [a["padding_kv"] for a in attention],
        "stride_q": [a["stride_q"] for a in attention],
        "stride_kv": [a["stride_kv"] for a in attention],
    }


HUGGINGFACE = Layout(
    "huggingface",
    "cvt",
    {
        f"{_HF_STAGE}.cls_token": "stages.{}.class_token",
        f"{_HF_STAGE}.embedding.convolution_embeddings.projection.*": "stages.{}.tokens.conv.*",
        f"{_HF_STAGE}.embedding.convolution_embeddings.normalization.*": "stages.{}.tokens.norm.*",
        f"{_HF_STAGE}.layers.{{}}.layernorm_before.*": f"{_BLOCK}.attention_residual.norm.*",
        **{
            f"{_HF_ATTENTION}.convolution_projection_{theirs}.convolution_projection.{layer}.*": (
                f"{_BLOCK}.attention.conv_{ours}.{our_layer}.*"
            )
            for theirs, ours in (("query", "q"), ("key", "k"), ("value", "v"))
            for layer, our_layer in (("convolution", "conv"), ("normalization", "bn"))
        },
        f"{_HF_ATTENTION}.projection_query.*": f"{_BLOCK}.attention.proj_q.*",
        f"{_HF_ATTENTION}.projection_key.*": f"{_BLOCK}.attention.proj_k.*",
        f"{_HF_ATTENTION}.projection_value.*": f"{_BLOCK}.attention.proj_v.*",
        f"{_HF_STAGE}.layers.{{}}.attention.output.dense.*": f"{_BLOCK}.attention.proj.*",
        f"{_HF_STAGE}.layers.{{}}.layernorm_after.*": f"{_BLOCK}.feedforward_residual.norm.*",
        f"{_HF_STAGE}.layers.{{}}.intermediate.dense.*": f"{_BLOCK}.feedforward.fc1.*",
        f"{_HF_STAGE}.layers.{{}}.output.dense.*": f"{_BLOCK}.feedforward.fc2.*",
        "layernorm.*": "head.norm.*",
        "classifier.*": "head.fc.*",
    },
    only={**AUTHORS.only, "feedforward.act": ("gelu", "quick_gelu"), "attention.method": ("dw_bn",)},
    says={"feedforward.act=gelu": "transformers' CvT computes exact GELU, whatever the weights were trained with"},
    base="cvt.",
    config=transformers_config,
    eps_in_config=False,
)

VIT_PYTORCH = Layout(
    "vit_pytorch",
    "cvt",
    {
        "layers.{}.0.*": "stages.{}.tokens.conv.*",
        "layers.{}.1.g": As("stages.{}.tokens.norm.weight", CHANNELS),
        "layers.{}.1.b": As("stages.{}.tokens.norm.bias", CHANNELS),
        "layers.{}.2.layers.{}.0.norm.g": As(f"{_BLOCK}.attention_residual.norm.weight", CHANNELS),
        "layers.{}.2.layers.{}.0.norm.b": As(f"{_BLOCK}.attention_residual.norm.bias", CHANNELS),
        "layers.{}.2.layers.{}.0.to_q.net.0.weight": f"{_BLOCK}.attention.conv_q.conv.weight",
        "layers.{}.2.layers.{}.0.to_q.net.1.*": f"{_BLOCK}.attention.conv_q.bn.*",
        "layers.{}.2.layers.{}.0.to_q.net.2.weight": As(f"{_BLOCK}.attention.proj_q.weight", POINTWISE),
        "layers.{}.2.layers.{}.0.to_kv.net.0.weight": f"{_BLOCK}.attention.conv_k.conv.weight",
        "layers.{}.2.layers.{}.0.to_kv.net.1.*": f"{_BLOCK}.attention.conv_k.bn.*",
        "layers.{}.2.layers.{}.0.to_kv.net.2.weight": Split(
            f"{_BLOCK}.attention.proj_k.weight", f"{_BLOCK}.attention.proj_v.weight", form=POINTWISE
        ),
        "layers.{}.2.layers.{}.0.to_out.0.weight": As(f"{_BLOCK}.attention.proj.weight", POINTWISE),
        "layers.{}.2.layers.{}.0.to_out.0.bias": f"{_BLOCK}.attention.proj.bias",
        "layers.{}.2.layers.{}.1.net.0.g": As(f"{_BLOCK}.feedforward_residual.norm.weight", CHANNELS),
        "layers.{}.2.layers.{}.1.net.0.b": As(f"{_BLOCK}.feedforward_residual.norm.bias", CHANNELS),
        "layers.{}.2.layers.{}.1.net.1.weight": As(f"{_BLOCK}.feedforward.fc1.weight", POINTWISE),
        "layers.{}.2.layers.{}.1.net.1.bias": f"{_BLOCK}.feedforward.fc1.bias",
        "layers.{}.2.layers.{}.1.net.4.weight": As(f"{_BLOCK}.feedforward.fc2.weight", POINTWISE),
        "layers.{}.2.layers.{}.1.net.4.bias": f"{_BLOCK}.feedforward.fc2.bias",
        "to_logits.2.*": "head.fc.*",
    },
    only={
        "attention": ("conv_projection",),
        "attention.method": ("dw_bn",),
        "attention.scale": ("head_dim",),
        "attention.share_kv": ("true",),
        "attention.head_dim": ("64",),
        "attention.qkv_bias": ("false",),
        "attention.stride_q": ("1",),
        "feedforward": ("mlp",),
        "feedforward.act": ("gelu",),
        "position": ("none",),
        "residual": ("pre_norm",),
        "tokens": ("conv",),
        "tokens.norm": ("true",),
        "norm_eps": ("1e-05",),
        "head": ("pool",),
        "head.norm": ("false",),
    },
)

LAYOUTS = (AUTHORS, HUGGINGFACE, VIT_PYTORCH)


def edits(state: Mapping[str, Tensor], architecture: Architecture) -> list[str]:
    """Overrides that the tensors require: projections without convolutions, linears without biases."""
    found = []
    for i, stage in enumerate(architecture.stages):
        part, start = stage.column("attention", 0), f"stages.{i}.blocks.0.attention."
        if part.name == "conv_projection":
            if f"{start}conv_q.conv.weight" not in state:
                found.append(f"stages.{i}.attention.method=linear")
            if f"{start}proj_q.bias" not in state and part.options.get("qkv_bias", True):
                found.append(f"stages.{i}.attention.qkv_bias=false")
    return found
