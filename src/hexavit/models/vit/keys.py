"""ViT's tensors as others name them: timm, its authors' .npz files, Hugging Face's transformers, torchvision.

q, k and v are one linear here, in timm and in torchvision, three elsewhere. The authors' arrays are transposed, with
the heads as an axis of their own, and are numbered by order in the published files, by class in those of newer flax.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

from hexavit.architecture import Architecture
from hexavit.models.key_tables import HEADS_BIAS, HEADS_IN, HEADS_OUT, HWIO, TRANSPOSED, As, Join, Table
from hexavit.models.layouts import Layout, State, filled

_OURS = "stages.0.blocks.{}"
_ONLY = {
    "attention": ("global",),
    "attention.head_dim": ("none",),
    "feedforward": ("mlp",),
    "position": ("learned",),
    "position.extra_rows": ("true",),
    "residual": ("pre_norm",),
    "tokens": ("conv",),
    "tokens.norm": ("false",),
}

BLOCK: Table = {
    "blocks.{}.norm1.*": f"{_OURS}.attention_residual.norm.*",
    "blocks.{}.attn.qkv.*": f"{_OURS}.attention.qkv.*",
    "blocks.{}.attn.proj.*": f"{_OURS}.attention.proj.*",
    "blocks.{}.norm2.*": f"{_OURS}.feedforward_residual.norm.*",
    "blocks.{}.mlp.fc1.*": f"{_OURS}.feedforward.fc1.*",
    "blocks.{}.mlp.fc2.*": f"{_OURS}.feedforward.fc2.*",
}
SCALES: Table = {
    f"blocks.{{}}.{theirs}": f"{_OURS}.{ours}_residual.gamma"
    for ours, names in (("attention", ("ls1.gamma", "gamma_1")), ("feedforward", ("ls2.gamma", "gamma_2")))
    for theirs in names
}
"""Layer scale: of DINOv2 and timm, and of DeiT III's authors."""
COLUMN: Table = {
    "cls_token": "stages.0.class_token",
    "pos_embed": "stages.0.position.table",
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    **BLOCK,
    "norm.*": "head.norm.*",
    "head.*": "head.fc.*",
}
"""timm's names for a ViT, which most of its successors kept."""

TIMM = Layout(
    "timm",
    "vit",
    {**COLUMN, **SCALES, "pre_logits.fc.*": "head.pre_logits.0.*", "mask_token": None},
    only={
        **_ONLY,
        "position.extra_rows": ("true", "false"),
        "head.pre_logits": ("false",),
        "feedforward.act": ("gelu", "gelu_tanh", "quick_gelu"),
    },
    says={
        "norm_eps=1e-06": "timm's ViT computes LayerNorm with eps 1e-06",
        "feedforward.act=gelu": "timm's ViT computes exact GELU unless it is created with another act_layer",
    },
)


def flax_norm(theirs: str, ours: str) -> Table:
    """Rows of a LayerNorm of flax."""
    return {f"{theirs}/scale": f"{ours}.weight", f"{theirs}/bias": f"{ours}.bias"}


def flax_dense(theirs: str, ours: str) -> Table:
    """Rows of a linear of flax."""
    return {f"{theirs}/kernel": As(f"{ours}.weight", TRANSPOSED), f"{theirs}/bias": f"{ours}.bias"}


def flax_encoder(ours: str, norm1: str, attention: str, norm2: str, mlp: str) -> Table:
    """Rows of the patches, the position table, the blocks and the last norm.

    Args:
        ours: a block of ours.
        norm1: the norm before attention; names of modules in a block differ between versions of flax.
        attention: the attention.
        norm2: the norm before the MLP.
        mlp: the MLP.
    """
    block = "Transformer/encoderblock_{}"
    qkv = [f"{block}/{attention}/{name}" for name in ("query", "key", "value")]
    return {
        "Transformer/posembed_input/pos_embedding": "stages.0.position.table",
        "embedding/kernel": As("stages.0.tokens.conv.weight", HWIO),
        "embedding/bias": "stages.0.tokens.conv.bias",
        **flax_norm(f"{block}/{norm1}", f"{ours}.attention_residual.norm"),
        tuple(f"{name}/kernel" for name in qkv): Join(f"{ours}.attention.qkv.weight", HEADS_OUT),
        tuple(f"{name}/bias" for name in qkv): Join(f"{ours}.attention.qkv.bias", HEADS_BIAS),
        f"{block}/{attention}/out/kernel": As(f"{ours}.attention.proj.weight", HEADS_IN),
        f"{block}/{attention}/out/bias": f"{ours}.attention.proj.bias",
        **flax_norm(f"{block}/{norm2}", f"{ours}.feedforward_residual.norm"),
        **flax_dense(f"{block}/{mlp}/Dense_0", f"{ours}.feedforward.fc1"),
        **flax_dense(f"{block}/{mlp}/Dense_1", f"{ours}.feedforward.fc2"),
        **flax_norm("Transformer/encoder_norm", "head.norm"),
    }


