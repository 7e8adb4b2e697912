"""Named models, one package per paper: variants as data, published figures and weights, checkpoint key tables."""

from hexavit.models.cvt import keys as cvt_keys
from hexavit.models.cvt import variants as cvt  # first: of models with equal tensors, an unnamed file means the elder
from hexavit.models.layouts import Layout
from hexavit.models.vit import variants as vit

# isort: split
from hexavit.models.cait import variants as cait
from hexavit.models.ceit import variants as ceit
from hexavit.models.cpvt import variants as cpvt
from hexavit.models.deepvit import variants as deepvit
from hexavit.models.deit import keys as deit_keys
from hexavit.models.deit import variants as deit  # noqa: F401  # registers its models
from hexavit.models.localvit import variants as localvit
from hexavit.models.lvvit import variants as lvvit
from hexavit.models.p2t import variants as p2t
from hexavit.models.pvt import keys as pvt_keys
from hexavit.models.pvt import variants as pvt  # noqa: F401  # registers its models
from hexavit.models.pvt_v2 import variants as pvt_v2  # noqa: F401  # registers its models
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
from hexavit.models.rest import variants as rest
from hexavit.models.swin import keys as swin_keys
from hexavit.models.swin import variants as swin  # noqa: F401  # registers its models
from hexavit.models.swin_v2 import keys as swin_v2_keys
from hexavit.models.swin_v2 import variants as swin_v2  # noqa: F401  # registers its models
from hexavit.models.t2t_vit import variants as t2t_vit
from hexavit.models.twins import variants as twins
from hexavit.models.vit import keys as vit_keys
from hexavit.models.vit_c import variants as vit_c
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
