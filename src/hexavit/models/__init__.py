"""Named models, one package per family: variants as data, published figures and weights, checkpoint key tables."""

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
    "cswin",
    "msg_transformer",
    "shuffle_transformer",
    "glance_and_gaze",
    "t2t_vit",
    "localvit",
    "lvvit",
    "mvit",
    "mvit_v2",
    "p2t",
    "pvt_v2",
    "rest",
    "swin_v2",
    "twins",
    "tnt",
    "ps_vit",
    "vitae",
    "token_learner",
    "dwnet",
    "elsa",
    "vit_c",
    "botnet",
    "hrformer",
)
"""All families, in the order of `list_models`. Importing `<family>.variants` registers the models.

Where several models have equal tensors, a checkpoint without a model name is recognised as the first of them."""

for _family in FAMILIES:
    import_module(f"hexavit.models.{_family}.variants")

KEYS: dict[str, ModuleType] = {family: import_module(f"hexavit.models.{family}.keys") for family in FAMILIES}
"""The `keys` module of each family. It has `LAYOUTS`, and may have two functions that read the shapes of tensors:
`edits(state, architecture)` returns overrides of a named model; `input_channels(state)` returns 0 if unknown."""

LAYOUTS: tuple[Layout, ...] = tuple(layout for keys in KEYS.values() for layout in keys.LAYOUTS)
"""All known layouts of checkpoints from other code, by family."""

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
