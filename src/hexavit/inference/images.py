"""Image files: found, opened and brought to the channels that a model wants; what cannot be read is named."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hexavit.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, by which a file inside a folder is taken for an image."""

_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What a file may hold, whatever its ending. Pillow would also hand PostScript to an outside program."""

_MODES = {1: "L", 3: "RGB"}
_PLAINER = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that Pillow does not convert to every other
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file, upright (EXIF) and with 8 bits a channel; of an animation, the first frame.

    What the file is, its content says and not its name.

    Returns:
        An image of mode L, LA, P, RGB, RGBA, CMYK, ...; :func:`to_channels` makes of it what a model wants.

    Raises:
        DataError: naming the file, when it is missing, no image, broken, or too large to be decoded safely.
    """
    path = Path(path)
    _check_file(path)
    return decode_image(path, str(path))


def decode_image(file: Path | BinaryIO, name: str) -> Image.Image:
    """What :func:`read_image` does, of a file that may be open already; a refusal calls it ``name``.

    Raises:
        DataError: when it is no image, broken, or too large to be decoded safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata, which is not what is read
            # Of sizes that are suspicious it only warns; to decode those is not safe either.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as opened:
                opened.load()
                image, kind = _upright(opened), opened.format
        return _eight_bits(image, kind)
    except DataError as error:
        raise DataError(f"{shown(name)}: {error}") from error
    except Exception as error:  # the decoders answer a broken file with almost any exception
        raise DataError(f"{shown(name)}: this is not an image that can be read ({_reason(error)})") from error


def shown(path: str | Path) -> str:
    """A path as one printable line: control characters and bytes that are no UTF-8 are written as escapes."""
    text = str(path)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _check_file(path: Path) -> None:
    """Refuse what is no regular file without opening it: to open a pipe would wait for a writer."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)}: there is no such image file") from error
    except (OSError, ValueError) as error:  # a ring of links, a folder without permission, a name too long
        raise DataError(f"{shown(path)}: this file cannot be reached ({_reason(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"{shown(path)}: this is {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not an image file"
        )
    if not status.st_size:
        raise DataError(f"{shown(path)}: this file is empty")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF data that is garbage turns nothing, and the pixels are whole
        return image.copy()


def _eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and kind in {"PNG", "PPM"}):  # both keep 16 bits in I
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise DataError("pixels of 32 bits have no agreed range; save it with 8 or 16 bits a channel")
    return image.convert(_PLAINER[image.mode]) if image.mode in _PLAINER else image


def _reason(error: Exception) -> str:
    """An exception of Pillow or of the system in a few words, without the path that the sentence names already."""
    if isinstance(error, UnidentifiedImageError):
        return f"its content is none of {', '.join(_FORMATS)}"
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    return shown(" ".join(text.split())).rstrip(".")


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
        DataError: when a path does not exist or cannot be listed, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(images_under(path))
            if not inside:
                raise DataError(f"{shown(path)}: this folder holds no image ({', '.join(sorted(EXTENSIONS))})")
            found += inside
        elif os.path.lexists(path):  # a link that leads nowhere is named when it is read
            found.append(path)
        else:
            raise DataError(f"{shown(path)}: there is no such file or folder")
    return found


def images_under(folder: Path) -> Iterator[Path]:
    """Every file in and below ``folder`` that has an image's ending, sorted; hidden ones and linked folders not.

    Raises:
        DataError: when a folder cannot be listed.
    """
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{shown(error.filename)}: this folder cannot be listed ({_reason(error)})") from error