FLAX_BY_ORDER = ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
FLAX_BY_CLASS = ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
"""Names of the modules in a block, numbered by order in the published files, by class in newer flax."""
_FLAX_ONLY = {**_ONLY, "attention.qkv_bias": ("true",), "feedforward.act": ("gelu", "gelu_tanh")}
_FLAX_SAYS = {
    "norm_eps=1e-06": "the authors' JAX code computes LayerNorm with eps 1e-06",
    "feedforward.act=gelu_tanh": "the authors' JAX code computes the tanh form of GELU (about 1e-4 in the logits)",
}
AUTHORS, AUTHORS_BY_CLASS = (
    Layout(
        "authors",
        "vit",
        {
            "cls": "stages.0.class_token",
            **flax_encoder(_OURS, *names),
            **flax_dense("pre_logits", "head.pre_logits.0"),
            **flax_dense("head", "head.fc"),
        },
        only=_FLAX_ONLY,
        says=_FLAX_SAYS,
        suffixes=(".npz",),
    )
    for names in (FLAX_BY_ORDER, FLAX_BY_CLASS)
)


def _transformers(block: str, qkv: Sequence[str], proj: str, fc1: str, fc2: str) -> Table:
    """transformers' names: those in its files, and those that its modules have had since version 5."""
    return {
        "vit.embeddings.cls_token": "stages.0.class_token",
        "vit.embeddings.position_embeddings": "stages.0.position.table",
        "vit.embeddings.patch_embeddings.projection.*": "stages.0.tokens.conv.*",
        f"{block}.layernorm_before.*": f"{_OURS}.attention_residual.norm.*",
        tuple(f"{block}.{name}.weight" for name in qkv): Join(f"{_OURS}.attention.qkv.weight"),
        tuple(f"{block}.{name}.bias" for name in qkv): Join(f"{_OURS}.attention.qkv.bias"),
        f"{block}.{proj}.*": f"{_OURS}.attention.proj.*",
        f"{block}.layernorm_after.*": f"{_OURS}.feedforward_residual.norm.*",
        f"{block}.{fc1}.*": f"{_OURS}.feedforward.fc1.*",
        f"{block}.{fc2}.*": f"{_OURS}.feedforward.fc2.*",
        "vit.layernorm.*": "head.norm.*",
        "vit.pooler.dense.*": None,  # a linear and tanh that no classifier reads
        "classifier.*": "head.fc.*",
    }


