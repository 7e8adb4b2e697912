"""DWNet's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import Table
from hexavit.models.layouts import Layout
from hexavit.models.swin.keys import AUTHORS_END

_THEIRS, _OURS = "layers.{}.blocks.{}.attn2conv", "stages.{}.blocks.{}.attention"
_PLACES, _IMAGE = f"{_OURS}.conv.place_filters", f"{_OURS}.conv.image_filters"
_TABLE: Table = {
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "patch_embed.norm.*": "stages.0.tokens.norm.*",
    f"{_THEIRS}.conv0.*": f"{_OURS}.proj_in.*",
    f"{_THEIRS}.bn0.*": f"{_OURS}.norm_in.*",
    f"{_THEIRS}.conv.*": f"{_OURS}.conv.*",
    f"{_THEIRS}.conv.conv1.*": f"{_IMAGE}.fc1.*",
    f"{_THEIRS}.conv.bn.*": f"{_IMAGE}.norm.*",
    f"{_THEIRS}.conv.conv2.*": f"{_IMAGE}.fc2.*",
    f"{_THEIRS}.conv.conv1.0.*": f"{_PLACES}.fc1.*",
    f"{_THEIRS}.conv.conv1.1.*": f"{_PLACES}.norm.*",
    f"{_THEIRS}.conv.conv2.0.*": f"{_PLACES}.fc2.*",
    f"{_THEIRS}.bn.*": f"{_OURS}.norm.*",
    f"{_THEIRS}.conv2.*": f"{_OURS}.proj.*",
    f"{_THEIRS}.bn2.*": f"{_OURS}.norm_out.*",
    "layers.{}.blocks.{}.bn.*": "stages.{}.blocks.{}.feedforward_residual.norm.*",
    "layers.{}.blocks.{}.mlp.fc1.*": "stages.{}.blocks.{}.feedforward.fc1.*",
    "layers.{}.blocks.{}.mlp.fc2.*": "stages.{}.blocks.{}.feedforward.fc2.*",
    "norm.*": "head.norm.*",
    **AUTHORS_END,
}
_ONLY = {
    "attention": ("depthwise",),
    "attention.reduction": ("4",),
    "position": ("none",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "residual": ("pre_norm",),
    "residual.layer_scale": ("none",),
    "tokens": ("conv", "patch_merging"),
    "tokens.norm": ("true", "before"),
    "head": ("pool",),
    "norm_eps": ("1e-05",),
}
LAYOUTS = (Layout("authors", "dwnet", _TABLE, only=_ONLY),)
