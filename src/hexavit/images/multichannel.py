"""Images with more channels than Pillow holds: NumPy arrays in files, and TIFF with more than four samples a pixel."""

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
"""The first bytes of such files."""

MAX_PILLOW_CHANNELS = 4

_MAX_BYTES = 2**29  # of pixels
_LARGEST = {"uint8": 255.0, "uint16": 65535.0}  # the value that becomes the fraction 1


@dataclass(frozen=True)
class MultichannelImage:
    """An image as an array, with the attributes that a Pillow image has too.

    Attributes:
        pixels: (H, W, C), integers or floats.
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
        """C."""
        return int(self.pixels.shape[2])

    @property
    def mode(self) -> str:
        """Channels and data type, such as ``6 x uint16``."""
        return f"{self.channels} x {self.pixels.dtype.name}"

    def tobytes(self) -> bytes:
        """The pixels."""
        return self.pixels.tobytes()

    def fractions(self) -> NDArray[np.float32]:
        """(C, H, W): 8 and 16 bits as fractions of their largest value, other types unchanged."""
        values = np.ascontiguousarray(self.pixels.transpose(2, 0, 1)).astype(np.float32)
        return values / np.float32(_LARGEST.get(self.pixels.dtype.name, 1.0))

    def picture(self, white: int = 65535) -> Image.Image:
        """One or three channels of 8 or 16 bits as a Pillow image of 8 bits.

        Args:
            white: the value of 16 bits that becomes 255.

        Raises:
            DataError: for other channels or types.
        """
        if self.channels not in (1, 3) or self.pixels.dtype.name not in _LARGEST:
            raise DataError(f"an image of {self.mode} cannot become grey or RGB; a model of its channels could take it")
        pixels = self.pixels
        if pixels.dtype != np.uint8:
            pixels = np.minimum(255, pixels.astype(np.uint32) * 256 // (white + 1)).astype(np.uint8)
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else np.ascontiguousarray(pixels))

    def for_display(self) -> Image.Image:
        """The first three channels (or the first), each stretched from its 2nd to its 98th percentile."""
        chosen = self.pixels[:, :, : 3 if self.channels >= 3 else 1].astype(np.float64)
        low, high = (np.percentile(chosen, share, axis=(0, 1)) for share in (2, 98))
        stretched = (255 * np.clip((chosen - low) / np.maximum(high - low, 1e-12), 0, 1)).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(stretched) if stretched.shape[2] == 3 else stretched[:, :, 0])


Picture = Image.Image | MultichannelImage
"""A decoded image: Pillow's, or one with channels that Pillow cannot hold."""


def read_npy(file: BinaryIO) -> MultichannelImage:
    """The array (H, W) or (H, W, C) in a ``.npy`` file, without unpickling anything.

    Raises:
        DataError: if it is truncated, of another shape or type, too large, or holds values that are not finite.
    """
    npy = np.lib.format
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    if dtype.kind not in "uif":
        raise DataError(f"this array holds {dtype}, not numbers")
    needed = math.prod(shape) * dtype.itemsize
    if needed > _MAX_BYTES:
        raise DataError(f"this array would take {needed / 2**30:.1f} GiB")
    content = file.read(needed)  # before an array is allocated: the header may be wrong
    if len(content) < needed:
        raise DataError("this array is truncated")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
    return from_array(array)


def from_array(array: NDArray[Any]) -> MultichannelImage:
    """An array (H, W) or (H, W, C) of integers or floats as an image.

    Raises:
        DataError: it has another shape or type, or values that are not finite.
    """
    if array.dtype.kind not in "uif":
        raise DataError(f"this array holds {array.dtype}, not numbers")
    return _checked(array[:, :, None] if array.ndim == 2 else array)


def read_tiff(file: BinaryIO) -> MultichannelImage:
    """The first page of a TIFF file with more samples a pixel than Pillow takes.

    Raises:
        DataError: if it has fewer, is too large, or ``tifffile`` is not installed.
    """
    try:
        tifffile = import_module("tifffile")
    except ImportError as error:
        raise DataError("a TIFF of more than four channels needs tifffile: pip install 'hexavit[tiff]'") from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs broken tags
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0]
        channels, height, width = page.samplesperpixel, page.imagelength, page.imagewidth
        if channels <= MAX_PILLOW_CHANNELS or page.bitspersample not in (8, 16, 32, 64):
            raise DataError("this TIFF is not one of more than four channels of 8, 16, 32 or 64 bits")
        if math.prod(page.shape) != height * width * channels:
            raise DataError("this TIFF holds a volume, not an image")
        if height * width * channels * page.bitspersample // 8 > _MAX_BYTES:
            raise DataError("this TIFF is too large to be decoded safely")
        array = page.asarray()
    return _checked(np.moveaxis(array, 0, -1) if page.axes == "SYX" else array)


def _checked(array: NDArray[Any]) -> MultichannelImage:
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"an image is an array of height, width and channels, not of {tuple(array.shape)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("some of its values are no finite numbers")
    if array.dtype.kind == "f":
        return MultichannelImage(array.astype(np.float32, copy=False))
    return MultichannelImage(array.astype(array.dtype.newbyteorder("="), copy=False))
