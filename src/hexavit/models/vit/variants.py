"""ViT: "An Image is Worth 16x16 Words", Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929).

The sizes tiny and small and the patch size 8 come from "How to train your ViT?", Steiner et al., TMLR 2022 (arXiv
2106.10270), and from DINO.

Origin: google-research/vision_transformer (Apache-2.0), commit c6de1e5, in JAX. Names are timm's.

What is new: an image is a sequence of patches, encoded by a Transformer with pre-norm blocks. One linear layer embeds
each patch. A learned class token is the first token, and a learned position table covers all tokens.

Shapes at 224 with patches of 16: (B, 3, 224, 224) to (B, 1 + 196, C), to (B, 1000).

Cost: L (12 M C^2 + 2 M^2 C) multiply-adds for M = P + N tokens and L blocks, plus the embedding.

Same as the JAX code: `head=pool` is its "gap" (no class token and no table row for it, final norm before the mean,
where timm normalises after it); position tables are resized bilinearly with aligned corners.
Differs from the JAX code: GELU is exact, as in timm. `stages.0.feedforward.act=gelu_tanh` gives the JAX form, and
`stages.0.position.resize=bicubic` gives timm's resizing.
"""

from __future__ import annotations

from hexavit.architecture import Part
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.vit.weights import vit_weights
from hexavit.models.weights import INCEPTION_MEAN_STD, Preprocessing

PAPER = "https://arxiv.org/abs/2010.11929"
_TABLE = "ViT, table 5 (trained on ImageNet-1k alone, tuned at 384)"
_README = "google-research/vision_transformer, README.md (ImageNet-21k with AugReg, tuned at 384)"

_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}

# size, patch, image sizes, (source, top-1 at 384) as published
_VARIANTS: tuple[tuple[str, int, tuple[int, ...], tuple[tuple[str, float], ...]], ...] = (
    ("tiny", 16, (224, 384), ((_README, 0.7822),)),
    ("small", 32, (224, 384), ((_README, 0.7958),)),
    ("small", 16, (224, 384), ((_README, 0.8373),)),
    ("base", 32, (224, 384), ((_TABLE, 0.7338), (_README, 0.8359))),
    ("base", 16, (224, 384), ((_TABLE, 0.7791), (_README, 0.8549))),
    ("base", 8, (224,), ()),
    ("large", 32, (224, 384), ((_TABLE, 0.7116),)),
    ("large", 16, (224, 384), ((_TABLE, 0.7653), (_README, 0.8559))),
    ("huge", 14, (224,), ()),
)


_FAMILY = Family(
    "vit", PAPER, Preprocessing(*INCEPTION_MEAN_STD, interpolation="bilinear", crop_pct=1.0, crop_mode="squash")
)
for _size, _patch, _img_sizes, _results in _VARIANTS:
    for _img_size in _img_sizes:
        _name = f"vit_{_size}_patch{_patch}_{_img_size}"
        _FAMILY.register(
            isotropic(_name, *_SIZES[_size], patch=_patch, position=Part("learned"), img_size=_img_size),
            f"ViT-{'Ti' if _size == 'tiny' else _size[0].upper()}/{_patch}",
            *(
                Published(source, 384, top1=top1, trained_on="ImageNet-21k" if source is _README else "ImageNet-1k")
                for source, top1 in _results
                if _img_size == 384
            ),
            weights=vit_weights(_name, _img_size),
        )
