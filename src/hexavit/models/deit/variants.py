"""DeiT: "Training data-efficient image transformers & distillation through attention", Touvron et al., ICML 2021
(arXiv 2012.12877).

Origin: facebookresearch/deit (Apache-2.0), commit 7e160fe. Names are timm's.

What is new against ViT: the models are trained on ImageNet-1k alone. The distilled models have a second extra token,
the distillation token, with its own classifier. That classifier is trained on the predictions of a teacher.

Shapes at 224: (B, 3, 224, 224) to (B, 1 + 196, C), or (B, 2 + 196, C) when distilled, to (B, 1000). In training the
distilled models return the pair (class logits, distillation logits).

Cost: as ViT, with one more token when distilled. 4.599 G multiply-adds for `deit_small_patch16_224`.

Same as the authors' code: position tables are resized bicubically without antialiasing.
Differs from the authors' code: the distillation token has no weight decay.
"""

from __future__ import annotations

from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing, in1k_weight

PAPER = "https://arxiv.org/abs/2012.12877"
_README = "facebookresearch/deit, README_deit.md"
_SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}

# size, distilled, image size, millions of parameters, top-1
_VARIANTS = (
    ("tiny", False, 224, 5, 0.722),
    ("small", False, 224, 22, 0.799),
    ("base", False, 224, 86, 0.818),
    ("base", False, 384, 87, 0.829),
    ("tiny", True, 224, 6, 0.745),
    ("small", True, 224, 22, 0.812),
    ("base", True, 224, 87, 0.834),
    ("base", True, 384, 88, 0.852),
)


_NOTE = "the published accuracy was measured with the authors' crop of 0.875; the preprocessing here is timm's"
_FAMILY = Family("deit", PAPER)
for _size, _distilled, _img_size, _params, _top1 in _VARIANTS:
    _name = f"deit_{_size}{'_distilled' * _distilled}_patch16_{_img_size}"
    _head = "two_heads" if _distilled else "class_token"
    _options = {
        "tag": "fb_in1k",
        "img_size": _img_size,
        "preprocessing": Preprocessing(crop_pct=0.9 if _img_size == 224 else 1.0),  # timm's
        "note": _NOTE,
    }
    _dim, _heads = _SIZES[_size]
    _FAMILY.register(
        isotropic(_name, _dim, 12, _heads, head=_head, img_size=_img_size, drop_path=0.1),
        f"DeiT-{_size[0].upper() if _size != 'tiny' else 'Ti'}{', distilled' * _distilled}",
        Published(_README, _img_size, _params, top1=_top1),
        weights=[in1k_weight(f"timm/{_name}.fb_in1k", _top1, _README, "apache-2.0", **_options)],
    )
_FAMILY.register_nano(
    isotropic("deit_nano", 96, 4, 3, patch=8, head="two_heads", img_size=32, drop_path=0.1),
    "DeiT, distilled, at 0.66 million",
)
