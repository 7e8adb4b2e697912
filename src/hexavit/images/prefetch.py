"""Decoding of images by threads while the model computes, a bounded number of images ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from hexavit.errors import DataError, HexavitError
from hexavit.images.decode import printable, read_image
from hexavit.images.preprocess import Transform

Item = TypeVar("Item")
Result = TypeVar("Result")
Decoded = tuple[Path, Tensor | DataError]
"""A file, and its tensor or the error."""


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int) -> int:
    """The number of threads or processes that the user gave.

    Raises:
        HexavitError: if it is negative.
    """
    if workers < 0:
        raise HexavitError(f"the number of workers must be 0 or more, not {workers}")
    return workers


def work_ahead(items: Iterable[Item], work: Callable[[Item], Result], threads: int, ahead: int) -> Iterator[Result]:
    """Map ``work`` over ``items`` in order with threads, at most ``ahead`` items before the result is needed.

    Threads serve as well as processes, since Pillow releases Python's global lock while it decodes and resizes; they
    start at once and copy nothing.

    Args:
        items: taken one at a time, as they are worked on.
        work: the function.
        threads: number of threads; with 0, each item is worked on when its result is needed.
        ahead: number of results, finished or not, that may wait.
    """
    if threads == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decode_ahead(paths: Iterable[Path], transform: Transform, threads: int, ahead: int) -> Iterator[Decoded]:
    """Decode and transform files in order, by :func:`work_ahead`."""
    return work_ahead(paths, partial(_decode, transform=transform), threads, ahead)


def _decode(path: Path, transform: Transform) -> Decoded:
    try:
        image = read_image(path, keep_16_bits=True)
    except DataError as error:
        return path, error
    try:
        return path, transform(image)
    except DataError as error:
        return path, DataError(f"{printable(path)}: {error}")
