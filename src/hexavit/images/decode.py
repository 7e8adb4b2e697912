"""Decoding of image files, for every command and package: `predict`, `train` and `evaluate` read images here."""

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
from hexavit.images.multichannel import MAX_PILLOW_CHANNELS, NPY, TIFF, MultichannelImage, Picture, read_npy, read_tiff

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Endings, in lower case, of the files in a folder that are images."""

WHITE = 65535
"""The largest value of 16 bits, which is white unless the data uses fewer bits."""

_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What a file may hold, whatever its ending. Pillow would also pass PostScript to an outside program."""

_MODES = {1: "L", 3: "RGB"}
_CONVERTIBLE = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}  # for modes that Pillow does not convert to every other
_16_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_UPPER_BYTES = "hexavit 16 bits"  # key in `Image.info` of a colour image whose 16 bits Pillow cuts to 8
_FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_image(path: str | Path, *, keep_16_bits: bool = False) -> Picture:
    """Decode an image file, upright (EXIF); of an animation, the first frame. Thread-safe.

    The format is found from the content, not from the name.

    Args:
        path: the file.
        keep_16_bits: return a grey image of 16 bits as mode ``I;16``; by default its upper 8 bits as mode ``L``.

    Returns:
        An image of mode L, LA, P, RGB, RGBA, CMYK, ..., which :func:`to_channels` converts to what a model takes. For
        a NumPy array, or a TIFF of more than four channels, a `MultichannelImage`.

    Raises:
        DataError: naming the file, if it is missing, not an image, broken, or too large to be decoded safely.
    """
    path = Path(path)
    check_file(path)
    try:
        with path.open("rb") as file:
            return decode_image(file, str(path), keep_16_bits=keep_16_bits)
    except OSError as error:
        raise DataError(f"{printable(path)}: this file cannot be read ({_reason(error)})") from error


def decode_image(file: BinaryIO, name: str, *, keep_16_bits: bool = False) -> Picture:
    """Decode an open file as :func:`read_image` does; errors call it ``name``.

    Raises:
        DataError: if it is not an image, broken, or too large to be decoded safely.
    """
    try:
        head = file.read(len(NPY))
        file.seek(0)
        if head == NPY:
            return read_npy(file)
        try:
            image = _decode_with_pillow(file)
        except UnidentifiedImageError:
            if head[:4] not in TIFF:
                raise
            file.seek(0)
            return read_tiff(file)
        return image if keep_16_bits or image.mode != "I;16" else to_8_bits(image)
    except DataError as error:
        raise DataError(f"{printable(name)}: {error}") from error
    except Exception as error:  # Pillow's decoders raise almost any exception for a broken file
        raise DataError(f"{printable(name)}: this is not an image that can be read ({_reason(error)})") from error


def _decode_with_pillow(file: BinaryIO) -> Image.Image:
    with _without_warnings(), Image.open(file, formats=_FORMATS) as opened:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and opened.width * opened.height > limit:  # up to twice as many, Pillow only warns
            raise DataError(f"{opened.width} x {opened.height} pixels might be a decompression bomb")
        if opened.format == "TIFF" and _samples(opened) > MAX_PILLOW_CHANNELS:
            raise UnidentifiedImageError
        cut_to_8_bits = any(";16" in str(tile[3]) for tile in opened.tile) and len(opened.getbands()) > 1
        opened.load()
        image, file_format = _upright(opened), opened.format
    if image.mode in _16_BIT_MODES or (image.mode == "I" and file_format in {"PNG", "PPM"}):  # both keep 16 bits in I
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
        return to_8_bits(image) if file_format == "PPM" else image  # Pillow has scaled PPM by its stated maximum
    if image.mode in {"I", "F"}:
        raise DataError("pixels of 32 bits have no agreed range; save it with 8 or 16 bits a channel")
    image = image.convert(_CONVERTIBLE[image.mode]) if image.mode in _CONVERTIBLE else image
    if cut_to_8_bits:
        image.info[_UPPER_BYTES] = True
    return image


def _samples(opened: Any) -> int:
    """Channels of a TIFF; where they are stored in separate planes Pillow takes the first one for all."""
    return int(opened.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))


class _WarningFilters:
    """Warning filters are global to all threads: replaced by the first reading thread, restored by the last.

    Attributes:
        lock: held while the others change.
        readers: number of threads that are reading.
        saved: the filters as they were before the first of them.
    """

    lock = threading.Lock()
    readers = 0
    saved: warnings.catch_warnings[None] | None = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without Pillow's warnings of metadata, which is not used."""
    with _WarningFilters.lock:
        _WarningFilters.readers += 1
        if _WarningFilters.saved is None:
            _WarningFilters.saved = warnings.catch_warnings()
            _WarningFilters.saved.__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _WarningFilters.lock:
            _WarningFilters.readers -= 1
            if not _WarningFilters.readers and _WarningFilters.saved is not None:
                _WarningFilters.saved.__exit__(None, None, None)
                _WarningFilters.saved = None


