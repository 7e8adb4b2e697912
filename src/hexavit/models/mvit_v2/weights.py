"""MViTv2's published weights: the authors' weights in timm's repositories on the hub."""

from __future__ import annotations

from hexavit.models.weights import Preprocessing, Weight, in1k_weight

_README = "facebookresearch/mvit, README.md"
_TOP1 = {"mvitv2_tiny": 0.823, "mvitv2_small": 0.836, "mvitv2_base": 0.844, "mvitv2_large": 0.853}
_21K = ("mvitv2_base_cls", "mvitv2_large_cls", "mvitv2_huge_cls")
_TIMM = Preprocessing(crop_pct=0.9)


def weights(model: str) -> tuple[Weight, ...]:
    """The published weights of the MViTv2 named `model`."""
    size = model.split("_")[1][0].upper()
    if model in _TOP1:
        note = (
            f"the authors' file is MViTv2_{size}_in1k.pyth; the preprocessing here is timm's, and the published "
            "accuracy is with a crop of 0.875"
        )
        place = f"timm/{model}.fb_in1k"
        return (in1k_weight(place, _TOP1[model], _README, "apache-2.0", tag="fb_in1k", preprocessing=_TIMM, note=note),)
    if model in _21K:
        return (
            Weight(
                tag="fb_inw21k",
                hub_id=f"timm/{model}.fb_inw21k",
                img_size=224,
                num_classes=19168,
                trained_on=("ImageNet-21k",),
                license="apache-2.0",
                code_license="apache-2.0",
                preprocessing=_TIMM,
                note=f"the authors' file is MViTv2_{size}_in21k.pyth; its 19168 classes are of the winter-2021 edition",
            ),
        )
    return ()
