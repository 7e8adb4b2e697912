"""Swin's tensors as others name them: its authors, timm, Hugging Face's transformers, torchvision.

The authors end a stage with its merging, here and in timm the next stage begins with it. Their files hold two tables
that are computed here: which offset a pair has, and the mask of shifted windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Join, Table
from hexavit.models.layouts import Layout, filled, not_in_transformers
from hexavit.parts.positions.relative import offset_index

_BLOCK = "stages.{}.blocks.{}"
_STAGES = 4
NEIGHBOURS = {"attention.window": tuple(map(str, range(1, 257))), "attention.spread": ("false",)}
"""Square windows of neighbours."""
ONLY: dict[str, tuple[str, ...]] = {
    "attention": ("window",),
    **NEIGHBOURS,
    "attention.shrink": ("true",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "head": ("pool",),
    "norm_eps": ("1e-05",),
}
_ONLY = {
    **ONLY,
    "attention.cosine": ("false",),
    "attention.key_bias": ("true",),
    "attention.head_dim": ("none",),
    "position": ("relative_bias",),
    "residual": ("pre_norm",),
    "residual.layer_scale": ("none",),
    "tokens.norm": ("true", "before"),
}

UNIFORM = ("window", "ratio", "act", "drop", "attn_drop", "qkv_bias")
"""Options of which transformers has one value for all blocks."""

TRUNK: Table = {
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "patch_embed.norm.*": "stages.0.tokens.norm.*",
    "layers.{}.blocks.{}.norm1.*": f"{_BLOCK}.attention_residual.norm.*",
    "layers.{}.blocks.{}.attn.qkv.*": f"{_BLOCK}.attention.qkv.*",
    "layers.{}.blocks.{}.attn.proj.*": f"{_BLOCK}.attention.proj.*",
    "layers.{}.blocks.{}.norm2.*": f"{_BLOCK}.feedforward_residual.norm.*",
    "norm.*": "head.norm.*",
    # Computed here, of the size at hand.
    "layers.{}.blocks.{}.attn_mask": None,
    "layers.{}.blocks.{}.attn.relative_position_index": None,
}
MLP: Table = {
    "layers.{}.blocks.{}.mlp.fc1.*": f"{_BLOCK}.feedforward.fc1.*",
    "layers.{}.blocks.{}.mlp.fc2.*": f"{_BLOCK}.feedforward.fc2.*",
}
BIAS: Table = {"layers.{}.blocks.{}.attn.relative_position_bias_table": f"{_BLOCK}.attention.position.table"}


def merging(theirs: str, first: int = 0) -> Table:
    """The authors' and transformers' merging, `theirs` with a number one lower than here."""
    return {
        f"{theirs.format(i + first)}.{name}.*": f"stages.{i + 1}.tokens.{name}.*"
        for i in range(_STAGES - 1)
        for name in ("norm", "reduction")
    }


def numbered_here(theirs: str) -> Table:
    """timm's merging, numbered as here."""
    return {f"{theirs}.{name}.*": f"stages.{{}}.tokens.{name}.*" for name in ("norm", "reduction")}


AUTHORS_END: Table = {**merging("layers.{}.downsample"), "head.*": "head.fc.*"}
TIMM_END: Table = {**numbered_here("layers.{}.downsample"), "head.fc.*": "head.fc.*"}

_HF_BLOCK = "swin.encoder.layers.{}.blocks.{}"
HF_EMBEDDINGS: Table = {
    "swin.embeddings.patch_embeddings.projection.*": "stages.0.tokens.conv.*",
    "swin.embeddings.norm.*": "stages.0.tokens.norm.*",
    f"{_HF_BLOCK}.layernorm_before.*": f"{_BLOCK}.attention_residual.norm.*",
    f"{_HF_BLOCK}.layernorm_after.*": f"{_BLOCK}.feedforward_residual.norm.*",
    **merging("swin.encoder.layers.{}.downsample"),
    "swin.layernorm.*": "head.norm.*",
    "classifier.*": "head.fc.*",
}
# The names in files, and the names of the modules of transformers 5.
_HF_FILES: Table = {
    **HF_EMBEDDINGS,
    **{
        tuple(f"{_HF_BLOCK}.attention.self.{name}.{kind}" for name in ("query", "key", "value")): Join(
            f"{_BLOCK}.attention.qkv.{kind}"
        )
        for kind in ("weight", "bias")
    },
    f"{_HF_BLOCK}.attention.self.relative_position_bias_table": f"{_BLOCK}.attention.position.table",
    f"{_HF_BLOCK}.attention.self.relative_position_index": None,
    f"{_HF_BLOCK}.attention.output.dense.*": f"{_BLOCK}.attention.proj.*",
    f"{_HF_BLOCK}.intermediate.dense.*": f"{_BLOCK}.feedforward.fc1.*",
    f"{_HF_BLOCK}.output.dense.*": f"{_BLOCK}.feedforward.fc2.*",
}
_HF_MODULES: Table = {
    **HF_EMBEDDINGS,
    **{
        tuple(f"{_HF_BLOCK}.attention.{name}_proj.{kind}" for name in "qkv"): Join(f"{_BLOCK}.attention.qkv.{kind}")
        for kind in ("weight", "bias")
    },
    f"{_HF_BLOCK}.attention.relative_position_bias.relative_position_bias_table": f"{_BLOCK}.attention.position.table",
    f"{_HF_BLOCK}.attention.o_proj.*": f"{_BLOCK}.attention.proj.*",
    f"{_HF_BLOCK}.mlp.fc1.*": f"{_BLOCK}.feedforward.fc1.*",
    f"{_HF_BLOCK}.mlp.fc2.*": f"{_BLOCK}.feedforward.fc2.*",
}


