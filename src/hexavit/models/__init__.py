"""One file a paper: its variants as data, its published figures."""

from hexavit.models import cvt, vit
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

__all__ = [
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
