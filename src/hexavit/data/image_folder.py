"""A folder with one folder of images for each class, or with ``train`` and ``val`` (or ``test``) folders of such."""

from __future__ import annotations

import os
from pathlib import Path

from hexavit.data.source import FileSource, Hints, part_named
from hexavit.data.statistics import count_channels
from hexavit.errors import DataError
from hexavit.images.decode import printable
from hexavit.images.listing import files_under, has_image_ending


class ImageFolder(FileSource):
    """Class folders on disk. Names are paths below the folder, with forward slashes.

    The folders of parts may be called ``train`` or ``training``, ``val``, ``valid`` or ``validation``, ``test`` or
    ``testing``, in any case. Files that are not in a class folder or have no ending of an image are not used, and
    listed in :attr:`unused`.

    Raises:
        DataError: if the folder is missing, holds no class folders, or a class has no images.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)
        if not os.path.isdir(path):  # unlike Path.is_dir, it takes any text
            raise DataError(
                f"{printable(path)}: this data is neither 'digits' nor a folder of class folders that exists, "
                "nor a table, nor a published data set"
            )
        self.identity = str(self.root.resolve())
        folders = _folders(self.root)
        parts = {folder: part for folder in folders if (part := part_named(folder.name))}
        explicit = "train" in parts.values() and len(set(parts.values())) > 1
        if "train" in parts.values() and len(set(parts.values())) < len(parts):
            same = ", ".join(sorted(folder.name for folder in parts))
            raise DataError(f"{printable(path)}: two folders name the same part: {same}")
        if not explicit and len(folders) < 2:
            inside = f"; name {printable(folders[0])} if its folders are the classes" if folders else ""
            raise DataError(
                f"{printable(path)}: at least two class folders are needed, and there are {len(folders)}{inside}"
            )
        roots = parts if explicit else {self.root: ""}
        names: list[str] = []
        labels: list[str] = []
        members: dict[str, list[int]] = {}
        unused = [file for root in {self.root, *roots} for file in _loose_files(root)]
        unused += [file for folder in folders if explicit and folder not in parts for file in files_under(folder)]
        for root, part in roots.items():
            for folder in _folders(root):
                files = list(files_under(folder))
                images = [file.relative_to(self.root).as_posix() for file in files if has_image_ending(file)]
                if not images:
                    raise DataError(f"{printable(folder)}: this class folder holds no images")
                members.setdefault(part, []).extend(range(len(names), len(names) + len(images)))
                names += images
                labels += [folder.name] * len(images)
                unused += [file for file in files if not has_image_ending(file)]
        self.names, self.unused = tuple(names), tuple(sorted(file.relative_to(self.root).as_posix() for file in unused))
        self._set_labels(labels)
        self._set_parts(members)
        self.hints = Hints(channels=count_channels(self.root / name for name in self.names), augment="rand")


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise DataError(f"{printable(path)}: this folder cannot be listed ({error.strerror})") from error


def _loose_files(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")]
