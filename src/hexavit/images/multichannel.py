"""Images of any number of channels, which Pillow cannot hold: NumPy's arrays in files, and TIFF of many samples."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hexavit.errors import DataError

NPY, TIFF = b"\x93NUMPY", (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""How such files begin."""

PICTURE = 4
"""Channels that a picture of Pillow's has at most."""

_LARGEST = 2**29  # bytes of pixels
_WHOLE = {"uint8": 255.0, "uint16": 65535.0}  # the values that stand for 1


@dataclass(frozen=True)
class Bands:
    """An image as an array, with what a picture of Pillow's has too.

    Attributes:
        pixels: (H, W, C), of whole numbers or floats.
    """

    pixels: NDArray[Any]

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in Pillow's order."""
        return self.width, self.height

    @property
    def channels(self) -> int:
        """How many there are."""
        return int(self.pixels.shape[2])

    @property
    def mode(self) -> str:
        """The channels in words, such as ``6 x uint16``."""
        return f"{self.channels} x {self.pixels.dtype.name}"

    def tobytes(self) -> bytes:
        """The pixels."""
        return self.pixels.tobytes()

    def fractions(self) -> NDArray[np.float32]:
        """(C, H, W): 8 and 16 bits as fractions of their largest value, all else as it stands."""
        values = np.ascontiguousarray(self.pixels.transpose(2, 0, 1)).astype(np.float32)
        return values / np.float32(_WHOLE.get(self.pixels.dtype.name, 1.0))

    def picture(self) -> Image.Image:
        """One or three channels of 8 or 16 bits as Pillow's picture of 8.

        Raises:
            DataError: when they are others.
        """
        if self.channels not in (1, 3) or self.pixels.dtype.name not in _WHOLE:
            raise DataError(f"an image of {self.mode} cannot become grey or RGB; a model of its channels could take it")
        pixels = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else np.ascontiguousarray(pixels))

    def shown(self) -> Image.Image:
        """For human eyes: the first three channels (or the first), each from its 2nd to its 98th percentile."""
        chosen = self.pixels[:, :, : 3 if self.channels >= 3 else 1].astype(np.float64)
        low, high = (np.percentile(chosen, share, axis=(0, 1)) for share in (2, 98))
        stretched = (255 * np.clip((chosen - low) / np.maximum(high - low, 1e-12), 0, 1)).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(stretched) if stretched.shape[2] == 3 else stretched[:, :, 0])


Picture = Image.Image | Bands
"""An image that has been read: Pillow's, or one of channels that Pillow cannot hold."""


def read_npy(file: BinaryIO) -> Bands:
    """The array (H, W) or (H, W, C) in a ``.npy`` file, which is never unpickled.

    Raises:
        DataError: when it is cut off, of another shape or type, too large, or holds what is no number.
    """
    form = np.lib.format
    version = form.read_magic(file)
    read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, by_columns, kind = read_header(file)
    if kind.kind not in "uif":
        raise DataError(f"this array holds {kind}, not numbers")
    needed, begin = math.prod(shape) * kind.itemsize, file.tell()
    if needed > _LARGEST:
        raise DataError(f"this array would take {needed / 2**30:.1f} GiB")
    content = file.read(needed)  # before the memory of an array is taken: the header may lie
    if len(content) < needed or begin == 0:
        raise DataError("this array is truncated")
    array = np.frombuffer(content, kind).reshape(shape, order="F" if by_columns else "C")
    return _bands(array[:, :, None] if array.ndim == 2 else array)


def read_tiff(file: BinaryIO) -> Bands:
    """The first image of a TIFF file whose pixels have more samples than Pillow takes.

    Raises:
        DataError: when it has not, it is too large, or ``tifffile`` is not there.
    """
    try:
        tifffile = import_module("tifffile")
    except ImportError as error:
        raise DataError("a TIFF of more than four channels needs tifffile: pip install 'hexavit[tiff]'") from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its remarks on broken tags
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0]
        channels, height, width = page.samplesperpixel, page.imagelength, page.imagewidth
        if channels <= PICTURE or page.bitspersample not in (8, 16, 32, 64):
            raise DataError("this TIFF has neither the channels of a picture nor more, of 8 bits or more")
        if math.prod(page.shape) != height * width * channels:
            raise DataError("this TIFF holds a volume, not an image")
        if height * width * channels * page.bitspersample // 8 > _LARGEST:
            raise DataError("this TIFF is too large to be decoded safely")
        array = page.asarray()
    return _bands(np.moveaxis(array, 0, -1) if page.axes == "SYX" else array)


def _bands(array: NDArray[Any]) -> Bands:
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"an image is an array of height, width and channels, not of {tuple(array.shape)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("some of its values are no finite numbers")
    if array.dtype.kind == "f":
        return Bands(array.astype(np.float32, copy=False))
    return Bands(array.astype(array.dtype.newbyteorder("="), copy=False))
