"""Checksums of images: of the encoded bytes, which survive copying and renaming, and of the decoded pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hexavit.errors import DataError
from hexavit.images.decode import check_file, printable
from hexavit.images.multichannel import Picture

_BYTES = 8  # of a checksum; two of a million different images share one with a probability of 3e-8


def file_checksum(path: Path) -> str:
    """The checksum of an image file.

    Raises:
        DataError: if it is not a regular file, or cannot be read.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _blake2b).hexdigest()
    except OSError as error:
        raise DataError(f"{printable(path)}: this file cannot be read ({error.strerror})") from error


def bytes_checksum(content: bytes) -> str:
    """The checksum of an image file with this content."""
    return _blake2b(content).hexdigest()


def pixel_checksum(image: Picture) -> str:
    """The checksum of the pixels: equal for one picture in two file formats without loss."""
    checksum = _blake2b(f"{image.mode} {image.size}".encode())
    checksum.update(image.tobytes())
    return checksum.hexdigest()


def _blake2b(content: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=_BYTES)