def torchvision_trunk(stages: int = _STAGES) -> Table:
    """torchvision numbers stages and mergings in one list."""
    table: dict[str | tuple[str, ...], Any] = {
        "features.0.0.*": "stages.0.tokens.conv.*",
        "features.0.2.*": "stages.0.tokens.norm.*",
        "norm.*": "head.norm.*",
        "head.*": "head.fc.*",
    }
    for i in range(stages):
        theirs, ours = f"features.{2 * i + 1}.{{}}", f"stages.{i}.blocks.{{}}"
        table |= {
            f"{theirs}.norm1.*": f"{ours}.attention_residual.norm.*",
            f"{theirs}.norm2.*": f"{ours}.feedforward_residual.norm.*",
            f"{theirs}.attn.qkv.weight": f"{ours}.attention.qkv.weight",
            f"{theirs}.attn.proj.*": f"{ours}.attention.proj.*",
            f"{theirs}.attn.relative_position_index": None,
            f"{theirs}.mlp.0.*": f"{ours}.feedforward.fc1.*",
            f"{theirs}.mlp.3.*": f"{ours}.feedforward.fc2.*",
        }
        if i:
            table |= {f"features.{2 * i}.{name}.*": f"stages.{i}.tokens.{name}.*" for name in ("norm", "reduction")}
    return table


def _torchvision() -> Table:
    table = dict(torchvision_trunk())
    for i in range(_STAGES):
        theirs, ours = f"features.{2 * i + 1}.{{}}", f"stages.{i}.blocks.{{}}"
        table[f"{theirs}.attn.qkv.bias"] = f"{ours}.attention.qkv.bias"
        table[f"{theirs}.attn.relative_position_bias_table"] = f"{ours}.attention.position.table"
    return table


def torchvision_windows(architecture: Architecture) -> Iterator[tuple[str, int]]:
    """Where torchvision keeps a block's tables, and the side of its window."""
    for i, stage in enumerate(architecture.stages):
        for j in range(stage.depth):
            yield f"features.{2 * i + 1}.{j}.attn", filled("attention", stage.column("attention", j))["window"]


def torchvision_index(architecture: Architecture) -> dict[str, Tensor]:
    """The row of each pair's offset, (w^4,) in every block: torchvision loads no file without it."""
    return {
        f"{theirs}.relative_position_index": offset_index((window, window)).flatten()
        for theirs, window in torchvision_windows(architecture)
    }


def transformers_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this Swin.

    Raises:
        CheckpointError: it cannot: a window is larger than a stage's map, the widths do not double, or the
            shifts do not alternate.
    """
    config = shared_config(architecture)
    if config["window_size"] > (side := smallest_map(architecture)):
        raise not_in_transformers(
            architecture, f"its Swin needs maps of at least a window of {config['window_size']}, not of {side}"
        )
    return config


def smallest_map(architecture: Architecture) -> int:
    """The shorter side of the last stage's map: each merging rounds up."""
    shortest = min(architecture.img_size) // int(filled("tokens", architecture.stages[0].tokens)["stride"])
    return -(-shortest // (1 << len(architecture.stages) - 1))


def shared_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` of Swin, and of Swin V2 but for its names."""
    stages = architecture.stages
    for i, stage in enumerate(stages):
        if stage.dim != stages[0].dim * 2**i:
            raise not_in_transformers(
                architecture,
                f"its Swin doubles the width in every stage, from {stages[0].dim}, and not {stage.dim} in stage {i}",
            )
        shifts = [filled("attention", stage.column("attention", j))["shifted"] for j in range(stage.depth)]
        if shifts != [bool(j % 2) for j in range(stage.depth)]:
            raise not_in_transformers(architecture, "its Swin shifts the windows of every second block")
    attention = [filled("attention", stage.column("attention", 0)) for stage in stages]
    feedforward = filled("feedforward", stages[0].column("feedforward", 0))
    return {
        "architectures": ["SwinForImageClassification"],
        "model_type": "swin",
        "image_size": list(architecture.img_size),
        "patch_size": filled("tokens", stages[0].tokens)["kernel"],
        "num_channels": architecture.in_chans,
        "num_labels": architecture.num_classes,
        "embed_dim": stages[0].dim,
        "depths": [stage.depth for stage in stages],
        "num_heads": [each["heads"] for each in attention],
        "window_size": attention[0]["window"],
        "mlp_ratio": feedforward["ratio"],
        "qkv_bias": attention[0]["qkv_bias"],
        "hidden_dropout_prob": feedforward["drop"],
        "attention_probs_dropout_prob": attention[0]["attn_drop"],
        "drop_path_rate": stages[-1].drop_path,
        "hidden_act": feedforward["act"],
        "layer_norm_eps": architecture.norm_eps,
    }


LAYOUTS = (
    Layout("authors", "swin", {**TRUNK, **BIAS, **MLP, **AUTHORS_END}, only=_ONLY),
    Layout("timm", "swin", {**TRUNK, **BIAS, **MLP, **TIMM_END}, only=_ONLY),
    *(
        Layout("huggingface", "swin", table, only=_ONLY, base="swin.", config=transformers_config, uniform=UNIFORM)
        for table in (_HF_FILES, _HF_MODULES)
    ),
    Layout("torchvision", "swin", _torchvision(), only=_ONLY, computed=torchvision_index),
)
