"""ViT's published weights in timm's repositories on the hub.

Identifiers, licences, heads and preprocessing are timm's; a test compares them with the installed timm. timm's
preprocessing (bicubic, centre crop of 0.9 at 224) differs from that of the JAX code (a resize without a crop). timm's
is used here. No accuracy is listed, because the published figures are of other files.
"""

from __future__ import annotations

from dataclasses import dataclass

from hexavit.models.weights import IMAGENET_MEAN_STD, INCEPTION_MEAN_STD, Preprocessing, Weight

_1K, _21K = "ImageNet-1k", "ImageNet-21k"


@dataclass(frozen=True)
class _Kind:
    """Properties of a tag: training data, head, licences, and mean and standard deviation of the images."""

    trained_on: tuple[str, ...]
    num_classes: int = 1000
    license: str = "apache-2.0"
    code_license: str = "apache-2.0"
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = INCEPTION_MEAN_STD


_KINDS = {
    "augreg_in21k_ft_in1k": _Kind((_21K, _1K)),  # "How to train your ViT?"
    "augreg2_in21k_ft_in1k": _Kind((_21K, _1K)),  # fine-tuned again in timm
    "augreg_in1k": _Kind((_1K,)),
    "augreg_in21k": _Kind((_21K,), 21843),
    "orig_in21k_ft_in1k": _Kind((_21K, _1K)),  # the first paper
    "sam_in1k": _Kind((_1K,)),  # sharpness-aware minimisation
    "dino": _Kind((_1K,), 0, statistics=IMAGENET_MEAN_STD),  # without labels
    "mae": _Kind((_1K,), 0, "cc-by-nc-4.0", "cc-by-nc-4.0", IMAGENET_MEAN_STD),  # without labels
}

# `pretrained=True` uses the first tag of a model.
_TAGS = {
    "vit_tiny_patch16_224": ("augreg_in21k_ft_in1k", "augreg_in21k"),
    "vit_tiny_patch16_384": ("augreg_in21k_ft_in1k",),
    "vit_small_patch32_224": ("augreg_in21k_ft_in1k", "augreg_in21k"),
    "vit_small_patch32_384": ("augreg_in21k_ft_in1k",),
    "vit_small_patch16_224": ("augreg_in21k_ft_in1k", "augreg_in1k", "augreg_in21k", "dino"),
    "vit_small_patch16_384": ("augreg_in21k_ft_in1k", "augreg_in1k"),
    "vit_base_patch32_224": ("augreg_in21k_ft_in1k", "augreg_in1k", "augreg_in21k", "sam_in1k"),
    "vit_base_patch32_384": ("augreg_in21k_ft_in1k", "augreg_in1k"),
    "vit_base_patch16_224": (
        "augreg2_in21k_ft_in1k",
        "augreg_in21k_ft_in1k",
        "augreg_in1k",
        "augreg_in21k",
        "orig_in21k_ft_in1k",
        "sam_in1k",
        "dino",
        "mae",
    ),
    "vit_base_patch16_384": ("augreg_in21k_ft_in1k", "augreg_in1k", "orig_in21k_ft_in1k"),
    "vit_base_patch8_224": ("augreg2_in21k_ft_in1k", "augreg_in21k_ft_in1k", "augreg_in21k", "dino"),
    "vit_large_patch32_384": ("orig_in21k_ft_in1k",),
    "vit_large_patch16_224": ("augreg_in21k_ft_in1k", "augreg_in21k", "mae"),
    "vit_large_patch16_384": ("augreg_in21k_ft_in1k",),
    "vit_huge_patch14_224": ("mae",),
}


def vit_weights(model: str, img_size: int) -> tuple[Weight, ...]:
    """The published weights of the ViT named `model`."""
    return tuple(
        Weight(
            tag=tag,
            hub_id=f"timm/{model}.{tag}",
            img_size=img_size,
            num_classes=_KINDS[tag].num_classes,
            trained_on=_KINDS[tag].trained_on,
            license=_KINDS[tag].license,
            code_license=_KINDS[tag].code_license,
            preprocessing=Preprocessing(*_KINDS[tag].statistics, crop_pct=0.9 if img_size == 224 else 1.0),
        )
        for tag in _TAGS.get(model, ())
    )
