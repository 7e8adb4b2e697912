"""One file a paper: its variants as data, its published figures and weights, its checkpoint key tables."""

from hexavit.layouts import Layout
from hexavit.models import cvt, vit  # first: of models with equal tensors, an unnamed file means the elder

# isort: split
from hexavit.models import (
    cait,
    ceit,
    cpvt,
    cvt_keys,
    deepvit,
    deit,  # noqa: F401  # registers its models
    deit_keys,
    localvit,
    lvvit,
    p2t,
    pvt,  # noqa: F401  # registers its models
    pvt_keys,
    pvt_v2,  # noqa: F401  # registers its models
    rest,
    swin,  # noqa: F401  # registers its models
    swin_keys,
    swin_v2,  # noqa: F401  # registers its models
    swin_v2_keys,
    t2t_vit,
    twins,
    vit_c,
    vit_keys,
)
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

LAYOUTS: tuple[Layout, ...] = tuple(
    layout
    for family in (
        *(cvt_keys, vit_keys, deit_keys, cait, deepvit, lvvit, t2t_vit, vit_c, cpvt, ceit, localvit),
        *(pvt_keys, twins, p2t, rest, swin_keys, swin_v2_keys),
    )
    for layout in family.LAYOUTS
)
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
