"""Images packed in tar files, as webdataset writes them: ``KEY.jpg`` with its class in ``KEY.cls``."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from posixpath import basename, splitext
from typing import NamedTuple

from hexavit.data.source import PARTS, Hints, Source, check_all_classes_in_train
from hexavit.errors import DataError
from hexavit.images.decode import EXTENSIONS, decode_image, printable
from hexavit.images.multichannel import Picture

_LONGEST = 4096  # bytes of a class: a name or a number


class _Packed(NamedTuple):
    """Where an image's bytes lie."""

    shard: Path
    offset: int
    size: int


class TarShards(Source):
    """A folder of ``.tar`` files, or one of them, not compressed, so that any image can be reached at once.

    Files named ``train-*``, ``val-*`` and ``test-*`` are the parts. A class is the text of ``KEY.cls``,
    a name or a number.

    Raises:
        DataError: when a file is no tar file, an image has no class, or a name occurs twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identity = str(self.path.resolve())
        self.hints = Hints(channels=3, augment="rand")
        shards = shards_in(self.path)
        self._packed: list[_Packed] = []
        names: list[str] = []
        classes: list[str] = []
        members: dict[str, list[int]] = {}
        for shard in shards:
            for name, packed, label in _index(shard):
                members.setdefault(PARTS.get(shard.stem.split("-")[0], ""), []).append(len(names))
                names.append(name)
                classes.append(label)
                self._packed.append(packed)
        if "" in members and len(members) > 1:
            raise DataError(f"{printable(path)}: some of these tar files are named after a part and some are not")
        self.names = tuple(names)
        numbers = all(label.isdecimal() for label in classes)
        self.classes = tuple(sorted(set(classes), key=int if numbers else str))
        if len(self.classes) < 2:
            raise DataError(f"{printable(path)}: at least two classes are needed, and there are {len(self.classes)}")
        index = {name: label for label, name in enumerate(self.classes)}
        self.labels = tuple(index[label] for label in classes)
        self.parts = (
            {part: tuple(of) for part, of in members.items()} if "train" in members and len(members) > 1 else {}
        )
        check_all_classes_in_train(self)

    def load(self, number: int) -> Picture:
        packed, name = self._packed[number], self.names[number]
        try:
            with packed.shard.open("rb") as file:
                file.seek(packed.offset)
                content = file.read(packed.size)
        except OSError as error:
            raise DataError(f"{printable(packed.shard)}: this file cannot be read ({error.strerror})") from error
        return decode_image(io.BytesIO(content), name)


def shards_in(path: Path) -> list[Path]:
    """The tar files that ``path`` is, or that lie in it."""
    if os.path.isdir(path):  # unlike Path's, it takes any name
        return sorted(each for each in path.glob("*.tar") if each.is_file())
    return [path] if path.suffix.lower() == ".tar" else []


def _index(shard: Path) -> list[tuple[str, _Packed, str]]:
    """Name, place and class of each image of a shard, in its order; the images themselves are passed over."""
    images: dict[str, tuple[str, _Packed]] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, suffix = splitext(member.name)
                suffix, hidden = suffix.lower(), basename(member.name).startswith(".")
                if hidden or not member.isreg() or (suffix != ".cls" and suffix not in EXTENSIONS):
                    continue
                if key in (classes if suffix == ".cls" else images):
                    raise DataError(f"{printable(shard)}: {printable(member.name)} stands in it twice")
                if suffix == ".cls":
                    read = archive.extractfile(member)
                    classes[key] = "" if read is None else read.read(_LONGEST).decode("utf-8").strip()
                else:
                    images[key] = (member.name, _Packed(shard, member.offset_data, member.size))
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{printable(shard)}: this is not a tar file of images without compression ({reason})"
        ) from error
    for key, (name, _) in images.items():
        if not classes.get(key):
            raise DataError(
                f"{printable(shard)}: the image {printable(name)} has no class, which {printable(key)}.cls would give"
            )
    return [(f"{shard.name}/{name}", packed, classes[key]) for key, (name, packed) in images.items()]
