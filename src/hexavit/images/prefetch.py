"""Images decoded by threads while the model computes, a bounded number ahead of it."""

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
Done = TypeVar("Done")
Decoded = tuple[Path, Tensor | DataError]
"""A file with what it became, or why it did not."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def not_negative(workers: int) -> int:
    """A number of threads or processes that were asked for.

    Raises:
        HexavitError: below 0.
    """
    if workers < 0:
        raise HexavitError(f"the workers are 0 or more, not {workers}")
    return workers


def work_ahead(items: Iterable[Item], work: Callable[[Item], Done], threads: int, ahead: int) -> Iterator[Done]:
    """``work`` on each item, in order, by threads, not more than ``ahead`` items before their turn.

    Threads do it, not processes: Pillow lets go of Python's lock while it decodes and scales, so they are as quick,
    start at once and copy nothing.

    Args:
        items: no more of them are taken than are worked on.
        work: what is done.
        threads: that do it; with 0 it is done when its turn comes.
        ahead: results, or work on them, that wait.
    """
    if threads == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
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
    """Decode files in order, as :func:`work_ahead` works."""
    return work_ahead(paths, partial(_decoded, transform=transform), threads, ahead)


def _decoded(path: Path, transform: Transform) -> Decoded:
    try:
        image = read_image(path)
    except DataError as error:
        return path, error
    try:
        return path, transform(image)
    except DataError as error:
        return path, DataError(f"{printable(path)}: {error}")
