"""PS-ViT's tensors as its authors name them."""

from __future__ import annotations

import torch
from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Copies, Table
from hexavit.models.layouts import Layout, filled

ROUNDS = 4


def _block(theirs: str, ours: str) -> dict[str | tuple[str, ...], str]:
    return {
        f"{theirs}.norm1.*": f"{ours}.attention_residual.norm.*",
        f"{theirs}.attn.qkv.*": f"{ours}.attention.qkv.*",
        f"{theirs}.attn.proj.*": f"{ours}.attention.proj.*",
        f"{theirs}.norm2.*": f"{ours}.feedforward_residual.norm.*",
        f"{theirs}.mlp.fc1.*": f"{ours}.feedforward.fc1.*",
        f"{theirs}.mlp.fc2.*": f"{ours}.feedforward.fc2.*",
    }


def _table(rounds: int) -> Table:
    table: dict[str | tuple[str, ...], str | Copies | None] = {
        "stem.0.*": "stages.0.tokens.steps.0.0.*",
        "stem.1.*": "stages.0.tokens.steps.0.1.*",
        ("pos_layer.*", *(f"ps_layers.{k}.position_layer.*" for k in range(rounds))): Copies(
            "stages.1.tokens.position.*"
        ),
        **_block("trans_layers.{}", f"stages.{rounds + 1}.blocks.{{}}"),
        "cls_token": f"stages.{rounds + 1}.class_token",
        "point_coord": None,
        "norm.*": "head.norm.*",
        "head.*": "head.fc.*",
    }
    for k in (0, 1):
        theirs, ours = f"stem.{4 + k}", f"stages.0.tokens.bottlenecks.{k}"
        table |= {f"{theirs}.conv{n}.*": f"{ours}.conv{n}.*" for n in (1, 2, 3)}
        table |= {f"{theirs}.bn{n}.*": f"{ours}.norm{n}.*" for n in (1, 2, 3)}
        table[f"{theirs}.downsample.{{}}.*"] = f"{ours}.skip.{{}}.*"
    for k in range(rounds):
        table |= _block(f"ps_layers.{k}.transformer_layer", f"stages.{k + 1}.blocks.0")
        if k < rounds - 1:  # a round predicts the next one's offsets there
            table[f"ps_layers.{k}.offset_layer.*"] = f"stages.{k + 2}.tokens.offset.*"
    return table


def _centres(architecture: Architecture) -> dict[str, Tensor]:
    """The points of the first round, a buffer there: their y runs faster than their x."""
    n = int(filled("tokens", architecture.stages[1].column("tokens"))["points"])
    y, x = ((torch.arange(n) + 0.5) * (side // 4 / n) for side in architecture.img_size)
    return {"point_coord": torch.stack((y.repeat(n), x.repeat_interleave(n)), dim=1)[None]}


LAYOUTS = (
    Layout(
        "authors",
        "ps_vit",
        _table(ROUNDS),
        only={
            "tokens": ("bottleneck_stem", "progressive_sampling", "keep"),
            "attention": ("global",),
            "feedforward": ("mlp",),
            "position": ("none",),
            "norm_eps": ("1e-05",),
        },
        computed=_centres,
    ),
)
