"""P2T's tensors as its authors name them."""

from __future__ import annotations

from hexavit.models.key_tables import POINTWISE, As
from hexavit.models.layouts import Layout
from hexavit.models.pyramids import AUTHORS_STAGE, numbered

_BLOCK = {theirs: ours for theirs, ours in AUTHORS_STAGE.items() if ".sr." not in theirs and ".mlp." not in theirs}
_OURS = "stages.<s>.blocks.{}"
LAYOUTS = (
    Layout(
        "authors",
        "p2t",
        {
            **numbered(
                {
                    **{
                        theirs.replace(".attn.q.", ".attn.q.0.").replace(".attn.kv.", ".attn.kv.0."): ours
                        for theirs, ours in _BLOCK.items()
                    },
                    "d_convs<n>.{}.*": "stages.<s>.shared.attention.level{}.*",
                    "block<n>.{}.mlp.fc1.weight": As(f"{_OURS}.feedforward.fc1.weight", POINTWISE),
                    "block<n>.{}.mlp.fc1.bias": f"{_OURS}.feedforward.fc1.bias",
                    "block<n>.{}.mlp.conv.*": f"{_OURS}.feedforward.conv.*",
                    "block<n>.{}.mlp.fc2.weight": As(f"{_OURS}.feedforward.fc2.weight", POINTWISE),
                    "block<n>.{}.mlp.fc2.bias": f"{_OURS}.feedforward.fc2.bias",
                }
            ),
            "head.*": "head.fc.*",
        },
        only={
            "attention": ("spatial_reduction",),
            "attention.method": ("pyramid",),
            "attention.eps": ("1e-05",),
            "tokens": ("conv",),
            "tokens.eps": ("1e-05",),
            "feedforward": ("conv_mlp",),
            "feedforward.act": ("hardswish",),
            "feedforward.first_act": ("same",),
            "feedforward.norm": ("false",),
            "residual": ("pre_norm",),
            "head": ("pool",),
            "head.norm": ("false",),
            "norm_eps": ("1e-06",),
        },
    ),
)
