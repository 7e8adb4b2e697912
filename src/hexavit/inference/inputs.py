"""Images as a predictor takes them: paths, Pillow images and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hexavit.errors import DataError
from hexavit.images.decode import printable, read_image, to_channels
from hexavit.images.listing import OnError
from hexavit.images.multichannel import MultichannelImage, Picture, from_array
from hexavit.images.preprocess import Transform

Input = str | Path | Image.Image | NDArray[Any] | MultichannelImage
"""An image file, a Pillow image, or an array (H, W) or (H, W, C)."""


def is_one(images: object) -> bool:
    """Whether it is one image, and not several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | Path | Image.Image | MultichannelImage)


def as_batch(images: Any) -> Iterable[Input]:
    """The images as an iterable, also if it is one image."""
    return [images] if is_one(images) else cast("Iterable[Input]", images)


def prepare(numbered: tuple[int, Input], transform: Transform) -> tuple[Path, Tensor | DataError]:
    """A numbered image as the model's input, with its path or number; the error where it cannot be read."""
    number, image = numbered
    path = Path(image) if isinstance(image, str | Path) else None
    try:
        if path is not None:
            return _transformed(path, read_image(path, keep_16_bits=True), transform)
        return _transformed(Path(str(number)), _decoded(image), transform)
    except DataError as error:
        return (path, error) if path else (Path(str(number)), DataError(f"image {number}: {error}"))


def readable(prepared: Iterable[tuple[Path, Tensor | DataError]], on_error: OnError) -> Iterator[tuple[Path, Tensor]]:
    """The images without those that cannot be read, which `on_error` gets."""
    for path, made in prepared:
        if isinstance(made, DataError):
            on_error(made)
        else:
            yield path, made


def bytes_of(image: Picture, channels: int, white: int) -> Tensor:
    """The image as bytes (H, W, C), of its own size."""
    return torch.from_numpy(np.array(np.atleast_3d(np.asarray(to_channels(image, channels, white)))))


def _transformed(path: Path, picture: Picture, transform: Transform) -> tuple[Path, Tensor | DataError]:
    try:
        return path, transform(picture)
    except DataError as error:
        return path, DataError(f"{printable(path)}: {error}")


def _decoded(image: object) -> Picture:
    if isinstance(image, np.ndarray):
        return from_array(image)
    if not isinstance(image, Image.Image | MultichannelImage):
        raise DataError(f"an image is a path, a Pillow image or an array, not {type(image).__name__}")
    return image
