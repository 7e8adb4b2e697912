"""Swin V2's tensors as others name them: its authors, timm, Hugging Face's transformers, torchvision.

Keys have no bias: the authors keep those of queries and values apart, torchvision one for all with a third at 0.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Join, Split, Table
from hexavit.models.layouts import Layout, filled, not_in_transformers
from hexavit.models.swin import keys as swin_keys
from hexavit.models.swin.keys import (
    AUTHORS_END,
    MLP,
    TIMM_END,
    TRUNK,
    merging,
    torchvision_index,
    torchvision_trunk,
    torchvision_windows,
)
from hexavit.parts.positions.relative import grid_offsets, scaled_offsets

_BLOCK = "stages.{}.blocks.{}"
_ATTENTION = f"{_BLOCK}.attention"
_BIAS = f"{_ATTENTION}.position"
_ONLY = {
    **swin_keys.ONLY,
    "attention.cosine": ("true",),
    "attention.key_bias": ("false",),
    "attention.head_dim": ("none",),
    "position": ("continuous_bias",),
    "position.spacing": ("log",),
    "residual": ("res_post_norm",),
    "residual.extra_norm": ("false",),
    "tokens.norm": ("true", "after"),
}

_THEIRS = "layers.{}.blocks.{}.attn"
_TRUNK: Table = {
    **TRUNK,
    **MLP,
    f"{_THEIRS}.q_bias": f"{_ATTENTION}.q_bias",
    f"{_THEIRS}.v_bias": f"{_ATTENTION}.v_bias",
    f"{_THEIRS}.logit_scale": f"{_ATTENTION}.logit_scale",
    f"{_THEIRS}.cpb_mlp.0.*": f"{_BIAS}.fc1.*",
    f"{_THEIRS}.cpb_mlp.2.*": f"{_BIAS}.fc2.*",
    f"{_THEIRS}.relative_coords_table": None,  # computed here, of the size at hand
}

_HF_BLOCK = "swinv2.encoder.layers.{}.blocks.{}"
_HF_SELF = f"{_HF_BLOCK}.attention.self"
_HF: Table = {
    "swinv2.embeddings.patch_embeddings.projection.*": "stages.0.tokens.conv.*",
    "swinv2.embeddings.norm.*": "stages.0.tokens.norm.*",
    f"{_HF_BLOCK}.layernorm_before.*": f"{_BLOCK}.attention_residual.norm.*",
    f"{_HF_BLOCK}.layernorm_after.*": f"{_BLOCK}.feedforward_residual.norm.*",
    tuple(f"{_HF_SELF}.{name}.weight" for name in ("query", "key", "value")): Join(f"{_ATTENTION}.qkv.weight"),
    f"{_HF_SELF}.query.bias": f"{_ATTENTION}.q_bias",
    f"{_HF_SELF}.value.bias": f"{_ATTENTION}.v_bias",
    f"{_HF_SELF}.logit_scale": f"{_ATTENTION}.logit_scale",
    f"{_HF_SELF}.continuous_position_bias_mlp.0.*": f"{_BIAS}.fc1.*",
    f"{_HF_SELF}.continuous_position_bias_mlp.2.*": f"{_BIAS}.fc2.*",
    f"{_HF_SELF}.relative_coords_table": None,
    f"{_HF_SELF}.relative_position_index": None,
    f"{_HF_BLOCK}.attention.output.dense.*": f"{_ATTENTION}.proj.*",
    f"{_HF_BLOCK}.intermediate.dense.*": f"{_BLOCK}.feedforward.fc1.*",
    f"{_HF_BLOCK}.output.dense.*": f"{_BLOCK}.feedforward.fc2.*",
    **merging("swinv2.encoder.layers.{}.downsample"),
    "swinv2.layernorm.*": "head.norm.*",
    "classifier.*": "head.fc.*",
}


def _torchvision() -> Table:
    table = dict(torchvision_trunk())
    for i in range(4):
        theirs, ours = f"features.{2 * i + 1}.{{}}.attn", f"stages.{i}.blocks.{{}}.attention"
        table |= {
            f"{theirs}.qkv.bias": Split(f"{ours}.q_bias", None, f"{ours}.v_bias"),
            f"{theirs}.logit_scale": f"{ours}.logit_scale",
            f"{theirs}.cpb_mlp.0.*": f"{ours}.position.fc1.*",
            f"{theirs}.cpb_mlp.2.*": f"{ours}.position.fc2.*",
            f"{theirs}.relative_coords_table": None,
        }
    return table


def _torchvision_tables(architecture: Architecture) -> dict[str, Tensor]:
    """What torchvision keeps although it follows from the window: each pair's row, and the scaled offsets."""
    tables = torchvision_index(architecture)
    for theirs, window in torchvision_windows(architecture):
        scaled = scaled_offsets(grid_offsets((window, window)), (window, window))
        tables[f"{theirs}.relative_coords_table"] = scaled.view(1, 2 * window - 1, 2 * window - 1, 2)
    return tables


def transformers_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this Swin V2.

    Raises:
        CheckpointError: it cannot: a window does not fit into the map of an image that is not square.
    """
    config = swin_keys.shared_config(architecture)
    height, width = architecture.img_size
    if height != width and config["window_size"] > (side := swin_keys.smallest_map(architecture)):
        raise not_in_transformers(
            architecture, f"its Swin V2 needs maps of at least a window of {config['window_size']}, not of {side}"
        )
    positions = [filled("position", stage.column("position", 0)) for stage in architecture.stages]
    return {
        **config,
        "architectures": ["Swinv2ForImageClassification"],
        "model_type": "swinv2",
        "pretrained_window_sizes": [each["pretrained_window"] for each in positions],
    }


LAYOUTS = (
    Layout("authors", "swin_v2", {**_TRUNK, **AUTHORS_END}, only=_ONLY),
    Layout("timm", "swin_v2", {**_TRUNK, **TIMM_END}, only=_ONLY),
    Layout(
        "huggingface", "swin_v2", _HF, only=_ONLY, base="swinv2.", config=transformers_config, uniform=swin_keys.UNIFORM
    ),
    Layout(
        "torchvision",
        "swin_v2",
        _torchvision(),
        only={**_ONLY, "position.pretrained_window": ("0",)},
        computed=_torchvision_tables,
    ),
)