def printable(path: str | Path) -> str:
    """A path as one printable line: control characters and bytes that are not UTF-8 are written as escapes."""
    text = str(path)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


shown = printable  # the name before


def check_file(path: Path) -> None:
    """Check, without opening it, that a path is a regular file with content: opening a pipe would block.

    Raises:
        DataError: if it is not.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{printable(path)}: there is no such image file") from error
    except (OSError, ValueError) as error:  # a loop of links, a folder without permission, a name too long
        raise DataError(f"{printable(path)}: this file cannot be reached ({_reason(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        kind = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise DataError(f"{printable(path)}: this is {kind}, not an image file")
    if not status.st_size:
        raise DataError(f"{printable(path)}: this file is empty")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # invalid EXIF data turns nothing; the pixels are complete
        return image.copy()


def _reason(error: Exception) -> str:
    """An exception of Pillow or the system in a few words, without the path that the message names already."""
    if isinstance(error, UnidentifiedImageError):
        return f"its content is none of {', '.join(_FORMATS)}"
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
    return printable(" ".join(text.split())).rstrip(".")


def to_8_bits(image: Image.Image, white: int = WHITE) -> Image.Image:
    """A grey image of mode ``I;16`` as mode ``L``, where ``white`` becomes 255; larger values are clipped."""
    values = np.asarray(image).astype(np.uint32) * 256 // (white + 1)
    return Image.fromarray(np.minimum(255, values).astype(np.uint8))


def peak_of_16_bits(image: Picture) -> int | None:
    """The largest value of a 16-bit image that can become grey or RGB; None for all others.

    Pillow keeps the upper 8 bits of colours: for those, it is the largest value with that upper byte.
    """
    if isinstance(image, MultichannelImage):
        return int(image.pixels.max()) if image.channels in _MODES and image.pixels.dtype == np.uint16 else None
    if image.mode == "I;16":
        return int(np.asarray(image).max())
    return int(np.asarray(image)[..., :3].max()) << 8 | 255 if image.info.get(_UPPER_BYTES) else None


def to_channels(image: Picture, channels: int, white: int = WHITE) -> Image.Image:
    """The image with 1 channel (grey) or 3 (RGB) of 8 bits; transparency is dropped, as timm does.

    Args:
        image: of any mode.
        channels: 1 or 3.
        white: the value that is white in images of 16 bits.

    Raises:
        DataError: for an image that cannot be converted, or any other number of channels.
    """
    if channels not in _MODES:
        raise DataError(f"image files give 1 channel (grey) or 3 (RGB), not {channels}")
    if isinstance(image, MultichannelImage):
        image = image.picture(white)
    elif image.mode == "I;16":
        image = to_8_bits(image, white)
    elif white != WHITE and image.info.get(_UPPER_BYTES):
        image = image.point(
            [min(255, value * (WHITE + 1) // (white + 1)) for value in range(256)] * len(image.getbands())
        )
    mode = _MODES[channels]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # without this step, Pillow warns
    return image if image.mode == mode else image.convert(mode)


def to_multichannel(image: Picture, channels: int) -> MultichannelImage:
    """The image for a model that takes neither grey nor RGB: it must have the model's number of channels.

    Raises:
        DataError: if it has more or fewer.
    """
    found = image if isinstance(image, MultichannelImage) else MultichannelImage(np.atleast_3d(np.asarray(image)))
    if found.channels != channels:
        raise DataError(f"the model takes {channels} channels, and this image has {found.channels} ({image.mode})")
    return found


def to_rgb_for_display(image: Picture) -> Image.Image:
    """The image in RGB for people to look at, whatever its channels are; 16 bits are stretched to their own range."""
    if isinstance(image, MultichannelImage):
        return to_channels(image.for_display(), 3)
    peak = peak_of_16_bits(image)
    return to_channels(image, 3, WHITE if peak is None else white_of(peak))


def white_of(peak: int) -> int:
    """The value that is white where the largest value is ``peak``: of the fewest bits, from 8 on, that hold it.

    More than 14 bits are taken for 16: an image may well be darker than its format allows.
    """
    bits = max(8, peak.bit_length())
    return (1 << bits) - 1 if bits <= 14 else WHITE
