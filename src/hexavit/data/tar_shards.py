"""Images packed in tar files, as webdataset writes them: ``KEY.jpg`` with its class in ``KEY.cls``."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from posixpath import basename, splitext
from typing import NamedTuple

from hexavit.data.source import Hints, PackedSource, part_named
from hexavit.errors import DataError
from hexavit.images.decode import printable
from hexavit.images.listing import has_image_ending

_LONGEST = 4096  # bytes of a class: a name or a number


class _Member(NamedTuple):
    """An image in a shard: its name, where its bytes are, and its class."""

    name: str
    offset: int
    size: int
    label: str = ""


class TarShards(PackedSource):
    """A folder of ``.tar`` files, or one of them, not compressed, so that each image can be read at once.

    Files named ``train-*``, ``val-*`` and ``test-*`` are the parts. A class is the text of ``KEY.cls``,
    a name or a number.

    Raises:
        DataError: if a file is no tar file, an image has no class, or a name occurs twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.identity = str(Path(path).resolve())
        self.hints = Hints(channels=3, augment="rand")
        self._members: list[tuple[Path, _Member]] = []
        parts: dict[str, list[int]] = {}
        unused: list[str] = []
        for shard in shards_in(Path(path)):
            part = part_named(shard.stem.split("-")[0]) or ""
            members, others = _index(shard)
            parts.setdefault(part, []).extend(range(len(self._members), len(self._members) + len(members)))
            self._members += [(shard, member) for member in members]
            unused += [f"{shard.name}/{name}" for name in others]
        if "" in parts and len(parts) > 1:
            raise DataError(f"{printable(path)}: some of these tar files are named after a part and some are not")
        self.names = tuple(f"{shard.name}/{member.name}" for shard, member in self._members)
        self.unused = tuple(unused)
        self._set_labels([member.label for _, member in self._members])
        self._set_parts(parts)

    def encoded(self, number: int) -> bytes:
        shard, member = self._members[number]
        try:
            with shard.open("rb") as file:
                file.seek(member.offset)
                return file.read(member.size)
        except OSError as error:
            raise DataError(f"{printable(shard)}: this file cannot be read ({error.strerror})") from error


def shards_in(path: Path) -> list[Path]:
    """The tar files that ``path`` is, or that lie in it."""
    if os.path.isdir(path):  # unlike Path.is_dir, it takes any text
        return sorted(each for each in path.glob("*.tar") if each.is_file())
    return [path] if path.suffix.lower() == ".tar" else []


def _index(shard: Path) -> tuple[list[_Member], list[str]]:
    """The images of a shard in its order, and the names of members that are not used; images are not read."""
    images: dict[str, _Member] = {}
    classes: dict[str, str] = {}
    unused: list[str] = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, suffix = splitext(member.name)
                is_class = suffix.lower() == ".cls"
                if basename(member.name).startswith(".") or not member.isreg():
                    continue
                if not is_class and not has_image_ending(member.name):
                    unused.append(member.name)
                    continue
                if key in (classes if is_class else images):
                    raise DataError(f"{printable(shard)}: {printable(member.name)} is in it twice")
                if is_class:
                    read = archive.extractfile(member)
                    classes[key] = "" if read is None else read.read(_LONGEST).decode("utf-8").strip()
                else:
                    images[key] = _Member(member.name, member.offset_data, member.size)
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        sentence = f"{printable(shard)}: this is not a tar file of images without compression ({reason})"
        raise DataError(sentence) from error
    for key, image in images.items():
        if not classes.get(key):
            name, missing = printable(image.name), printable(f"{key}.cls")
            raise DataError(f"{printable(shard)}: the image {name} has no class; {missing} is missing or empty")
    return [image._replace(label=classes[key]) for key, image in images.items()], unused
