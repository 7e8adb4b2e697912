"""T2T-ViT's tensors as its authors name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hexavit.models.key_tables import As, Table
from hexavit.models.layouts import Layout
from hexavit.models.vit.keys import COLUMN

PERFORMER: Table = {"kqv.*": "qkv.*", "proj.*": "proj.*", "norm1.*": "norm1.*", "w": "w"}
"""A Performer layer of the tokens up to its feedforward, in the authors' names and ours."""

_MLP: Table = {"norm2.*": "norm2.*", "mlp.0.*": "feedforward.fc1.*", "mlp.2.*": "feedforward.fc2.*"}
_TRANSFORMER: Table = {
    "attn.qkv.*": "qkv.*",
    "attn.proj.*": "proj.*",
    "norm1.*": "norm1.*",
    "norm2.*": "norm2.*",
    "mlp.fc1.*": "feedforward.fc1.*",
    "mlp.fc2.*": "feedforward.fc2.*",
}


def token_layers(names: Table) -> Table:
    """Rows for the two layers of the tokens, whose numbers begin at 1 there."""
    table: dict[str | tuple[str, ...], Any] = {"tokens_to_token.project.*": "stages.0.tokens.proj.*"}
    for k in (0, 1):
        for theirs, ours in names.items():
            place = f"stages.0.tokens.layers.{k}."
            moved = As(place + ours.ours, ours.form) if isinstance(ours, As) else ours and f"{place}{ours}"
            table[f"tokens_to_token.attention{k + 1}.{theirs}"] = moved
    return table


LAYOUTS = tuple(
    Layout(
        "authors",
        "t2t_vit",
        {**COLUMN, "pos_embed": None, **token_layers(names)},
        only={
            "tokens": ("tokens_to_token",),
            "tokens.kind": (kind,),
            "tokens.local": ("false",),
            "position": ("sine_cosine",),
            "norm_eps": ("1e-05",),
        },
    )
    for kind, names in (("performer", {**PERFORMER, **_MLP}), ("transformer", _TRANSFORMER))
)
"""`pos_embed` is a frozen parameter there and computed here."""


def input_channels(state: Mapping[str, Tensor]) -> int:
    """The channels of the 7 x 7 windows that the first layer normalises; 0 if there is no such layer."""
    norm = state.get("stages.0.tokens.layers.0.norm1.weight")
    return norm.shape[0] // 49 if norm is not None and norm.ndim == 1 else 0
