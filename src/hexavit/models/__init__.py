"""One file a paper: its variants as data, its published figures and weights, its checkpoint key tables."""

from hexavit.models import cvt, cvt_keys, vit, vit_keys
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

LAYOUTS = (*cvt_keys.LAYOUTS, *vit_keys.LAYOUTS)
"""Every foreign layout of weights that is known, by family."""

__all__ = [
    "LAYOUTS",
    "Entry",
    "Preprocessing",
    "Published",
    "Weight",
    "build_model",
    "cvt",
    "find_weight",
    "list_models",
    "list_weights",
    "model_entry",
    "pretrained_cfg",
    "register",
    "resolve",
    "vit",
]
