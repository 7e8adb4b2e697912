"""What the channels of images are like: how many there are, their mean and their deviation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from hexavit.data.seeding import derive
from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.decode import printable, read_image, to_bands
from hexavit.images.multichannel import Bands
from hexavit.images.preprocess import InputSpec

_MANY = (".npy", ".tif", ".tiff")  # endings of files that may have more channels than a picture
_TRIED, _SAMPLE = 8, 1000  # images


def count_channels(paths: Iterable[Path], otherwise: int = 3) -> int:
    """The channels of the images in these files, as a model should have them.

    Args:
        paths: of the files; only those that may have other channels than a picture are opened, and few of them.
        otherwise: for pictures, which can become grey or RGB as a model wants.
    """
    for path in islice((each for each in paths if each.suffix.lower() in _MANY), _TRIED):
        try:
            image = read_image(path)
        except DataError:  # it is named when all are looked for
            continue
        return image.channels if isinstance(image, Bands) else otherwise
    return otherwise


def check_takes(source: Source, channels: int | None) -> None:
    """Refuse channels that a model was asked to have and the images cannot give: any is grey or RGB, no other is.

    Raises:
        DataError: naming the first image that can be read.
    """
    if channels in (None, 1, 3):
        return
    for number in range(min(_TRIED, len(source.names))):
        try:
            image = source.load(number)
        except DataError:  # it is named when all are looked for
            continue
        try:
            to_bands(image, channels)
        except DataError as error:
            raise DataError(f"{printable(source.names[number])}: {error}") from error
        return


def suited_to(source: Source, numbers: Sequence[int], spec: InputSpec) -> InputSpec:
    """``spec`` with the mean and deviation of images that are neither grey nor RGB, of which nobody knows them.

    Args:
        source: the images.
        numbers: those to train on; of more than 1000, as many are drawn, the same ones on every machine.
        spec: of the model's input; of grey and RGB it is given back as it is.

    Raises:
        DataError: when an image has other channels than the model takes.
    """
    if spec.of_pictures:
        return spec
    drawn = sorted(numbers, key=lambda number: derive(0, "statistics", source.names[number]))[:_SAMPLE]
    plain = replace(spec, crop_pct=1.0).pixels()
    count, total, squares = 0, torch.zeros(spec.channels, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for number in drawn:
        image = source.load(number)
        try:
            values = plain(image).double().flatten(1)  # (C, H W)
        except DataError as error:
            raise DataError(f"{printable(source.names[number])}: {error}") from error
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + values.square().sum(dim=1)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-6] = 1.0  # a channel that is the same everywhere
    return replace(spec, mean=_plain(mean), std=_plain(deviation))


def _plain(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
