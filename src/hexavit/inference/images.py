"""Image files: found, opened and brought to the channels that a model wants; what cannot be read is named."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hexavit.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, by which a file inside a folder is taken for an image."""

_MODES = {1: "L", 3: "RGB"}
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L"})


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file, upright (EXIF) and with 8 bits a channel; of an animation, the first frame.

    Returns:
        An image of mode L, LA, P, RGB, RGBA, CMYK, ...; :func:`to_channels` makes of it what a model wants.

    Raises:
        DataError: naming the file, when it is missing, no image, broken, or too large to be decoded safely.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such image file")
    try:
        with warnings.catch_warnings():
            # Pillow only warns of sizes that are suspicious; to decode those is not safe either.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.load()
                image = ImageOps.exif_transpose(opened)
    except Exception as error:  # the decoders answer a broken file with almost any exception
        reason = str(error).replace(repr(str(path)), "it").replace("\n", " ").rstrip(".") or type(error).__name__
        raise DataError(f"{path}: this is not an image that can be read ({reason})") from error
    if image.mode in _SIXTEEN_BITS:
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise DataError(f"{path}: pixels of 32 bits have no agreed range; save it with 8 or 16 bits a channel")
    return image


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image with that many channels of 8 bits: 1 (grey) or 3 (RGB); transparency is dropped, as timm does.

    Raises:
        DataError: for any other number of channels.
    """
    check_channels(channels)
    mode = _MODES[channels]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight from a palette, Pillow warns and guesses
    return image if image.mode == mode else image.convert(mode)


def check_channels(channels: int) -> None:
    """Refuse a number of channels that image files cannot give.

    Raises:
        DataError: unless ``channels`` is 1 or 3.
    """
    if channels not in _MODES:
        raise DataError(f"image files give 1 channel (grey) or 3 (RGB), not {channels}")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files meant by ``paths``: files as given, folders searched in depth, in sorted order.

    Raises:
        DataError: when a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(images_under(path))
            if not inside:
                raise DataError(f"{path}: this folder holds no image ({', '.join(sorted(EXTENSIONS))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return found


def images_under(folder: Path) -> Iterator[Path]:
    """Every file in and below ``folder`` that has an image's ending, sorted; hidden ones and linked folders not."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)
