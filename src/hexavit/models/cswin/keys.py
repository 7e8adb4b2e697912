"""CSWin's tensors as its authors name them.

Where both sides of a map are the width of its stripes, the authors' classification code has one branch with one
convolution of all channels. In a pyramid of the published widths this is the third stage, as of `cswin_base_384` at
192 pixels.
"""

from __future__ import annotations

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Split, Table
from hexavit.models.layouts import Layout, filled
from hexavit.models.pyramids import numbered

_BLOCK = {
    "stage<n>.{}.norm1.*": "stages.<s>.blocks.{}.attention_residual.norm.*",
    "stage<n>.{}.qkv.*": "stages.<s>.blocks.{}.attention.qkv.*",
    "stage<n>.{}.proj.*": "stages.<s>.blocks.{}.attention.proj.*",
    "stage<n>.{}.norm2.*": "stages.<s>.blocks.{}.feedforward_residual.norm.*",
    "stage<n>.{}.mlp.fc1.*": "stages.<s>.blocks.{}.feedforward.fc1.*",
    "stage<n>.{}.mlp.fc2.*": "stages.<s>.blocks.{}.feedforward.fc2.*",
}
_VALUES = "stages.{}.blocks.{{}}.attention.value_position"


def _table(one_branch: tuple[int, ...] = ()) -> Table:
    """Their names, with one branch in the stages numbered so, besides the last."""
    table: dict[str | tuple[str, ...], str | Split] = {
        "stage1_conv_embed.0.*": "stages.0.tokens.conv.*",
        "stage1_conv_embed.2.*": "stages.0.tokens.norm.*",
        **{f"merge{i}.{name}.*": f"stages.{i}.tokens.{name}.*" for i in (1, 2, 3) for name in ("conv", "norm")},
        "stage4.{}.attns.0.get_v.*": f"{_VALUES.format(3)}.conv.*",
        "norm.*": "head.norm.*",
        "head.*": "head.fc.*",
    }
    for i in range(3):
        theirs, ours = f"stage{i + 1}.{{}}.attns", _VALUES.format(i)
        if i in one_branch:
            table[f"{theirs}.0.get_v.*"] = Split(f"{ours}.0.conv.*", f"{ours}.1.conv.*")
        else:
            table[f"{theirs}.{{}}.get_v.*"] = f"{ours}.{{}}.conv.*"
    return {**table, **numbered(_BLOCK)}


def _third_is_not_whole(architecture: Architecture) -> list[str]:
    """The image size, unless both sides of the third stage's map are the width of its stripes."""
    size = architecture.img_size
    for stage in architecture.stages[:3]:
        conv = filled("tokens", stage.tokens)
        span = 2 * conv["padding"] - conv["kernel"]
        size = (size[0] + span) // conv["stride"] + 1, (size[1] + span) // conv["stride"] + 1
    split = filled("attention", stage.column("attention", 0))["split"]
    return [] if size == (split, split) else [f"img_size={architecture.img_size}"]


_ONLY = {
    "attention": ("cross_shaped",),
    "attention.head_dim": ("none",),
    "position": ("lepe",),
    "position.kernel": ("3",),
    "position.bias": ("true",),
    "position.reach": ("scope",),
    "tokens": ("conv",),
    "tokens.norm": ("true",),
    "tokens.eps": ("none",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu",),
    "residual": ("pre_norm",),
    "head": ("pool",),
    "norm_eps": ("1e-05",),
}
LAYOUTS = (
    # Before the usual one, which explains as many keys of such a file.
    Layout("authors", "cswin", _table((2,)), only=_ONLY, cannot=_third_is_not_whole),
    Layout("authors", "cswin", _table(), only=_ONLY),
)
