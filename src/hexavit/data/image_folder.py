"""A folder with one folder of images a class, or with ``train`` and ``val`` (or ``test``) folders of such."""

from __future__ import annotations

import os
from pathlib import Path

from hexavit.data.source import PARTS, Hints, Source, check_all_classes_in_train
from hexavit.data.statistics import count_channels
from hexavit.errors import DataError
from hexavit.images.decode import printable, read_image
from hexavit.images.listing import images_under
from hexavit.images.multichannel import Picture


class ImageFolder(Source):
    """Class folders on disk. Names are paths below the folder, with forward slashes.

    Raises:
        DataError: when the folder is missing, holds no class folders, or a class without images.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not os.path.isdir(path):  # unlike Path's, it takes any name
            raise DataError(
                f"{printable(path)}: this data is neither 'digits' nor a folder of class folders that exists, "
                "nor a table, nor a published set"
            )
        self.identity = str(self.path.resolve())
        roots = {folder: PARTS[folder.name] for folder in _folders(self.path) if folder.name in PARTS}
        explicit = "train" in roots.values() and len(set(roots.values())) > 1
        if len(set(roots.values())) < len(roots):
            raise DataError(f"{path}: two folders stand for one part: {', '.join(sorted(f.name for f in roots))}")
        classes = {folder: _classes(folder) for folder in (roots if explicit else [self.path])}
        self.classes = tuple(sorted({name for found in classes.values() for name in found}))
        if len(self.classes) < 2:
            raise DataError(f"{path}: at least two class folders are needed, and there are {len(self.classes)}")
        index = {name: label for label, name in enumerate(self.classes)}
        found = [
            (root, file.relative_to(self.path).as_posix(), index[name])
            for root, folders in classes.items()
            for name, files in folders.items()
            for file in files
        ]
        self.names = tuple(name for _, name, _ in found)
        self.labels = tuple(label for _, _, label in found)
        self.parts = {
            part: tuple(number for number, (of, _, _) in enumerate(found) if of == root)
            for root, part in (roots.items() if explicit else ())
        }
        self.hints = Hints(channels=count_channels(self.path / name for name in self.names), augment="rand")
        check_all_classes_in_train(self)

    def load(self, number: int) -> Picture:
        return read_image(self.path / self.names[number])


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise DataError(f"{printable(path)}: this folder cannot be listed ({error.strerror})") from error


def _classes(root: Path) -> dict[str, list[Path]]:
    """The images of each class below ``root``; a class without any is refused."""
    classes = {folder.name: list(images_under(folder)) for folder in _folders(root)}
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(f"{root / empty[0]}: this class folder holds no images")
    return classes
