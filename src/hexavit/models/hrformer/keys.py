"""HRFormer's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import POINTWISE, As, Join, Rows, Table
from hexavit.models.layouts import Layout


def _normed(theirs: str, ours: str, numbers: range) -> Table:
    """Convolutions and their norms, numbered alike."""
    return {
        f"{theirs}.{name}{n}.*": f"{ours}.{own}{n}.*"
        for n in numbers
        for name, own in (("conv", "conv"), ("bn", "norm"))
    }


def _layer(theirs: str, block: str, end: str) -> Rows:
    """One layer of a resolution; `end` is what the names of its parts end with."""
    attention, feedforward = f"{block}.attention{end}", f"{block}.feedforward{end}"
    inner = f"{theirs}.attn.attn"
    return {
        f"{theirs}.norm1.*": f"{attention}_residual.norm.*",
        (f"{inner}.q_proj.*", f"{inner}.k_proj.*", f"{inner}.v_proj.*"): Join(f"{attention}.qkv.*"),
        f"{inner}.out_proj.*": f"{attention}.proj.*",
        f"{inner}.relative_position_bias_table": f"{attention}.position.table",
        f"{inner}.relative_position_index": None,
        f"{theirs}.norm2.*": f"{feedforward}_residual.norm.*",
        f"{theirs}.mlp.fc1.weight": As(f"{feedforward}.fc1.weight", POINTWISE),
        f"{theirs}.mlp.fc1.bias": f"{feedforward}.fc1.bias",
        f"{theirs}.mlp.dw3x3.*": f"{feedforward}.conv.*",
        f"{theirs}.mlp.fc2.weight": As(f"{feedforward}.fc2.weight", POINTWISE),
        f"{theirs}.mlp.fc2.bias": f"{feedforward}.fc2.bias",
        **{f"{theirs}.mlp.norm{n}.*": f"{feedforward}.norm{n}.*" for n in (1, 2, 3)},
    }


def _stage(number: int) -> Table:
    """A stage with `number` resolutions."""
    theirs, ours = f"stage{number}.{{}}", f"stages.{number - 1}.blocks.{{}}"
    table: Rows = {
        f"{theirs}.fuse_layers.{{}}.{{}}.{{}}.*": f"{ours}.fusion.paths.{{}}.{{}}.{{}}.*",
        f"{theirs}.fuse_layers.{{}}.{{}}.{{}}.{{}}.*": f"{ours}.fusion.paths.{{}}.{{}}.{{}}.{{}}.*",
        f"transition{number - 1}.{number - 1}.0.{{}}.*": f"stages.{number - 1}.tokens.new.{{}}.*",
    }
    for k, end in enumerate(("", "2")):  # of equal shape, the first row is read first: resolution 0 has no number here
        table |= _layer(f"{theirs}.branches.0.{k}", ours, end)
        table |= _layer(f"{theirs}.branches.{{}}.{k}", f"{ours}.lower.{{}}", end)
    return table


_TABLE: Table = {
    **{f"conv{n}.*": f"stages.0.tokens.steps.{n - 1}.0.*" for n in (1, 2)},
    **{f"bn{n}.*": f"stages.0.tokens.steps.{n - 1}.1.*" for n in (1, 2)},
    **_normed("layer1.{}", "stages.0.blocks.{}.attention", range(1, 4)),
    "layer1.{}.downsample.0.*": "stages.0.blocks.{}.attention_residual.skip.*",
    "layer1.{}.downsample.1.*": "stages.0.blocks.{}.attention_residual.skip_norm.*",
    "transition1.0.{}.*": "stages.1.tokens.steps.0.{}.*",
    **{key: ours for number in (2, 3, 4) for key, ours in _stage(number).items()},
    **_normed("incre_modules.{}.0", "stages.4.tokens.bottlenecks.{}", range(1, 4)),
    "incre_modules.{}.0.downsample.{}.*": "stages.4.tokens.bottlenecks.{}.skip.{}.*",
    "downsamp_modules.{}.{}.*": "stages.4.tokens.down.{}.{}.*",
    "final_layer.{}.*": "stages.4.tokens.final.{}.*",
    "classifier.*": "head.fc.*",
}
_ONLY = {
    "tokens": ("conv_stem", "add_resolution", "join_resolutions"),
    "tokens.act": ("relu",),
    "tokens.pool": ("false",),
    "position": ("relative_bias",),
    "attention": ("conv_bottleneck", "window"),
    "attention.shifted": ("false",),
    "attention.shrink": ("false",),
    "attention.padding": ("centre",),
    "feedforward": ("conv_mlp",),
    "feedforward.last_act": ("gelu",),
    "feedforward.act": ("gelu",),
    "part": ("resolution_fusion",),
    "residual": ("pre_norm", "post_act"),
    "residual.act": ("relu",),
    "head": ("pool",),
    "head.norm": ("false",),
}
LAYOUTS = (Layout("authors", "hrformer", _TABLE, only={**_ONLY, "position": ("none", "relative_bias")}),)
