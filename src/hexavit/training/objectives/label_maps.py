"""Images with their label maps, cropped and flipped together (LV-ViT: Jiang et al., NeurIPS 2021)."""

from __future__ import annotations

import random
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from timm.data.auto_augment import RandAugment
from torch import Tensor
from torchvision.transforms import functional as F

from hexavit.data.augment import Kind, training_transform
from hexavit.data.loader import Draw, Images
from hexavit.data.seeding import seeded
from hexavit.errors import DataError
from hexavit.images.decode import to_channels
from hexavit.images.multichannel import Picture
from hexavit.images.preprocess import InputSpec
from hexavit.teachers.label_maps import LabelMaps

_MOVING = ("Rotate", "Shear", "Translate")  # RandAugment's geometric operations


class Mapped(NamedTuple):
    """A label and its map.

    Attributes:
        label: the class.
        logits: the highest logits (k, n, n), flipped if the image is.
        classes: their classes (k, n, n), flipped likewise.
        crop: top, left, height and width (4,) of the crop, as fractions of the (flipped) image.
    """

    label: Any
    logits: Any
    classes: Any
    crop: Any


class MappedImages(Images):
    """Images, each with a :class:`Mapped` as its label.

    Args:
        images: the images without maps.
        maps: their label maps.
        spec: preprocessing of the model's input.
        kind: `none`, `flip`, `crop`, or `rand` without the geometric operations of its policy.
        strength: `magnitude` of RandAugment and share of `erasing`.

    Raises:
        DataError: the kind is `shift`, which rotates.
    """

    def __init__(self, images: Images, maps: LabelMaps, spec: InputSpec, kind: Kind, **strength: Any) -> None:
        super().__init__(images.source, images.numbers, images.transform, images.seed, images.labels)
        check_augmentation(kind)
        self.maps, self.tracked = maps, TrackedTransform(spec, kind, **strength)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Any]:
        number = self.numbers[draw.position]
        picture = self.source.load(number)
        with seeded(self.seed, *draw.purpose(number)):
            image, crop, flipped = self.tracked(picture)
        logits, classes = self.maps.load(number)
        if flipped:
            logits, classes = logits.flip(-1), classes.flip(-1)
        return image, Mapped(self.target(draw), logits, classes, crop)


def check_augmentation(kind: Kind) -> None:
    """Raise `DataError` for `shift`: label maps follow crops, shifts and mirroring only."""
    if kind == "shift":
        raise DataError(
            "label maps need augment none, flip, crop or rand, not shift, whose rotations they cannot follow"
        )


def _keep_colours(step: Any) -> None:
    """Remove the geometric operations of timm's RandAugment, AugMix or AutoAugment."""
    if isinstance(step, RandAugment) and step.choice_weights is not None:
        still = [not each.name.startswith(_MOVING) for each in step.ops]
        weights = np.asarray(step.choice_weights)[still]
        step.choice_weights = weights / weights.sum()
    for operations in (getattr(step, "ops", []), *getattr(step, "policy", ())):
        operations[:] = [each for each in operations if not each.name.startswith(_MOVING)]


class TrackedTransform:
    """A :func:`training_transform` that also returns its crop and flip.

    A call returns the image tensor, the crop (4,) as in :class:`Mapped`, and whether the image was flipped.
    """

    def __init__(self, spec: InputSpec, kind: Kind, **strength: Any) -> None:
        self.spec = spec
        made: Any = training_transform(spec, kind, **strength)
        steps: list[Any] = list(made.after.transforms)
        self.crop: Any = None if kind in ("none", "mirror", "flip") else steps[0]
        self.flip: Any = None if kind == "none" else steps[1]
        self.before = steps[:2] if self.crop is None else []
        self.moved: Any = None
        self.after = steps[2:]
        if kind in ("mirror", "flip"):
            self.flip, *moved = self.after.pop(0).transforms
            self.moved = moved[0] if moved else None
        for step in self.after:
            _keep_colours(step)

    def __call__(self, picture: Picture) -> tuple[Tensor, Tensor, bool]:
        image = to_channels(picture, self.spec.channels, self.spec.white)
        width, height = image.size
        flipped = False
        if self.crop is None:
            top, left, rows, columns = self._evaluation_crop(height, width)
            for step in self.before:
                image = step(image)
            if self.flip is not None:
                flipped = bool(torch.rand(()) < self.flip.p)
                image = F.hflip(image) if flipped else image
            if self.moved is not None:
                image, (down, right) = self._shifted(image)
                top, left = top + down * rows, left + right * columns  # the centre crop is its own mirror image
        else:
            y, x, h, w = self.crop.get_params(image, self.crop.scale, self.crop.ratio)
            mode = self.crop.interpolation
            if isinstance(mode, tuple):  # random
                mode = random.choice(mode)
            image = F.resized_crop(image, y, x, h, w, list(self.spec.size), mode, antialias=True)
            flipped = bool(torch.rand(()) < self.flip.p)
            if flipped:
                image, x = F.hflip(image), width - x - w
            top, left, rows, columns = y / height, x / width, h / height, w / width
        for step in self.after:
            image = step(image)
        return cast("Tensor", image), torch.tensor([top, left, rows, columns]), flipped

    def _shifted(self, image: Any) -> tuple[Any, tuple[float, float]]:
        """The crop of `flip`, which may lie beyond an edge, and its shift as shares of the image's sides."""
        width, height = image.size
        padded = F.pad(image, self.moved.padding, padding_mode=self.moved.padding_mode)
        y, x, h, w = self.moved.get_params(padded, (height, width))
        shift = (y - (padded.height - height) // 2) / height, (x - (padded.width - width) // 2) / width
        return F.crop(padded, y, x, h, w), shift

    def _evaluation_crop(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The centre crop of evaluation: a share of the shorter side, or of both sides for `squash`."""
        if self.spec.crop_mode == "squash":
            rows = columns = self.spec.crop_pct
        else:
            kept = self.spec.crop_pct * min(height, width)
            rows, columns = kept / height, kept / width
        return (1 - rows) / 2, (1 - columns) / 2, rows, columns
