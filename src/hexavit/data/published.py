"""Published data sets, read with torchvision from a copy on disk; nothing is downloaded unasked."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from hexavit.data.source import Hints, Source
from hexavit.errors import DataError, nearest
from hexavit.images.checksum import file_checksum, pixel_checksum
from hexavit.images.decode import printable, read_image
from hexavit.images.multichannel import Picture

_FILES = Hints(channels=3, augment="rand")


def _cifar(mean: tuple[float, ...], std: tuple[float, ...]) -> Hints:
    return Hints(channels=3, augment="rand", size=(32, 32), mean=mean, std=std, crop_pct=1.0, in_memory=True)


@dataclass(frozen=True)
class _Set:
    """One data set.

    Attributes:
        loader: torchvision's class.
        parts: the arguments of that class for each part.
        images: from an object of the class to the paths or arrays of its images.
        labels: from the object to the labels.
        classes: from the object to the class names.
        hints: settings that suit the data.
        downloadable: whether torchvision can download it.
    """

    loader: str
    parts: Mapping[str, Mapping[str, Any]]
    images: Callable[[Any], list[Any]]
    labels: Callable[[Any], list[int]]
    classes: Callable[[Any], list[str]]
    hints: Hints = _FILES
    downloadable: bool = True


def _read(name: str) -> Callable[[Any], Any]:
    return lambda data: list(getattr(data, name))


_BY_TRAIN = {"train": {"train": True}, "test": {"train": False}}
SETS = {
    "cifar10": _Set(
        "CIFAR10",
        _BY_TRAIN,
        _read("data"),
        _read("targets"),
        _read("classes"),
        _cifar((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
    "cifar100": _Set(
        "CIFAR100",
        _BY_TRAIN,
        _read("data"),
        _read("targets"),
        _read("classes"),
        _cifar((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
    "fashion_mnist": _Set(
        "FashionMNIST",
        _BY_TRAIN,
        lambda data: list(data.data.numpy()),
        _read("targets"),
        _read("classes"),
        Hints(channels=1, augment="rand", size=(32, 32), mean=(0.286,), std=(0.353,), crop_pct=1.0, in_memory=True),
    ),
    "oxford_pets": _Set(
        "OxfordIIITPet",
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        _read("_images"),
        _read("_labels"),
        _read("classes"),
    ),
    "flowers102": _Set(
        "Flowers102",
        {part: {"split": part} for part in ("train", "val", "test")},
        _read("_image_files"),
        _read("_labels"),
        _read("classes"),
    ),
    "imagenet": _Set(
        "ImageNet",
        {part: {"split": part} for part in ("train", "val")},
        lambda data: [path for path, _ in data.samples],
        _read("targets"),
        _read("wnids"),
        downloadable=False,
    ),
}


_IDX_FILES = tuple(
    f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
)


@contextmanager
def _unpacked(kind: _Set, root: Path) -> Iterator[Path]:
    """The folder that torchvision reads: a temporary one for the compressed files that Debian's package installs."""
    if kind.loader != "FashionMNIST" or not any((root / f"{name}.gz").is_file() for name in _IDX_FILES):
        _check_idx(root / kind.loader / "raw")
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, kind.loader, "raw")
        raw.mkdir(parents=True)
        for name in _IDX_FILES:
            packed = root / f"{name}.gz"
            try:
                with gzip.open(packed) as source, (raw / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
            except FileNotFoundError as error:
                raise DataError(f"{printable(packed)}: this file of Fashion-MNIST is missing") from error
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{printable(packed)}: this file is damaged or incomplete ({error})") from error
        _check_idx(raw, root)
        yield Path(folder)


def _check_idx(raw: Path, named: Path | None = None) -> None:
    """Check the headers of IDX files, as torchvision does not, against their sizes and with one another.

    Args:
        raw: their folder; files that are missing are left to torchvision.
        named: the folder to name in errors.
    """
    counts: dict[str, int] = {}
    for name in _IDX_FILES:
        path, shown = raw / name, printable((named or raw) / name)
        if not path.is_file():
            continue
        dims = 3 if "idx3" in name else 1
        with path.open("rb") as file:
            head = file.read(4 + 4 * dims)
        if len(head) < 4 + 4 * dims or head[:4] != bytes((0, 0, 8, dims)):
            raise DataError(f"{shown}: this is not an IDX file of bytes with {dims} dimension{'s' * (dims > 1)}")
        shape = struct.unpack(f">{dims}I", head[4:])
        whole, size = len(head) + math.prod(shape), path.stat().st_size
        if size != whole:
            raise DataError(f"{shown}: this IDX file is damaged: its header announces {whole} bytes, and it has {size}")
        counts[name] = shape[0]
    for images, labels in zip(_IDX_FILES[::2], _IDX_FILES[1::2], strict=True):
        if {images, labels} <= counts.keys() and counts[images] != counts[labels]:
            found = f"{counts[images]} images and {counts[labels]} labels"
            raise DataError(f"{printable(named or raw)}: {images} and {labels} do not belong together: {found}")


def names_set(data: str) -> bool:
    """Whether ``data`` has the form NAME:FOLDER with the name of a published data set."""
    return data.partition(":")[0] in SETS and ":" in data


class PublishedSet(Source):
    """``cifar10:FOLDER`` and others, where the folder is what torchvision calls the root.

    The parts are the published ones; where there is no ``val`` part, training takes one from ``train``.

    Args:
        data: name and folder.
        download: download what is missing.

    Raises:
        DataError: if there is no such data set, or the copy is missing or damaged.
    """

    def __init__(self, data: str, *, download: bool = False) -> None:
        name, _, folder = data.partition(":")
        if name not in SETS or not folder:
            message = f"{printable(data)}: published data has the form NAME:FOLDER, such as cifar10:data"
            raise DataError(message if name in SETS else f"{message}; {nearest(name, SETS)}")
        kind = SETS[name]
        if download and not kind.downloadable:
            raise DataError(f"{data}: this data set cannot be downloaded freely; ask its owners and unpack it there")
        self._root = Path(folder).expanduser()
        with _unpacked(kind, self._root) as root:
            loaded = {part: _open(data, kind, root, options, download) for part, options in kind.parts.items()}
        self.identity = f"{name}:{self._root.resolve()}"
        self.hints = kind.hints
        self.classes = tuple(kind.classes(next(iter(loaded.values()))))
        self._images: list[Any] = []
        names: list[str] = []
        labels: list[int] = []
        parts: dict[str, tuple[int, ...]] = {}
        for part, of_part in loaded.items():
            images = kind.images(of_part)
            parts[part] = tuple(range(len(names), len(names) + len(images)))
            names += [self._name(part, position, image) for position, image in enumerate(images)]
            labels += map(int, kind.labels(of_part))
            if not set(labels) <= set(range(len(self.classes))):
                raise DataError(f"{printable(data)}: a label is {max(labels)}; there are {len(self.classes)} classes")
            self._images += images
        self.names, self.labels, self.parts = tuple(names), tuple(labels), parts

    def load(self, number: int) -> Picture:
        image = self._images[number]
        return read_image(image) if isinstance(image, str | Path) else Image.fromarray(image)

    def checksum(self, number: int) -> str:
        image = self._images[number]
        return file_checksum(Path(image)) if isinstance(image, str | Path) else pixel_checksum(self.load(number))

    def _name(self, part: str, position: int, image: Any) -> str:
        if isinstance(image, str | Path):
            return Path(image).relative_to(self._root).as_posix()
        return f"{part}/{position:05d}"


def fetch(data: str) -> PublishedSet:
    """Download a published data set into its folder, unless it is there already.

    Raises:
        DataError: if there is no such data set, it cannot be downloaded freely, or the network fails.
    """
    return PublishedSet(data, download=True)


def _open(data: str, kind: _Set, root: Path, options: Mapping[str, Any], download: bool) -> Any:
    from torchvision import datasets

    more = {"download": True} if download else {}
    try:
        return getattr(datasets, kind.loader)(str(root), **options, **more)
    except Exception as error:  # torchvision raises many kinds for a missing or damaged copy
        how = f"; `hexavit data fetch {printable(data)}` downloads it" if kind.downloadable and not download else ""
        reason = printable(" ".join(str(error).split())).partition(". You can use download")[0]
        raise DataError(f"{printable(data)}: torchvision finds no complete copy there ({reason}){how}") from error
