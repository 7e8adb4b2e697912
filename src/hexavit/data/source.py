"""The interface of labelled data: named images with labels, parts, and hints on how to treat them."""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from hexavit.errors import DataError
from hexavit.images.checksum import bytes_checksum, file_checksum
from hexavit.images.decode import decode_image, printable, read_image
from hexavit.images.multichannel import Picture
from hexavit.images.preprocess import InputSpec

Augment = Literal["auto", "none", "mirror", "shift", "flip", "crop", "rand"]
Balance = Literal["none", "weights", "sampler"]
OnBadImage = Literal["error", "skip"]

Split = Mapping[str, tuple[int, ...]]
"""Numbers of images by part: ``train``, ``val`` (for validation) and, where the data has one, ``test``."""

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names that data may give its parts, in lower case, and the names here."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def part_named(name: str) -> str | None:
    """The part that a folder, file or column value names, in any case; None if it names no part."""
    return PARTS.get(name.lower())


@dataclass(frozen=True)
class Hints:
    """Settings that suit the data, used where the user gives none; ``None`` leaves the choice to the model.

    Attributes:
        size: height and width in pixels.
        channels: 1 (grey), 3 (RGB), or as many as the images have.
        mean: of each channel, as fractions of 1.
        std: of each channel, as fractions of 1.
        crop_pct: fraction of the image that a centre crop keeps.
        augment: a kind of :func:`hexavit.data.augment.training_transform`.
        in_memory: images are in memory already, so that reading workers do not pay.
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
    """Labelled images, numbered from 0 in a fixed order.

    Attributes:
        identity: text by which a run recognises the same data again.
        classes: names of the classes; a label is an index into them.
        names: of the images, each once.
        labels: one for each image; the rarest, by which images are split, of one with several; -1 of one with none.
        label_sets: the classes of each image; None for data with one class per image, as most has.
        parts: the split that the data itself prescribes: ``train`` with ``val`` or ``test`` or both, or nothing.
        hints: settings that suit the data.
        unused: names of files of the data that are not used.
    """

    identity: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: Split
    hints: Hints
    label_sets: tuple[tuple[int, ...], ...] | None = None
    unused: tuple[str, ...] = ()

    def labels_of(self, number: int) -> tuple[int, ...]:
        """The classes of an image: one, unless the data has :attr:`label_sets`."""
        return (self.labels[number],) if self.label_sets is None else self.label_sets[number]

    def class_counts(self, numbers: Iterable[int]) -> list[int]:
        """Number of images of each class among the numbered ones."""
        counts = Counter(label for number in numbers for label in self.labels_of(number))
        return [counts[label] for label in range(len(self.classes))]

    @property
    def place(self) -> str:
        """The identity for messages: a path below the current folder is relative."""
        return self.identity.removeprefix(os.getcwd() + os.sep)

    @cached_property
    def checksums(self) -> dict[int, str]:
        """Checksums of images that were computed so far; see :func:`hexavit.data.split.image_checksums`."""
        return {}

    @abstractmethod
    def load(self, number: int) -> Picture:
        """Decode an image, of any mode and size; 16 bits are kept.

        Raises:
            DataError: naming the image, if it cannot be read.
        """

    @abstractmethod
    def checksum(self, number: int) -> str:
        """The checksum of an image's content, the same for every copy.

        Raises:
            DataError: naming the image, if it cannot be read.
        """

    def set_classes(self, classes: Sequence[str]) -> None:
        """Number the classes in the order of a run, which may have sorted them in another way.

        Raises:
            DataError: if these are not the classes of the data.
        """
        if set(classes) != set(self.classes) or len(classes) != len(self.classes):
            raise DataError(
                f"{self.place}: the run has the classes {_some(classes)}, and this data has {_some(self.classes)}"
            )
        index = {name: label for label, name in enumerate(classes)}
        new = [index[name] for name in self.classes]
        self.labels = tuple(new[label] if label >= 0 else label for label in self.labels)
        if self.label_sets is not None:
            self.label_sets = tuple(tuple(sorted(new[label] for label in labels)) for labels in self.label_sets)
        self.classes = tuple(classes)

    def _set_labels(self, names: Sequence[str], classes: Sequence[str] | None = None) -> None:
        """Set ``classes`` and ``labels`` from the class name of each image.

        Args:
            names: one for each image.
            classes: all classes in their order; by default those that occur, by :func:`sorted_classes`.

        Raises:
            DataError: if fewer than two classes occur.
        """
        if len(set(names)) < 2:
            raise DataError(
                f"{printable(self.place)}: at least two classes are needed, and there are {len(set(names))}"
            )
        self.classes = sorted_classes(names) if classes is None else tuple(classes)
        index = {name: label for label, name in enumerate(self.classes)}
        self.labels = tuple(index[name] for name in names)

    def _set_label_sets(self, names: Sequence[Sequence[str]], classes: Sequence[str] | None = None) -> None:
        """Set ``classes``, ``label_sets`` and ``labels`` from the class names of each image.

        Args:
            names: any number for each image.
            classes: all classes in their order; by default those that occur, by :func:`sorted_classes`.

        Raises:
            DataError: if fewer than two classes occur.
        """
        occurring = sorted_classes([name for of_image in names for name in of_image])
        if len(occurring) < 2:
            raise DataError(f"{printable(self.place)}: at least two classes are needed, and there are {len(occurring)}")
        self.classes = occurring if classes is None else tuple(classes)
        index = {name: label for label, name in enumerate(self.classes)}
        self.label_sets = tuple(tuple(sorted(index[name] for name in of_image)) for of_image in names)
        counts = self.class_counts(range(len(names)))
        rarest = (min(labels, key=lambda label: (counts[label], label), default=-1) for labels in self.label_sets)
        self.labels = tuple(rarest)

    def _set_parts(self, members: Mapping[str, Sequence[int]]) -> None:
        """Set ``parts``, or none where there is no ``train`` part with another one.

        Raises:
            DataError: if another part has a class that ``train`` lacks.
        """
        explicit = "train" in members and len(members) > 1
        self.parts = {part: tuple(numbers) for part, numbers in members.items()} if explicit else {}
        if explicit:
            trained, every = (self.class_counts(each) for each in (self.parts["train"], range(len(self.labels))))
            untaught = [label for label, count in enumerate(every) if count and not trained[label]]
            if untaught:
                name = self.classes[untaught[0]]
                raise DataError(f"{self.place}: train has no images of the class {name!r}, which another part has")


class FileSource(Source):
    """Images in files of their own; names are paths, relative to ``root`` or absolute."""

    root: Path

    def load(self, number: int) -> Picture:
        return read_image(self.root / self.names[number], keep_16_bits=True)

    def checksum(self, number: int) -> str:
        return file_checksum(self.root / self.names[number])


class PackedSource(Source):
    """Encoded images inside larger files."""

    @abstractmethod
    def encoded(self, number: int) -> bytes:
        """The content of an image's file.

        Raises:
            DataError: if it cannot be read.
        """

    def load(self, number: int) -> Picture:
        return decode_image(io.BytesIO(self.encoded(number)), self.names[number], keep_16_bits=True)

    def checksum(self, number: int) -> str:
        return bytes_checksum(self.encoded(number))


def sorted_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Each class name once, sorted: by value if all are numbers, else as text."""
    unique = set(names)
    if all(_NUMBER.fullmatch(name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (float(name), name)))
    return tuple(sorted(unique))


def describe_unused(names: Sequence[str]) -> str:
    """Files that are not used, counted by their ending, as text; empty if there are none."""
    if not names:
        return ""
    endings = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in names)
    kinds = ", ".join(f"{count} {printable(ending)}" for ending, count in endings.most_common(5))
    return f"{len(names)} file{'s' * (len(names) > 1)}: {kinds}{', ...' if len(endings) > 5 else ''}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:5])) + (f", ... ({len(names)})" if len(names) > 5 else "")
