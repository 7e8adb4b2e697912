"""ViT's published weights, as timm keeps them on the hub: which model has which, and what a tag means.

Identifiers, licences, heads and preprocessing are timm's; a test holds them against the installed timm. timm's
preprocessing (bicubic, centre crop of 0.9 at 224) is not that of the JAX code (straight resize), and it is timm's that
these files are used with. No accuracy is stated, as the published ones are not said of these very files.
"""

from __future__ import annotations

from dataclasses import dataclass

from hexavit.models.weights import IMAGENET_MEAN_STD, INCEPTION_MEAN_STD, Preprocessing, Weight

_1K, _21K = "ImageNet-1k", "ImageNet-21k"


@dataclass(frozen=True)
class _Kind:
    """What a tag means: the data, the head, whose licence, and the statistics of its images."""

    trained_on: tuple[str, ...]
    num_classes: int = 1000
    license: str = "apache-2.0"
    code_license: str = "apache-2.0"
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = INCEPTION_MEAN_STD


_KINDS = {
    "augreg_in21k_ft_in1k": _Kind((_21K, _1K)),  # "How to train your ViT?"
    "augreg2_in21k_ft_in1k": _Kind((_21K, _1K)),  # tuned again in timm
    "augreg_in1k": _Kind((_1K,)),
    "augreg_in21k": _Kind((_21K,), 21843),
    "orig_in21k_ft_in1k": _Kind((_21K, _1K)),  # the first paper
    "sam_in1k": _Kind((_1K,)),  # sharpness-aware minimisation
    "dino": _Kind((_1K,), 0, statistics=IMAGENET_MEAN_STD),  # without labels
    "mae": _Kind((_1K,), 0, "cc-by-nc-4.0", "cc-by-nc-4.0", IMAGENET_MEAN_STD),  # without labels
}

# The first of a model is the one that `pretrained=True` takes.
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
    """The published weights of a ViT by its name."""
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
