"""Label maps: class logits at each position of an image, in files of one image each or in shards."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hexavit.data.source import Source
from hexavit.data.split import image_checksums
from hexavit.errors import DataError
from hexavit.images.decode import shown
from hexavit.teachers.shards import INDEX, Shard, open_shard, read_index

_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, AttributeError, EOFError)  # raised by readers
_SAMPLE = 64  # images whose content is compared where all names are found


class LabelMaps:
    """The label maps of a data set's images, read one at a time.

    Two formats are read:

    - **shards**, as `hexavit label-maps make` writes them. Images are found by name if a sample of them has the same
      content, else all by content, so that data may be moved and renamed. Each map has a checksum.
    - **one file per image**, the format that zihangJiang/TokenLabeling released. The map of `a/b.png` is `a/b.pt` or
      `a/b.npy`, of shape (2, k, n, n): the k highest logits of each of n x n cells of the whole image, and their class
      indices in the data. The path may lack the folder of the split (`train`).

    Args:
        folder: folder of the maps.
        source: the images.
        numbers: indices of the images that need a map.

    Attributes:
        shape: (2, k, h, w).

    Raises:
        DataError: the folder does not exist or is incomplete, an image has no map, or the maps are of other classes.
    """

    def __init__(self, folder: str | Path, source: Source, numbers: Sequence[int]) -> None:
        if not Path(folder).is_dir():
            raise DataError(f"{shown(folder)}: there is no such folder of label maps")
        sharded = (Path(folder) / INDEX).is_file()
        self._maps: _Shards | _Files = (_Shards if sharded else _Files)(Path(folder), source, numbers)
        self.shape = (2, *self._maps.shape)

    def load(self, number: int) -> Tensor:
        """Read the map of an image, (2, k, h, w) in float32.

        Raises:
            DataError: the file is damaged, has another shape than the first map, or a class index that is too large.
        """
        return self._maps.load(number)


class _Files:
    """Maps in files of one image each."""

    def __init__(self, folder: Path, source: Source, numbers: Sequence[int]) -> None:
        self.folder, self.source = folder, source
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
        self.shape = tuple(self._read(self.files[numbers[0]]).shape[1:])

    def _find(self, name: str) -> Path | None:
        inside = Path(name)
        for path in (inside, Path(*inside.parts[1:])) if len(inside.parts) > 1 else (inside,):
            for suffix in (".pt", ".npy"):
                file = (self.folder / path).with_suffix(suffix)
                if file.is_file():
                    return file
        return None

    def load(self, number: int) -> Tensor:
        found = self._read(self.files[number])
        if found.shape[1:] != self.shape:
            shape = (2, *self.shape)
            raise DataError(
                f"{shown(self.files[number])}: label map of shape {tuple(found.shape)}, where others have {shape}"
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


class _Shards:
    """Maps in shards with an index."""

    def __init__(self, folder: Path, source: Source, numbers: Sequence[int]) -> None:
        index = read_index(folder)
        assert index is not None
        if not index["complete"]:
            raise DataError(
                f"{shown(folder)}: these label maps are incomplete: the same `hexavit label-maps make` continues"
            )
        classes = index["request"]["classes"]
        if sorted(classes) != sorted(source.classes):
            raise DataError(
                f"{shown(folder)}: these label maps have the classes {', '.join(map(shown, classes[:5]))}, ... "
                f"({len(classes)}), and the data has others: make label maps of this data"
            )
        self.shards = [open_shard(folder / each["file"]) for each in index["shards"] if each["images"]]
        self.shape = self.shards[0].shape
        if any(shard.shape != self.shape for shard in self.shards):
            raise DataError(f"{shown(folder)}: the shards of these label maps have maps of different shapes")
        self._classes = np.array([source.classes.index(name) for name in classes], np.float32)
        self._rows = self._match(folder, source, numbers)

    def _match(self, folder: Path, source: Source, numbers: Sequence[int]) -> dict[int, tuple[Shard, int]]:
        """The row of each image."""
        rows = [(shard, row) for shard in self.shards for row in range(len(shard.names))]
        by_name = {shard.names[row]: (shard, row) for shard, row in rows}
        if all(source.names[number] in by_name for number in numbers):
            found = {number: by_name[source.names[number]] for number in numbers}
            checksums = image_checksums(source, (sample := numbers[:: -(-len(numbers) // _SAMPLE)]))
            if all(checksums[number] == _content(*found[number]) for number in sample):
                return found
        by_content = {_content(shard, row): (shard, row) for shard, row in rows}
        checksums = image_checksums(source, numbers)
        lacking = [number for number in numbers if checksums[number] not in by_content]
        if lacking:
            raise DataError(
                f"{shown(folder)}: {len(lacking)} of {len(numbers)} images have no label map, such as "
                f"{shown(source.names[lacking[0]])}: these label maps are of other data"
            )
        return {number: by_content[checksums[number]] for number in numbers}

    def load(self, number: int) -> Tensor:
        shard, row = self._rows[number]
        logits, classes = shard.read(row)
        return torch.from_numpy(np.stack((logits.astype(np.float32), self._classes[classes])))


def _content(shard: Shard, row: int) -> str:
    """The checksum of an image's content, in hexadecimal digits."""
    return f"{int(shard.images[row]):016x}"
