"""Named models, one package per paper: variants as data, published figures and weights, checkpoint key tables."""

from importlib import import_module
from types import ModuleType

from hexavit.models.layouts import Layout
from hexavit.models.registry import (
    Entry,
    Published,
    build_model,
    find_weight,
    list_models,
    list_weights,
    model_entry,
    pretrained_cfg,
    register,
    resolve,
)
from hexavit.models.weights import Preprocessing, Weight

FAMILIES = (
    "cvt",
    "vit",
    "cait",
    "ceit",
    "cpvt",
    "deepvit",
    "deit",
    "pvt",
    "swin",
    "t2t_vit",
    "localvit",
    "lvvit",
    "p2t",
    "pvt_v2",
    "rest",
    "swin_v2",
    "twins",
    "vit_c",
)
"""Every family, in the order in which its models are listed. Importing `<family>.variants` registers them.

Where several models have equal tensors, an unnamed file is taken for the first of them."""

for _family in FAMILIES:
    import_module(f"hexavit.models.{_family}.variants")

KEYS: dict[str, ModuleType] = {family: import_module(f"hexavit.models.{family}.keys") for family in FAMILIES}
"""The key tables of every family. A module holds `LAYOUTS`, and may hold two functions for what its tensors tell:
`edits(state, architecture)`, overrides of a named model, and `input_channels(state)`, or 0 if it cannot tell."""

LAYOUTS: tuple[Layout, ...] = tuple(layout for keys in KEYS.values() for layout in keys.LAYOUTS)
"""Every foreign layout of weights that is known, by family."""

__all__ = [
    "FAMILIES",
    "KEYS",
    "LAYOUTS",
    "Entry",
    "Preprocessing",
    "Published",
    "Weight",
    "build_model",
    "find_weight",
    "list_models",
    "list_weights",
    "model_entry",
    "pretrained_cfg",
    "register",
    "resolve",
]
