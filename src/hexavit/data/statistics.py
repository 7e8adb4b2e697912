"""Statistics of images: number of channels, range of 16-bit values, mean and standard deviation of each channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from hexavit.data.seeding import derive
from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.decode import (
    WHITE,
    peak_of_16_bits,
    printable,
    read_image,
    to_channels,
    to_multichannel,
    white_of,
)
from hexavit.images.multichannel import MultichannelImage, Picture
from hexavit.images.preprocess import InputSpec

_MAY_BE_MULTICHANNEL = (".npy", ".tif", ".tiff")  # endings of files that may have more channels than a picture
_TRIED, _SAMPLE = 8, 1000  # images
_GREY = frozenset({"1", "L", "LA", "La", "I;16"})  # Pillow's modes
_COMPARED = 256  # pixels of a side


def count_channels(paths: Iterable[Path], otherwise: int = 3) -> int:
    """The number of channels that a model for these files should take.

    Args:
        paths: of the files; only the first few that may have other channels than a picture are opened.
        otherwise: the number for pictures, which can become grey or RGB.
    """
    for path in islice((each for each in paths if each.suffix.lower() in _MAY_BE_MULTICHANNEL), _TRIED):
        try:
            image = read_image(path)
        except DataError:  # reported when all images are scanned
            continue
        return image.channels if isinstance(image, MultichannelImage) else otherwise
    return otherwise


def is_grey(image: Picture) -> bool:
    """Whether a picture has no colour, also if its file stores three equal channels; of a large one, a grid is read."""
    if isinstance(image, MultichannelImage):
        return image.channels == 1
    if image.mode in _GREY:
        return True
    grid = image.resize((min(image.width, _COMPARED), min(image.height, _COMPARED)), 0)  # 0: nearest pixels
    pixels = np.asarray(to_channels(grid, 3))
    return bool((pixels == pixels[..., :1]).all())


def check_takes(source: Source, channels: int | None) -> None:
    """Check that the images can have the channels that the user asked for: 1, 3, or their own number.

    Raises:
        DataError: naming the first image that can be read.
    """
    if channels in (None, 1, 3):
        return
    for number, image in readable(source, range(min(_TRIED, len(source.names)))):
        try:
            to_multichannel(image, channels)
        except DataError as error:
            raise DataError(f"{printable(source.names[number])}: {error}") from error
        return


def suited_to(source: Source, numbers: Sequence[int], spec: InputSpec) -> InputSpec:
    """``spec`` with what only the images themselves can tell.

    For grey and RGB that is the value of white, where 16-bit images use fewer bits; for other channels, their mean and
    deviation.

    Args:
        source: the images.
        numbers: of the training images; of more than 1000, a fixed sample of 1000 is read.
        spec: of the model's input.

    Raises:
        DataError: if an image has other channels than the model takes.
    """
    sample = sorted(numbers, key=lambda number: derive(0, "statistics", source.names[number]))[:_SAMPLE]
    if spec.of_pictures:
        white = _white(source, sample)
        return spec if white == spec.white else replace(spec, white=white)
    mean, std = _moments(source, sample, spec)
    return replace(spec, mean=mean, std=std)


def _white(source: Source, sample: Sequence[int]) -> int:
    """The value that is white in the 16-bit images of a sample; the first images decide whether there are any."""
    peaks = [peak_of_16_bits(image) for _, image in readable(source, sample[:_TRIED])]
    if any(peak is not None for peak in peaks):
        peaks += [peak_of_16_bits(image) for _, image in readable(source, sample[_TRIED:])]
    found = [peak for peak in peaks if peak is not None]
    return white_of(max(found)) if found else WHITE


def readable(source: Source, numbers: Iterable[int]) -> Iterator[tuple[int, Picture]]:
    """Those of the numbered images that can be read; the others are reported when all images are scanned."""
    for number in numbers:
        try:
            yield number, source.load(number)
        except DataError:
            continue


def _moments(source: Source, sample: Sequence[int], spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over all pixels of the resized images."""
    resized = replace(spec, crop_pct=1.0).pixels()
    count, total, squares = 0, torch.zeros(spec.channels, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for number, image in readable(source, sample):
        try:
            values = resized(image).double().flatten(1)  # (C, H W)
        except DataError as error:
            raise DataError(f"{printable(source.names[number])}: {error}") from error
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + values.square().sum(dim=1)
    if not count:
        raise DataError(f"{source.place}: no image can be read")
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-6] = 1.0  # a constant channel
    return _rounded(mean), _rounded(deviation)


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
