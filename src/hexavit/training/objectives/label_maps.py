"""An annotator's label maps, one an image, cut and mirrored with the image (LV-ViT: Jiang et al., NeurIPS 2021)."""

from __future__ import annotations

import pickle
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

_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, AttributeError, EOFError)  # what readers answer
_MOVING = ("Rotate", "Shear", "Translate")  # what RandAugment does to places; the others change colours alone


class Mapped(NamedTuple):
    """A label with its map: the class, the highest logits (k, n, n) and their classes (k, n, n), mirrored if the image
    was, and the crop's top, left, height and width (4,) as fractions of that."""

    label: Any
    logits: Any
    classes: Any
    crop: Any


class LabelMaps:
    """A folder of maps as zihangJiang/TokenLabeling gives them: for the image `a/b.png` the file `a/b.pt` (or `.npy`),
    (2, k, n, n): the k highest logits of each of n x n cells of the whole image, and their classes.

    Below the folder the parts of the data (`train`) may be there or not. Classes are counted as the data's own.

    Args:
        folder: of the maps.
        source: the images.
        numbers: of those that need one.

    Raises:
        DataError: one of them has none.
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
                f"{shown(folder)}: of {len(numbers)} images {len(lacking)} have no label map, such as "
                f"{shown(lacking[0])}, whose map would be {shown(Path(lacking[0]).with_suffix('.pt'))}"
            )
        self.shape = tuple(self._read(self.files[numbers[0]]).shape)

    def _find(self, name: str) -> Path | None:
        inside = Path(name)
        for place in (inside, Path(*inside.parts[1:])) if len(inside.parts) > 1 else (inside,):
            for suffix in (".pt", ".npy"):
                file = (self.folder / place).with_suffix(suffix)
                if file.is_file():
                    return file
        return None

    def load(self, number: int) -> Tensor:
        """The map of an image, (2, k, n, n) in float32.

        Raises:
            DataError: the file is damaged, of another shape than the first one, or names a class that there is not.
        """
        found = self._read(self.files[number])
        if found.shape != self.shape:
            raise DataError(
                f"{shown(self.files[number])}: this label map is {tuple(found.shape)}, and others are {self.shape}"
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
            raise DataError(f"{shown(file)}: a label map is (2, k, n, n) of finite numbers, not {tuple(found.shape)}")
        low, high = found[1].min().item(), found[1].max().item()
        if low < 0 or high >= len(self.source.classes):
            raise DataError(f"{shown(file)}: this label map names the class {high:.0f} of {len(self.source.classes)}")
        return found


class MappedImages(Images):
    """Images, each with a :class:`Mapped` for its label; the map is cut and mirrored as the image is.

    Args:
        images: with the source, the numbers and the seed.
        maps: of all of them.
        spec: of the model.
        kind: `none`, `crop` or `rand`; of RandAugment only what leaves places alone.
        magnitude: of RandAugment.
        erasing: share of erased images.

    Raises:
        DataError: `shift`, which turns the image under its map.
    """

    def __init__(self, images: Images, maps: LabelMaps, spec: InputSpec, kind: Kind, **strength: Any) -> None:
        super().__init__(images.source, images.numbers, images.transform, images.seed, images.labels)
        check_still(kind)
        self.maps, self.cut = maps, TrackedTransform(spec, kind, **strength)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Any]:
        number = self.numbers[draw.position]
        picture = self.source.load(number)
        with seeded(self.seed, "sample", draw.epoch, number):
            image, crop, mirrored = self.cut(picture)
        logits, classes = self.maps.load(number)
        if mirrored:
            logits, classes = logits.flip(-1), classes.flip(-1)
        label = self.labels[self.source.labels[number]] if draw.counts else UNCOUNTED
        return image, Mapped(label, logits, classes, crop)


def check_still(kind: Kind) -> None:
    """Refuse an augmentation that moves more than a crop and a mirror do.

    Raises:
        DataError: for `shift`.
    """
    if kind == "shift":
        raise DataError("label maps go with augment none, crop or rand: shift would turn images under their maps")


class TrackedTransform:
    """:func:`training_transform` that tells what it cut out: the tensor, then top, left, height and width (4,) as
    fractions of the image as it is after mirroring, then whether it was mirrored."""

    def __init__(self, spec: InputSpec, kind: Kind, **strength: Any) -> None:
        self.spec = spec
        made: Any = training_transform(spec, kind, **strength)
        steps: list[Any] = list(made.after.transforms)
        self.crop: Any = None if kind == "none" else steps[0]
        self.mirror: Any = None if kind == "none" else steps[1]
        self.before = steps[:2] if kind == "none" else []
        self.after = steps[2:]
        for step in self.after:
            if isinstance(step, RandAugment):
                step.ops = [each for each in step.ops if not each.name.startswith(_MOVING)]

    def __call__(self, picture: Picture) -> tuple[Tensor, Tensor, bool]:
        image = to_channels(picture, self.spec.channels, self.spec.white)
        width, height = image.size
        mirrored = False
        if self.crop is None:
            top, left, rows, columns = self._evaluated(height, width)
            for step in self.before:
                image = step(image)
        else:
            y, x, h, w = self.crop.get_params(image, self.crop.scale, self.crop.ratio)
            mode = F.InterpolationMode(self.spec.interpolation)
            image = F.resized_crop(image, y, x, h, w, list(self.spec.size), mode, antialias=True)
            mirrored = bool(torch.rand(()) < self.mirror.p)
            if mirrored:
                image, x = F.hflip(image), width - x - w
            top, left, rows, columns = y / height, x / width, h / height, w / width
        for step in self.after:
            image = step(image)
        return cast("Tensor", image), torch.tensor([top, left, rows, columns]), mirrored

    def _evaluated(self, height: int, width: int) -> tuple[float, float, float, float]:
        """What the centre crop of evaluation keeps: a share of the shorter side, or of both where they are squashed."""
        if self.spec.crop_mode == "squash":
            rows = columns = self.spec.crop_pct
        else:
            kept = self.spec.crop_pct * min(height, width)
            rows, columns = kept / height, kept / width
        return (1 - rows) / 2, (1 - columns) / 2, rows, columns
