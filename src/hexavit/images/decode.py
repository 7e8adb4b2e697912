"""Image files: opened, and brought to the channels that a model wants; what cannot be read is named."""

from __future__ import annotations

import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from hexavit.errors import DataError
from hexavit.images.multichannel import NPY, PICTURE, TIFF, Bands, Picture, read_npy, read_tiff

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
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


def read_image(path: str | Path) -> Picture:
    """Decode an image file, upright (EXIF) and with 8 bits a channel; of an animation, the first frame.

    What the file is, its content says and not its name. Several threads may read at once.

    Returns:
        An image of mode L, LA, P, RGB, RGBA, CMYK, ...; :func:`to_channels` makes of it what a model wants. For an
        array of NumPy's, or a TIFF of more than four channels, `Bands`.

    Raises:
        DataError: naming the file, when it is missing, no image, broken, or too large to be decoded safely.
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as file:
            return decode_image(file, str(path))
    except OSError as error:
        raise DataError(f"{printable(path)}: this file cannot be read ({_reason(error)})") from error


def decode_image(file: BinaryIO, name: str) -> Picture:
    """What :func:`read_image` does, of a file that is open already; a refusal calls it ``name``.

    Raises:
        DataError: when it is no image, broken, or too large to be decoded safely.
    """
    try:
        head = file.read(len(NPY))
        file.seek(0)
        if head == NPY:
            return read_npy(file)
        try:
            return _picture(file)
        except UnidentifiedImageError:
            if head[:4] not in TIFF:
                raise
            file.seek(0)
            return read_tiff(file)
    except DataError as error:
        raise DataError(f"{printable(name)}: {error}") from error
    except Exception as error:  # the decoders answer a broken file with almost any exception
        raise DataError(f"{printable(name)}: this is not an image that can be read ({_reason(error)})") from error


def _picture(file: BinaryIO) -> Image.Image:
    with _quiet(), Image.open(file, formats=_FORMATS) as opened:
        largest = Image.MAX_IMAGE_PIXELS
        if largest is not None and opened.width * opened.height > largest:  # of twice as many Pillow only warns
            raise DataError(f"{opened.width} x {opened.height} pixels might be a decompression bomb")
        if opened.format == "TIFF" and _samples(opened) > PICTURE:
            raise UnidentifiedImageError
        opened.load()
        image, kind = _upright(opened), opened.format
    return _eight_bits(image, kind)


def _samples(opened: Any) -> int:
    """Of a pixel of a TIFF; where they lie in planes of their own Pillow takes the first for all."""
    return int(opened.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))


class _Hush:
    """Who reads right now, and what is put back when nobody does: Python's filters of warnings belong to all threads.

    Attributes:
        lock: held while the others change.
        readers: how many threads read.
        filters: as they were before the first of them.
    """

    lock = threading.Lock()
    readers = 0
    filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's remarks on metadata, which is not what is read."""
    with _Hush.lock:
        _Hush.readers += 1
        if _Hush.filters is None:
            _Hush.filters = warnings.catch_warnings()
            _Hush.filters.__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _Hush.lock:
            _Hush.readers -= 1
            if not _Hush.readers and _Hush.filters is not None:
                _Hush.filters.__exit__(None, None, None)
                _Hush.filters = None


def printable(path: str | Path) -> str:
    """A path as one printable line: control characters and bytes that are no UTF-8 are written as escapes."""
    text = str(path)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


shown = printable  # the name before


def _check_file(path: Path) -> None:
    """Refuse what is no regular file without opening it: to open a pipe would wait for a writer."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{printable(path)}: there is no such image file") from error
    except (OSError, ValueError) as error:  # a ring of links, a folder without permission, a name too long
        raise DataError(f"{printable(path)}: this file cannot be reached ({_reason(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"{printable(path)}: this is {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not an image file"
        )
    if not status.st_size:
        raise DataError(f"{printable(path)}: this file is empty")


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
    return printable(" ".join(text.split())).rstrip(".")


def to_channels(image: Picture, channels: int) -> Image.Image:
    """The image with that many channels of 8 bits: 1 (grey) or 3 (RGB); transparency is dropped, as timm does.

    Raises:
        DataError: for an image that cannot become so, or any other number of channels.
    """
    if channels not in _MODES:
        raise DataError(f"image files give 1 channel (grey) or 3 (RGB), not {channels}")
    image = image.picture() if isinstance(image, Bands) else image
    mode = _MODES[channels]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight from a palette, Pillow warns and guesses
    return image if image.mode == mode else image.convert(mode)


def to_bands(image: Picture, channels: int) -> Bands:
    """The image for a model whose channels are neither grey nor RGB: it must have as many itself.

    Raises:
        DataError: when it has more or fewer.
    """
    bands = image if isinstance(image, Bands) else Bands(np.atleast_3d(np.asarray(image)))
    if bands.channels != channels:
        raise DataError(f"the model takes {channels} channels, and this image has {bands.channels} ({image.mode})")
    return bands


def as_drawn(image: Picture) -> Image.Image:
    """The image in RGB for human eyes, whatever its channels are."""
    return to_channels(image.shown() if isinstance(image, Bands) else image, 3)
