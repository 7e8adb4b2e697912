"""One pass over all images before they are used: which can be read, their sizes, and which are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.checksum import pixel_checksum
from hexavit.images.decode import peak_of_16_bits
from hexavit.images.prefetch import check_workers, cores, work_ahead


@dataclass(frozen=True)
class ScannedImage:
    """What a scan found of one image.

    Attributes:
        number: of the image in its source.
        size: height and width in pixels; None if it cannot be read.
        mode: Pillow's name of its channels, such as ``RGB``; empty if it cannot be read.
        peak: the largest value, of an image of 16 bits.
        pixels: checksum of its pixels: equal for one picture in two file formats without loss.
        checksum: of its content: equal for copies.
        fault: the message, if it cannot be read.
    """

    number: int
    size: tuple[int, int] | None = None
    mode: str = ""
    peak: int | None = None
    pixels: str = ""
    checksum: str = ""
    fault: str | None = None


def scan(source: Source, numbers: Sequence[int] | None = None, workers: int | None = None) -> list[ScannedImage]:
    """Decode images, each once; one that cannot be read is recorded, not raised.

    Args:
        source: the images; their checksums are kept in it.
        numbers: of the images to decode; by default all.
        workers: threads; by default one for each processor.

    Returns:
        One entry for each image, in the given order.
    """
    numbers = range(len(source.names)) if numbers is None else numbers
    threads = cores() if workers is None else check_workers(workers)
    scanned = list(work_ahead(numbers, partial(_scan, source), threads, 4 * threads))
    source.checksums.update({each.number: each.checksum for each in scanned})
    return scanned


def _scan(source: Source, number: int) -> ScannedImage:
    try:
        image = source.load(number)
        checksum = source.checksum(number)
    except DataError as error:
        return ScannedImage(number, fault=str(error))
    size = (image.height, image.width)
    return ScannedImage(number, size, image.mode, peak_of_16_bits(image), pixel_checksum(image), checksum)
