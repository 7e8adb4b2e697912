"""What every kind of data gives: named, labelled images, and advice on how to treat them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hexavit.errors import DataError
from hexavit.images.multichannel import Picture
from hexavit.images.preprocess import InputSpec

Augment = Literal["auto", "none", "shift", "crop", "rand"]
OnBadImage = Literal["error", "skip"]

Split = Mapping[str, tuple[int, ...]]
"""Numbers of images by part: ``train``, ``val`` (held out) and, where the data has one, ``test``."""

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What data may call its parts, and what they are called here."""


@dataclass(frozen=True)
class Hints:
    """What suits the data where the user says nothing; ``None`` leaves it to the model.

    Attributes:
        size: height and width in pixels.
        channels: 1 (grey), 3 (RGB), or as many as the images have.
        mean: of each channel, as fractions of 1.
        std: of each channel, as fractions of 1.
        crop_pct: fraction of the image that a centre crop keeps.
        augment: a name that :func:`hexavit.data.augment.training_transform` knows.
        in_memory: reading an image costs next to nothing, so that workers do not pay.
    """

    channels: int
    augment: Literal["shift", "rand"]
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    in_memory: bool = False

    def suited(self, spec: InputSpec) -> InputSpec:
        """``spec`` with the normalisation and the crop that suit the data."""
        known: dict[str, Any] = {}
        if self.crop_pct is not None:
            known["crop_pct"] = self.crop_pct
        if self.mean is not None and self.std is not None:
            repeats = max(1, spec.channels // len(self.mean))
            if spec.channels == repeats * len(self.mean):
                known |= {"mean": self.mean * repeats, "std": self.std * repeats}
        return replace(spec, **known)


class Source(ABC):
    """Labelled images, numbered from 0 in an order that does not change.

    Attributes:
        identity: text by which a run recognises the same data again.
        classes: names of the classes; a label is an index into them.
        names: of the images, each once.
        labels: one an image.
        parts: the split that the data itself prescribes: ``train`` with ``val`` or ``test`` or both, or nothing.
        hints: what suits the data.
    """

    identity: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: Split
    hints: Hints

    @property
    def place(self) -> str:
        """Its identity for a reader: what lies below the current folder without that."""
        return self.identity.removeprefix(os.getcwd() + os.sep)

    @abstractmethod
    def load(self, number: int) -> Picture:
        """The image of that number, of any mode and size.

        Raises:
            DataError: naming the image when it cannot be read.
        """


def check_all_classes_in_train(source: Source) -> None:
    """Refuse data of which a part has a class that ``train`` lacks.

    Raises:
        DataError: naming the class.
    """
    if "train" in source.parts:
        untaught = set(source.labels) - {source.labels[number] for number in source.parts["train"]}
        if untaught:
            name = source.classes[min(untaught)]
            raise DataError(f"{source.place}: train has no images of the class {name!r}, which another part has")
