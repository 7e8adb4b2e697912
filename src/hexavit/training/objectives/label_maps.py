"""Label maps, one per image, cropped and flipped with the image (LV-ViT: Jiang et al., NeurIPS 2021)."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from timm.data.auto_augment import RandAugment
from torch import Tensor
from torchvision.transforms import functional as F

from hexavit.data.augment import Kind, training_transform
from hexavit.data.loader import UNCOUNTED, Draw, Images
from hexavit.data.seeding import seeded
from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.decode import shown, to_channels
from hexavit.images.multichannel import Picture
from hexavit.images.preprocess import InputSpec

_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, AttributeError, EOFError)  # raised by readers
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


class LabelMaps:
    """A folder of label maps, in the format of zihangJiang/TokenLabeling.

    The map of the image `a/b.png` is the file `a/b.pt` or `a/b.npy`, of shape (2, k, n, n): the k highest logits of
    each of n x n cells of the whole image, and their class indices in the data. The path may lack the folder of the
    split (`train`).

    Args:
        folder: folder of the maps.
        source: the images.
        numbers: indices of the images that need a map.

    Raises:
        DataError: the folder does not exist, or an image has no map.
    """

    def __init__(self, folder: str | Path, source: Source, numbers: Sequence[int]) -> None:
        self.folder, self.source = Path(folder), source
        if not self.folder.is_dir():
            raise DataError(f"{shown(folder)}: there is no such folder of label maps")
        self.files: dict[int, Path] = {}
        for number in numbers:
            if (found := self._find(source.names[number])) is not None:
                self.files[number] = found
        lacking = [source.names[number] for number in numbers if number not in self.files]
        if lacking:
            raise DataError(
                f"{shown(folder)}: {len(lacking)} of {len(numbers)} images have no label map, such as "
                f"{shown(lacking[0])}, whose map would be {shown(Path(lacking[0]).with_suffix('.pt'))}"
            )
        self.shape = tuple(self._read(self.files[numbers[0]]).shape)

    def _find(self, name: str) -> Path | None:
        inside = Path(name)
        for path in (inside, Path(*inside.parts[1:])) if len(inside.parts) > 1 else (inside,):
            for suffix in (".pt", ".npy"):
                file = (self.folder / path).with_suffix(suffix)
                if file.is_file():
                    return file
        return None

    def load(self, number: int) -> Tensor:
        """Read the map of an image, (2, k, n, n) in float32.

        Raises:
            DataError: the file is damaged, has another shape than the first map, or a class index that is too large.
        """
        found = self._read(self.files[number])
        if found.shape != self.shape:
            raise DataError(
                f"{shown(self.files[number])}: label map of shape {tuple(found.shape)}, where others have {self.shape}"
            )
        return found

    def _read(self, file: Path) -> Tensor:
        try:
            if file.suffix == ".npy":
                found = torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
            else:
                found = torch.load(file, map_location="cpu", weights_only=True).float()
        except (*_UNREADABLE, pickle.UnpicklingError) as error:
            raise DataError(f"{shown(file)}: this label map is damaged or not safe to read") from error
        if found.ndim != 4 or found.shape[0] != 2 or found.shape[2] != found.shape[3] or not found.isfinite().all():
            shape = tuple(found.shape)
            raise DataError(f"{shown(file)}: a label map holds finite numbers of shape (2, k, n, n), not {shape}")
        low, high = found[1].min().item(), found[1].max().item()
        if low < 0 or high >= len(self.source.classes):
            wrong, last = low if low < 0 else high, len(self.source.classes) - 1
            raise DataError(f"{shown(file)}: label map with class index {wrong:.0f}: indices are 0 to {last}")
        return found


class MappedImages(Images):
    """Images, each with a :class:`Mapped` as its label.

    Args:
        images: the images without maps.
        maps: their label maps.
        spec: preprocessing of the model's input.
        kind: `none`, `crop`, or `rand` without geometric operations.
        strength: `magnitude` of RandAugment and share of `erasing`.

    Raises:
        DataError: the kind is `shift`, which is geometric.
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
        label = self.labels[self.source.labels[number]] if draw.counts else UNCOUNTED
        return image, Mapped(label, logits, classes, crop)


def check_augmentation(kind: Kind) -> None:
    """Raise `DataError` for `shift`: label maps follow crops and flips only."""
    if kind == "shift":
        raise DataError("label maps need augment none, crop or rand: they cannot follow the rotations of shift")


class TrackedTransform:
    """A :func:`training_transform` that also returns its crop and flip.

    A call returns the image tensor, the crop (4,) as in :class:`Mapped`, and whether the image was flipped.
    """

    def __init__(self, spec: InputSpec, kind: Kind, **strength: Any) -> None:
        self.spec = spec
        made: Any = training_transform(spec, kind, **strength)
        steps: list[Any] = list(made.after.transforms)
        self.crop: Any = None if kind == "none" else steps[0]
        self.flip: Any = None if kind == "none" else steps[1]
        self.before = steps[:2] if kind == "none" else []
        self.after = steps[2:]
        for step in self.after:
            if isinstance(step, RandAugment):
                step.ops = [each for each in step.ops if not each.name.startswith(_MOVING)]

    def __call__(self, picture: Picture) -> tuple[Tensor, Tensor, bool]:
        image = to_channels(picture, self.spec.channels, self.spec.white)
        width, height = image.size
        flipped = False
        if self.crop is None:
            top, left, rows, columns = self._evaluation_crop(height, width)
            for step in self.before:
                image = step(image)
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

    def _evaluation_crop(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The centre crop of evaluation: a share of the shorter side, or of both sides for `squash`."""
        if self.spec.crop_mode == "squash":
            rows = columns = self.spec.crop_pct
        else:
            kept = self.spec.crop_pct * min(height, width)
            rows, columns = kept / height, kept / width
        return (1 - rows) / 2, (1 - columns) / 2, rows, columns
