"""One file a paper: its variants as data, its published figures, its checkpoint key tables."""

from hexavit.models import cvt, cvt_keys, vit, vit_keys
from hexavit.models.registry import (
    Entry,
    Preprocessing,
    Published,
    create_model,
    list_models,
    model_entry,
    register,
    resolve,
)

LAYOUTS = (*cvt_keys.LAYOUTS, *vit_keys.LAYOUTS)
"""Every foreign layout of weights that is known, by family."""

__all__ = [
    "LAYOUTS",
    "Entry",
    "Preprocessing",
    "Published",
    "create_model",
    "cvt",
    "list_models",
    "model_entry",
    "register",
    "resolve",
    "vit",
]
