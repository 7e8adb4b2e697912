"""How training images are varied, from nothing to RandAugment with erasing; all of it from timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from timm.data.auto_augment import RandAugment
from torchvision import transforms

from hexavit.inference.preprocess import BandTransform, InputSpec, Transform

_RAND_AUGMENT = "rand-m9-mstd0.5-inc1"  # the policy of DeiT, Swin, CvT and their kin


def training_transform(input_spec: InputSpec, kind: Literal["none", "shift", "crop", "rand"]) -> Transform:
    """The transform of training images, random through the global generators.

    ``none`` is the one of evaluation. ``shift`` turns, moves and scales a little, for what must not be mirrored or
    cut, such as characters. ``crop`` cuts out 8 to 100 % of the area, mirrors and jitters the colours. ``rand``
    puts RandAugment for the jitter, and erases a rectangle in one image of four. Images that are neither grey nor
    RGB are cut, mirrored and erased alike, and no colour is touched.
    """
    if kind == "none":
        return input_spec.transform()
    if not input_spec.of_pictures:
        return _of_bands(input_spec, kind)
    if kind == "shift":
        return input_spec.transform(varied=_shift())
    if kind == "crop":
        return input_spec.timm_transform(is_training=True)
    made = input_spec.timm_transform(is_training=True, auto_augment=_RAND_AUGMENT, re_prob=0.25, re_mode="pixel")
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
    erasing = transforms.RandomErasing(p=0.25, value="random") if kind == "rand" else None
    return BandTransform(spec, cut=cut, varied=transforms.RandomHorizontalFlip(), last=erasing)


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
