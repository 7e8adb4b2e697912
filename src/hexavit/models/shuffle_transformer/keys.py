"""Shuffle Transformer's tensors as its authors name them.

The authors number the blocks of a stage in pairs, and keep linears as 1x1 convolutions.
"""

from __future__ import annotations

from math import isqrt

from hexavit.architecture import Architecture, Part
from hexavit.models.key_tables import POINTWISE, As, Form, Table
from hexavit.models.layouts import Layout, State, filled

MERGING = Form(
    "2x2 convolution (o, i, 2, 2)",
    lambda t: t.permute(0, 3, 2, 1).flatten(1),
    lambda t, heads: t.unflatten(1, (2, 2, -1)).permute(0, 3, 2, 1),
)
"""A 2x2 convolution of stride 2, as the linear of four neighbours: columns, in them rows, in them channels."""

_BLOCK = "stage{}.layers.{}.{}"  # `places` says which block of which stage that is
_TABLE: Table = {
    "to_token.conv1.{}.*": "stages.0.tokens.steps.0.{}.*",
    "to_token.conv2.{}.*": "stages.0.tokens.steps.1.{}.*",
    "to_token.conv3.weight": "stages.0.tokens.conv.weight",
    "to_token.conv3.bias": "stages.0.tokens.conv.bias",
    f"{_BLOCK}.norm1.*": f"{_BLOCK}.attention_residual.norm.*",
    f"{_BLOCK}.attn.to_qkv.weight": As(f"{_BLOCK}.attention.qkv.weight", POINTWISE),
    f"{_BLOCK}.attn.relative_position_bias_table": f"{_BLOCK}.attention.position.table",
    f"{_BLOCK}.attn.relative_position_index": None,  # computed here
    f"{_BLOCK}.attn.proj.weight": As(f"{_BLOCK}.attention.proj.weight", POINTWISE),
    f"{_BLOCK}.attn.proj.bias": f"{_BLOCK}.attention.proj.bias",
    f"{_BLOCK}.norm2.*": f"{_BLOCK}.local_residual.norm.*",
    f"{_BLOCK}.local.*": f"{_BLOCK}.local.conv.*",
    f"{_BLOCK}.norm3.*": f"{_BLOCK}.feedforward_residual.norm.*",
    f"{_BLOCK}.mlp.fc1.weight": As(f"{_BLOCK}.feedforward.fc1.weight", POINTWISE),
    f"{_BLOCK}.mlp.fc1.bias": f"{_BLOCK}.feedforward.fc1.bias",
    f"{_BLOCK}.mlp.fc2.weight": As(f"{_BLOCK}.feedforward.fc2.weight", POINTWISE),
    f"{_BLOCK}.mlp.fc2.bias": f"{_BLOCK}.feedforward.fc2.bias",
    "stage{}.patch_partition.norm.*": "stage{}.patch_partition.norm.*",
    "stage{}.patch_partition.reduction.weight": As("stage{}.patch_partition.reduction.weight", MERGING),
    "head.*": "head.fc.*",
}


def places(architecture: Architecture) -> dict[str, str]:
    """Where their pairs of blocks, and what merges the tokens of a stage, stand in an architecture."""
    found: dict[str, str] = {}
    for i, stage in enumerate(architecture.stages):
        found |= {f"stage{i + 1}.layers.{k // 2}.{k % 2}": f"stages.{i}.blocks.{k}" for k in range(stage.depth)}
        found |= {f"stage{i + 1}.patch_partition": f"stages.{i}.tokens"} if i else {}
    return found


def _cannot(architecture: Architecture) -> list[str]:
    """Blocks that are not pairs of near and spread windows, heads that are not 32 wide, and kernels that are not as
    wide as the windows."""
    found = []
    for i, stage in enumerate(architecture.stages):
        attention = [filled("attention", stage.column("attention", k)) for k in range(stage.depth)]
        if stage.depth % 2:
            found.append(f"stages.{i}.depth={stage.depth}")
        if [each.get("spread") for each in attention] != [k % 2 == 1 for k in range(stage.depth)]:
            found.append(f"stages.{i}.attention={stage.attention}")
        if attention and stage.dim != 32 * attention[0]["heads"]:
            found.append(f"stages.{i}.dim={stage.dim} of {attention[0]['heads']} heads")
        local = next((branch.part for branch in stage.block if branch.module == "local"), None)
        kernel = filled("feedforward", local).get("kernel") if isinstance(local, Part) else None
        if any(each.get("window") != kernel for each in attention):
            found.append(f"stages.{i}.attention.window beside a kernel of {kernel}")
    return found


LAYOUTS = (
    Layout(
        "authors",
        "shuffle_transformer",
        _TABLE,
        only={
            "attention": ("window",),
            "attention.shifted": ("false",),
            "attention.shrink": ("true",),
            "attention.cosine": ("false",),
            "attention.qkv_bias": ("false",),
            "attention.head_dim": ("none",),
            "position": ("relative_bias",),
            "tokens": ("conv_stem", "patch_merging"),
            "tokens.norm": ("batch",),
            "tokens.act": ("relu6",),
            "tokens.kernels": ("(3, 3)",),
            "tokens.strides": ("(2, 2)",),
            "block": ("attention, local, feedforward",),
            "block.1.part": ("depthwise_conv",),
            "block.1.part.bias": ("true",),
            "feedforward": ("mlp",),
            "feedforward.act": ("relu6",),
            "residual": ("pre_norm",),
            "residual.norm": ("batch",),
            "residual.layer_scale": ("none",),
            "head": ("pool",),
            "head.norm": ("false",),
            "norm_eps": ("1e-05",),
        },
        cannot=_cannot,
        places=places,
    ),
)


def edits(state: State, architecture: Architecture) -> list[str]:
    """Another window, which the bias tables and the convolutions between attention and feedforward show."""
    table = state.get("stages.0.blocks.0.attention.position.table")
    local = state.get("stages.0.blocks.0.local.conv.weight")
    held = filled("attention", architecture.stages[0].column("attention", 0))["window"]
    if table is None or local is None or table.ndim != 2 or (isqrt(table.shape[0]) + 1) // 2 == held:
        return []
    window = (isqrt(table.shape[0]) + 1) // 2
    every = [f"stages.*.attention.window={window}", f"stages.*.block.local.part.kernel={local.shape[-1]}"]
    return [*every, f"img_size={32 * window}"]
