"""The files of label maps that `hexavit label-maps make` writes: an index, and shards in the safetensors format.

A shard holds, for n images in the order of the data, the tensors

- `logits` (n, k, h, w) in float16 and `classes` (n, k, h, w) in uint16: the highest logits of each position, highest
  first, and their classes as indices into the index's list.
- `images` (n,) in uint64: checksums of the images' content.
- `crc` (n,) in uint32: of each image's logits and classes.

and their names, as JSON, in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hexavit.errors import DataError
from hexavit.files import replacing
from hexavit.images.decode import shown

INDEX = "label_maps.json"
FORMAT = "hexavit label maps, format 1"
_HEADER_LIMIT = 64 << 20


@dataclass(frozen=True)
class Shard:
    """A shard whose header is read.

    Attributes:
        path: the file.
        names: of its images.
        images: checksums of their content, (n,).
        crc: of their maps, (n,).
        shape: k, h, w.
        starts: of `logits` and `classes` in the file, in bytes.
    """

    path: Path
    names: tuple[str, ...]
    images: NDArray[np.uint64]
    crc: NDArray[np.uint32]
    shape: tuple[int, int, int]
    starts: tuple[int, int]

    def read(self, row: int) -> tuple[NDArray[np.float16], NDArray[np.uint16]]:
        """Logits and classes of an image, each (k, h, w).

        Raises:
            DataError: the file cannot be read or is damaged.
        """
        count = int(np.prod(self.shape))
        try:
            with self.path.open("rb") as file:
                parts = []
                for start in self.starts:
                    file.seek(start + 2 * count * row)
                    parts.append(file.read(2 * count))
        except OSError as error:
            raise DataError(f"{shown(self.path)}: these label maps cannot be read ({error.strerror})") from error
        if zlib.crc32(b"".join(parts)) != self.crc[row]:
            raise DataError(f"{shown(self.path)}: the label map of {shown(self.names[row])} is damaged")
        logits, classes = np.frombuffer(parts[0], np.float16), np.frombuffer(parts[1], np.uint16)
        return logits.reshape(self.shape), classes.reshape(self.shape)


def write_shard(
    path: Path,
    names: Sequence[str],
    images: Sequence[str],
    logits: NDArray[np.float16],
    classes: NDArray[np.uint16],
) -> str:
    """Write a shard atomically; returns its checksum.

    Args:
        path: the file.
        names: of the images.
        images: checksums of their content, in hexadecimal digits.
        logits: (n, k, h, w).
        classes: (n, k, h, w).
    """
    from safetensors.numpy import save

    pairs = zip(logits, classes, strict=True)
    tensors: dict[str, NDArray[Any]] = {
        "logits": logits,
        "classes": classes,
        "images": np.array([int(each, 16) for each in images], np.uint64),
        "crc": np.array([zlib.crc32(one.tobytes() + other.tobytes()) for one, other in pairs], np.uint32),
    }
    content = save(tensors, {"names": json.dumps(list(names))})  # one entry: the order of several is random
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def shard_checksum(path: Path) -> str:
    """The checksum of a shard's file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""


def open_shard(path: Path) -> Shard:
    """Read the header of a shard.

    Raises:
        DataError: the file is missing, damaged or cut off.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, _HEADER_LIMIT)))
            begin = 8 + length

            def values(name: str, kind: str) -> NDArray[Any]:
                low, high = header[name]["data_offsets"]
                file.seek(begin + low)
                return np.frombuffer(file.read(high - low), kind)

            starts = tuple(begin + header[name]["data_offsets"][0] for name in ("logits", "classes"))
            end = begin + max(header[name]["data_offsets"][1] for name in ("logits", "classes", "images", "crc"))
            count, *shape = header["logits"]["shape"]
            found = Shard(
                path,
                tuple(json.loads(header["__metadata__"]["names"])),
                values("images", "<u8"),
                values("crc", "<u4"),
                (shape[0], shape[1], shape[2]),
                (starts[0], starts[1]),
            )
        if path.stat().st_size != end or not len(found.names) == len(found.images) == len(found.crc) == count:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{shown(path)}: this shard of label maps is missing or damaged") from error
    return found


def read_index(folder: Path) -> Mapping[str, Any] | None:
    """The content of the index of a folder of label maps, or None if it has none.

    Raises:
        DataError: the index is damaged, or of another format.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise DataError(f"{shown(path)}: these label maps have the format {found['format']!r}, not {FORMAT!r}")
        _ = found["request"]["classes"], found["shards"], found["complete"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown(path)}: this index of label maps is damaged") from error
    return dict(found)
