"""ViT: "An Image is Worth 16x16 Words", Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929).

Sizes tiny and small, and patch 8: "How to train your ViT?", Steiner et al., TMLR 2022 (arXiv 2106.10270), and DINO.
Authors' code: google-research/vision_transformer (Apache-2.0), commit c6de1e5, in JAX; names are timm's.

What is new in it: an image is a sequence of patches, and the Transformer's encoder is applied to it unchanged but for
pre-norm: one linear per patch, a learned class token in front, a learned position table over all tokens.

Shapes at 224 with patches of 16: (B, 3, 224, 224) to (B, 1 + 196, C), to (B, 1000). Cost with M = P + N tokens and
L blocks: multiply-adds L (12 M C^2 + 2 M^2 C) and the embedding's.

Same as the JAX code but for GELU, where timm's exact form is the default: `stages.0.feedforward.act=gelu_tanh` is the
JAX one. `head=pool` is its "gap": no class token, no row for it, final norm before the mean (timm norms after).
Position tables are resized bilinearly with aligned corners, as there; `stages.0.position.resize=bicubic` is timm's.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part, Stage
from hexavit.models.registry import Entry, Published, register
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


def _vit(size: str, patch: int, img_size: int) -> Architecture:
    dim, depth, heads = _SIZES[size]
    stage = Stage(
        dim=dim,
        depth=depth,
        tokens=Part("conv", kernel=patch, stride=patch, norm=False),
        position=Part("learned"),
        attention=Part("global", heads=heads),
    )
    return Architecture(
        f"vit_{size}_patch{patch}_{img_size}", (stage,), Part("class_token"), img_size=(img_size, img_size)
    )


for _size, _patch, _img_sizes, _results in _VARIANTS:
    for _img_size in _img_sizes:
        _published = tuple(
            Published(source, 384, top1=top1, trained_on="ImageNet-21k" if source is _README else "ImageNet-1k")
            for source, top1 in _results
            if _img_size == 384
        )
        register(
            Entry(
                _vit(_size, _patch, _img_size),
                "vit",
                f"ViT-{'Ti' if _size == 'tiny' else _size[0].upper()}/{_patch}",
                PAPER,
                Preprocessing(*INCEPTION_MEAN_STD, interpolation="bilinear", crop_pct=1.0, crop_mode="squash"),
                _published,
                vit_weights(f"vit_{_size}_patch{_patch}_{_img_size}", _img_size),
            )
        )
