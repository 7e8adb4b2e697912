"""Labelled images for evaluation: decoded by threads, in batches, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from torch import Tensor

from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.decode import printable
from hexavit.images.prefetch import check_workers, cores, work_ahead
from hexavit.images.preprocess import Transform, stacked


def read_batches(
    source: Source,
    numbers: Sequence[int],
    transform: Transform,
    *,
    batch_size: int,
    workers: int | None = None,
    skipped: dict[str, str] | None = None,
) -> Iterator[tuple[list[int], Tensor | list[Tensor]]]:
    """Yield numbers of images with their batch: transformed and stacked, or in a list if they differ in size.

    Args:
        source: the images.
        numbers: of the images to read.
        transform: from an image to a tensor, such as :meth:`InputSpec.pixels` or :meth:`Predictor.transform` gives it.
        batch_size: B; the last batch may be smaller.
        workers: threads that decode; by default none for images in memory, else one for each processor.
        skipped: receives the name of each image that cannot be read, with the reason; if None, the first is raised.

    Raises:
        DataError: naming the first image that cannot be read.
    """
    threads = check_workers(workers) if workers is not None else 0 if source.hints.in_memory else cores()
    work = partial(_read, source=source, transform=transform)
    read = _readable(source, work_ahead(numbers, work, threads, 2 * batch_size), skipped)
    while chunk := list(islice(read, batch_size)):
        yield [number for number, _ in chunk], stacked([pixels for _, pixels in chunk])


def _read(number: int, *, source: Source, transform: Transform) -> tuple[int, Tensor | DataError]:
    try:
        image = source.load(number)
    except DataError as error:
        return number, error
    try:
        return number, transform(image)
    except DataError as error:
        return number, DataError(f"{printable(source.names[number])}: {error}")


def _readable(
    source: Source, read: Iterator[tuple[int, Tensor | DataError]], skipped: dict[str, str] | None
) -> Iterator[tuple[int, Tensor]]:
    for number, made in read:
        if not isinstance(made, DataError):
            yield number, made
        elif skipped is None:
            raise DataError(f"{made}; --on-bad-image skip leaves such images out")
        else:
            skipped[source.names[number]] = str(made)
