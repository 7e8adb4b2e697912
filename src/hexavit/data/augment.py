"""Augmentation of training images, from none to RandAugment with random erasing, built on timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

from timm.data.auto_augment import AugmentOp
from timm.data.random_erasing import RandomErasing
from torchvision import transforms

from hexavit.errors import DataError
from hexavit.images.preprocess import InputSpec, MultichannelTransform, PictureTransform, Transform

RAND_AUGMENT = "rand-m{}-mstd0.5-inc1"  # with magnitude 9 the policy of DeiT, Swin and CvT
ERASING = 0.25  # their share of erased images

Kind = Literal["none", "mirror", "shift", "flip", "crop", "rand"]


def training_transform(
    input_spec: InputSpec,
    kind: Kind,
    *,
    magnitude: int = 9,
    policy: str | None = None,
    color_jitter: float | None = None,
    interpolation: str | None = None,
    erasing: float | None = None,
) -> Transform:
    """The transform of training images, random by the global generators.

    Images that are neither grey nor RGB are cropped, mirrored and erased alike; their colours are not changed.

    Args:
        input_spec: of the model's input.
        kind: the operations on the image:

            - ``none``: those of evaluation.
            - ``mirror``: mirroring alone, for short runs on small images of one object.
            - ``shift``: small rotations, shifts and scalings, for images that must not be mirrored or cropped, such as
              characters.
            - ``flip``: mirroring, and a shift by at most an eighth of each side, as for CIFAR
              (He et al., CVPR 2016, section 4.2); for longer runs on small images of one object.
            - ``crop``: a crop of 8 to 100 % of the area, mirroring, and colour jitter.
            - ``rand``: the crop and mirroring, and RandAugment instead of colour jitter.
        magnitude: of RandAugment (Cubuk et al., 2020), from 0 to 10, varied by a normal of deviation 0.5.
        policy: of ``rand``: timm's description of RandAugment, AutoAugment or AugMix, instead of ``magnitude``.
        color_jitter: strength of the change of brightness, contrast and saturation; by default 0.4 for ``crop`` and
            none for ``rand``, after whose operations it follows.
        interpolation: of the resize: ``bilinear``, ``bicubic``, or ``random`` for one of the two for each image; by
            default that of the input.
        erasing: share of the images in which a rectangle is replaced by noise (Random Erasing: Zhong et al., AAAI
            2020); by default 0.25 for ``rand`` and 0 for the others.

    Raises:
        DataError: timm does not know the policy, or the kind has no place for the colour jitter or interpolation.
    """
    if kind in ("none", "mirror", "shift") and (color_jitter is not None or interpolation == "random"):
        raise DataError(f"color_jitter and random interpolation need augment crop or rand, not {kind}")
    if interpolation is not None:
        input_spec = replace(input_spec, interpolation=interpolation)
    policy = RAND_AUGMENT.format(magnitude) if policy is None else policy
    transform = _without_erasing(input_spec, kind, policy, color_jitter)
    share = erasing if erasing is not None else ERASING if kind == "rand" else 0.0
    if not share:
        return transform
    erase = cast("Any", RandomErasing)(share, mode="pixel", device="cpu")
    if isinstance(transform, MultichannelTransform):
        return replace(transform, last=erase)
    cast("PictureTransform", transform).after.transforms.append(erase)
    return transform


def _without_erasing(spec: InputSpec, kind: Kind, policy: str, color_jitter: float | None) -> Transform:
    if kind == "none":
        return spec.transform()
    if not spec.of_pictures:
        return _of_many_channels(spec, kind)
    if kind in ("mirror", "shift", "flip"):
        return spec.transform(varied=_moved(spec, kind))
    if kind == "crop":
        return spec.timm_transform(is_training=True, color_jitter=0.4 if color_jitter is None else color_jitter)
    try:
        transform = spec.timm_transform(is_training=True, auto_augment=policy)
    except (AssertionError, ValueError, KeyError) as error:
        raise DataError(f"policy {policy!r} is none of timm's, such as {RAND_AUGMENT.format(9)} ({error})") from error
    for operation in _operations(transform):
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(_at_least_one_bit, cast("Any", operation.level_fn))
    if color_jitter:
        transform.after.transforms.insert(-2, transforms.ColorJitter(*(color_jitter,) * 3))
    return transform


def _operations(transform: PictureTransform) -> Iterator[AugmentOp]:
    """Those of RandAugment and AugMix, or of all policies of AutoAugment."""
    for step in transform.after.transforms:
        for found in (*getattr(step, "ops", ()), *getattr(step, "policy", ())):
            yield from (found if isinstance(found, list) else [found])


def _of_many_channels(spec: InputSpec, kind: Kind) -> Transform:
    if kind in ("mirror", "shift", "flip"):
        return MultichannelTransform(spec, varied=_moved(spec, kind))
    modes = ("bilinear", "bicubic") if spec.interpolation == "random" else (spec.interpolation,)
    cuts = [
        transforms.RandomResizedCrop(spec.size, interpolation=transforms.InterpolationMode(mode), antialias=True)
        for mode in modes
    ]
    cut = transforms.RandomChoice(cuts) if len(cuts) > 1 else cuts[0]
    return MultichannelTransform(spec, cut=cut, varied=transforms.RandomHorizontalFlip())


def _moved(spec: InputSpec, kind: Kind) -> Any:
    """The operations of `mirror`, `shift` and `flip`, on an image of the size of the input."""
    if kind == "shift":
        return transforms.RandomAffine(
            degrees=10,
            translate=(0.1, 0.1),
            scale=(0.9, 1.1),
            interpolation=transforms.InterpolationMode.BILINEAR,
        )
    moves: list[Any] = [transforms.RandomHorizontalFlip()]
    if kind == "flip":
        height, width = spec.size
        moves.append(transforms.RandomCrop(spec.size, padding=[width // 8, height // 8], padding_mode="edge"))
    return transforms.Compose(moves)


def _at_least_one_bit(level_fn: Callable[..., tuple[int, ...]], *level: Any) -> tuple[int, ...]:
    # At the highest level timm keeps 0 bits, which is a black image, and which Pillow 13 rejects.
    return tuple(max(1, bits) for bits in level_fn(*level))
