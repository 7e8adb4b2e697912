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

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Entry, Published, register
from hexavit.models.weights import Preprocessing, Weight

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


def _weight(model: str, img_size: int, top1: float) -> Weight:
    """The authors' weights in timm's repository on the hub, with timm's preprocessing."""
    return Weight(
        tag="fb_in1k",
        hub_id=f"timm/{model}.fb_in1k",
        img_size=img_size,
        trained_on=("ImageNet-1k",),
        license="apache-2.0",
        code_license="apache-2.0",
        top1=top1,
        source=_README,
        preprocessing=Preprocessing(crop_pct=0.9 if img_size == 224 else 1.0),
        note="the published accuracy was measured with the authors' crop of 0.875; the preprocessing here is timm's",
    )


for _size, _distilled, _img_size, _params, _top1 in _VARIANTS:
    _dim, _heads = _SIZES[_size]
    register(
        Entry(
            Architecture(
                f"deit_{_size}{'_distilled' * _distilled}_patch16_{_img_size}",
                (vit_stage(_dim, 12, _heads, drop_path=0.1),),
                Part("two_heads" if _distilled else "class_token"),
                img_size=(_img_size, _img_size),
            ),
            "deit",
            f"DeiT-{_size[0].upper() if _size != 'tiny' else 'Ti'}{', distilled' * _distilled}",
            PAPER,
            published=(Published(_README, _img_size, _params, top1=_top1),),
            weights=(_weight(f"deit_{_size}{'_distilled' * _distilled}_patch16_{_img_size}", _img_size, _top1),),
        )
    )

register(
    Entry(
        Architecture("deit_nano", (vit_stage(96, 4, 3, patch=8, drop_path=0.1),), Part("two_heads"), img_size=(32, 32)),
        "deit",
        "DeiT, distilled, at 0.66 million parameters, for small images and quick studies",
        PAPER,
    )
)