def transformers_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this ViT."""
    stage = architecture.stages[0]
    attention, feedforward = (
        filled("attention", stage.column("attention", 0)),
        filled("feedforward", stage.column("feedforward", 0)),
    )
    height, width = architecture.img_size
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": stage.dim,
        "num_hidden_layers": stage.depth,
        "num_attention_heads": attention["heads"],
        "intermediate_size": int(stage.dim * feedforward["ratio"]),
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(feedforward["act"], feedforward["act"]),
        "hidden_dropout_prob": feedforward["drop"],
        "attention_probs_dropout_prob": attention["attn_drop"],
        "layer_norm_eps": architecture.norm_eps,
        "image_size": height if height == width else [height, width],
        "patch_size": filled("tokens", stage.tokens)["kernel"],
        "num_channels": architecture.in_chans,
        "num_labels": architecture.num_classes,
        "qkv_bias": attention["qkv_bias"],
    }


UNIFORM = ("heads", "ratio", "act", "drop", "attn_drop", "qkv_bias")
"""Options of which transformers has one value for all blocks."""
_HF_ONLY = {
    **_ONLY,
    "feedforward.act": ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu"),
    "head": ("class_token",),
    "head.pre_logits": ("false",),
}
HF_SAYS = {"norm_eps=1e-12": "transformers computes LayerNorm with eps 1e-12 unless config.json says otherwise"}
HF_FILES: Table = _transformers(
    "vit.encoder.layer.{}",
    [f"attention.attention.{name}" for name in ("query", "key", "value")],
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
HF_MODULES: Table = _transformers(
    "vit.layers.{}",
    [f"attention.{name}_proj" for name in "qkv"],
    "attention.o_proj",
    "mlp.fc1",
    "mlp.fc2",
)
HUGGINGFACE, HUGGINGFACE_MODULES = (
    Layout(
        "huggingface",
        "vit",
        table,
        only=_HF_ONLY,
        says=HF_SAYS,
        base="vit.",
        config=transformers_config,
        uniform=UNIFORM,
    )
    for table in (HF_FILES, HF_MODULES)
)


def _torchvision(fc1: str, fc2: str) -> Table:
    """torchvision's names; those of the MLP changed after its weights were published."""
    block = "encoder.layers.encoder_layer_{}"
    return {
        "class_token": "stages.0.class_token",
        "encoder.pos_embedding": "stages.0.position.table",
        "conv_proj.*": "stages.0.tokens.conv.*",
        f"{block}.ln_1.*": f"{_OURS}.attention_residual.norm.*",
        f"{block}.self_attention.in_proj_weight": f"{_OURS}.attention.qkv.weight",
        f"{block}.self_attention.in_proj_bias": f"{_OURS}.attention.qkv.bias",
        f"{block}.self_attention.out_proj.*": f"{_OURS}.attention.proj.*",
        f"{block}.ln_2.*": f"{_OURS}.feedforward_residual.norm.*",
        f"{block}.mlp.{fc1}.*": f"{_OURS}.feedforward.fc1.*",
        f"{block}.mlp.{fc2}.*": f"{_OURS}.feedforward.fc2.*",
        "encoder.ln.*": "head.norm.*",
        "heads.pre_logits.*": "head.pre_logits.0.*",
        "heads.head.*": "head.fc.*",
    }


_TORCHVISION_ONLY = {
    **_ONLY,
    "attention.qkv_bias": ("true",),
    "feedforward.act": ("gelu",),
    "head": ("class_token",),
}
_TORCHVISION_SAYS = {"norm_eps=1e-06": "torchvision's ViT computes LayerNorm with eps 1e-06"}
TORCHVISION, TORCHVISION_FILES = (
    Layout("torchvision", "vit", table, only=_TORCHVISION_ONLY, says=_TORCHVISION_SAYS)
    for table in (_torchvision("0", "3"), _torchvision("linear_1", "linear_2"))
)

UNSUPPORTED = {"DINOv2 or DINOv3 with registers": r"\b(register_tokens?|reg_token)$"}
"""Successors of ViT that are not supported, each with a pattern of its keys."""


def edits(state: State, architecture: Architecture) -> list[str]:
    """Overrides that the tensors of DINOv2 and DeiT III require: layer scale, patches of another size, and a position
    table without a row for the class token."""
    found, start = [], "stages.0.blocks.0.attention_residual.gamma"
    if start in state and "layer_scale" not in architecture.stages[0].column("residual", 0).options:
        found.append("stages.0.residual.layer_scale=1e-5")
    conv, table = state.get("stages.0.tokens.conv.weight"), state.get("stages.0.position.table")
    if conv is not None and conv.ndim == 4 and conv.shape[2] == conv.shape[3]:
        found += [f"stages.0.tokens.{name}={conv.shape[2]}" for name in ("kernel", "stride")]
    if (
        table is not None
        and table.ndim == 3
        and "stages.0.class_token" in state
        and isqrt(table.shape[1]) ** 2 == table.shape[1]
    ):
        found.append("stages.0.position.extra_rows=false")
    return found


LAYOUTS = (TIMM, AUTHORS, AUTHORS_BY_CLASS, HUGGINGFACE, HUGGINGFACE_MODULES, TORCHVISION, TORCHVISION_FILES)
