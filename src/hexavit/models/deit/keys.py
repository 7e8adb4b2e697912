"""DeiT's tensors as others name them: its authors and timm alike, and Hugging Face's transformers.

Models without a distillation token have ViT's names in timm, which are the authors' too.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture
from hexavit.models.key_tables import Join, Table
from hexavit.models.layouts import Layout, State
from hexavit.models.vit.keys import COLUMN, HF_FILES, HF_MODULES, HF_SAYS, UNIFORM, transformers_config

_ONLY = {
    "attention": ("global",),
    "feedforward": ("mlp",),
    "position": ("learned",),
    "residual": ("pre_norm",),
    "tokens": ("conv",),
    "norm_eps": ("1e-06",),
}
_PLAIN = {**_ONLY, "head": ("class_token",), "feedforward.act": ("gelu",)}
_DISTILLED = {**_ONLY, "head": ("two_heads",), "feedforward.act": ("gelu",)}
_TWO: Table = {
    **{theirs: ours for theirs, ours in COLUMN.items() if theirs != "cls_token"},
    ("cls_token", "dist_token"): Join("stages.0.class_token", axis=1),
    "head_dist.*": "head.fc2.*",
}


def _transformers(table: Table, classifiers: Table) -> Table:
    """transformers' models with a distillation token, from the names of its ViT."""
    moved = {
        tuple(key.replace("vit.", "deit.") for key in theirs)
        if isinstance(theirs, tuple)
        else theirs.replace("vit.", "deit."): ours
        for theirs, ours in table.items()
        if theirs not in ("vit.embeddings.cls_token", "classifier.*")
    }
    return {
        **moved,
        ("deit.embeddings.cls_token", "deit.embeddings.distillation_token"): Join("stages.0.class_token", axis=1),
        **classifiers,
    }


def deit_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` with which transformers builds this DeiT."""
    end = "WithTeacher" if architecture.head.name == "two_heads" else ""
    names = {"architectures": [f"DeiTForImageClassification{end}"], "model_type": "deit"}
    return {**transformers_config(architecture), **names}


def edits(state: State, architecture: Architecture) -> list[str]:
    """The override for a distillation token without a classifier (transformers' DeiTForImageClassification)."""
    token = state.get("stages.0.class_token")
    if architecture.head.name != "class_token" or token is None or token.ndim != 3 or token.shape[1] != 2:
        return []
    return ["head.extra_tokens=2"]


_HF_ONLY = {key: allowed for key, allowed in _ONLY.items() if key != "norm_eps"}
_HEADS: tuple[tuple[Table, dict[str, tuple[str, ...]]], ...] = (
    (
        {"cls_classifier.*": "head.fc.*", "distillation_classifier.*": "head.fc2.*"},
        {**_HF_ONLY, "head": ("two_heads",)},
    ),
    (
        {"classifier.*": "head.fc.*"},
        {**_HF_ONLY, "head": ("class_token",), "head.extra_tokens": ("2",), "head.pre_logits": ("false",)},
    ),
)
"""transformers' classifiers, with and without one for the distillation token, and the options that it can compute."""
LAYOUTS = (
    Layout("timm", "deit", _TWO, only=_DISTILLED),
    Layout("timm", "deit", COLUMN, only=_PLAIN),
    Layout("authors", "deit", _TWO, only=_DISTILLED),
    Layout("authors", "deit", COLUMN, only=_PLAIN),
    *(
        Layout(
            "huggingface",
            "deit",
            _transformers(table, classifiers),
            only=only,
            says=HF_SAYS,
            base="deit.",
            config=deit_config,
            uniform=UNIFORM,
        )
        for classifiers, only in _HEADS
        for table in (HF_FILES, HF_MODULES)
    ),
)
