"""How training images are varied, from nothing to RandAugment with erasing; all of it from timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from torchvision import transforms

from hexavit.images.preprocess import BandTransform, InputSpec, Transform

_RAND_AUGMENT = "rand-m{}-mstd0.5-inc1"  # with magnitude 9 the policy of DeiT, Swin, CvT and their kin
_ERASED = 0.25  # their share of erased images

Kind = Literal["none", "shift", "crop", "rand"]


def training_transform(
    input_spec: InputSpec, kind: Kind, *, magnitude: int = 9, erasing: float | None = None
) -> Transform:
    """The transform of training images, random through the global generators.

    ``none`` is the one of evaluation. ``shift`` turns, moves and scales a little, for what must not be mirrored or
    cut, such as characters. ``crop`` cuts out 8 to 100 % of the area, mirrors and jitters the colours. ``rand``
    puts RandAugment for the jitter. Images that are neither grey nor RGB are cut, mirrored and erased alike, and no
    colour is touched.

    Args:
        input_spec: of the model.
        kind: one of the four.
        magnitude: of RandAugment (Cubuk et al., 2020), of 10; varied by a normal of deviation 0.5.
        erasing: share of the images in which a rectangle becomes noise (Random Erasing: Zhong et al., AAAI 2020);
            by default a quarter for ``rand``, and none for the others.
    """
    made = _varied(input_spec, kind, magnitude)
    share = erasing if erasing is not None else _ERASED if kind == "rand" else 0.0
    if share:
        erase = cast("Any", RandomErasing)(share, mode="pixel", device="cpu")
        if isinstance(made, BandTransform):
            return replace(made, last=erase)
        made.after.transforms.append(erase)
    return cast("Transform", made)


def _varied(input_spec: InputSpec, kind: Kind, magnitude: int) -> Any:
    if kind == "none":
        return input_spec.transform()
    if not input_spec.of_pictures:
        return _of_bands(input_spec, kind)
    if kind == "shift":
        return input_spec.transform(varied=_shift())
    if kind == "crop":
        return input_spec.timm_transform(is_training=True)
    made = input_spec.timm_transform(is_training=True, auto_augment=_RAND_AUGMENT.format(magnitude))
    for each in made.after.transforms:
        if isinstance(each, RandAugment):
            for operation in each.ops:
                if operation.name.startswith("Posterize"):
                    operation.level_fn = partial(_one_bit_or_more, operation.level_fn)
    return made


def _of_bands(spec: InputSpec, kind: Literal["shift", "crop", "rand"]) -> Transform:
    if kind == "shift":
        return BandTransform(spec, varied=_shift())
    resampling = transforms.InterpolationMode(spec.interpolation)
    cut = transforms.RandomResizedCrop(spec.size, interpolation=resampling, antialias=True)
    return BandTransform(spec, cut=cut, varied=transforms.RandomHorizontalFlip())


def _shift() -> transforms.RandomAffine:
    return transforms.RandomAffine(
        degrees=10,
        translate=(0.1, 0.1),
        scale=(0.9, 1.1),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )


def _one_bit_or_more(level_fn: Callable[..., tuple[int, ...]], *level: Any) -> tuple[int, ...]:
    # At the highest level timm keeps 0 bits, which is a black image, and which Pillow 13 refuses.
    return tuple(max(1, bits) for bits in level_fn(*level))
