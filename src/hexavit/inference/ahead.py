"""Images decoded by threads while the model computes, a bounded number ahead of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from hexavit.errors import DataError
from hexavit.inference.images import read_image, shown
from hexavit.inference.preprocess import Transform

Decoded = tuple[Path, Tensor | DataError]
"""A file with what it became, or why it did not."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_ahead(paths: Iterable[Path], transform: Transform, threads: int, ahead: int) -> Iterator[Decoded]:
    """Decode files in order.

    Threads do it, not processes: Pillow lets go of Python's lock while it decodes and scales, so they are as quick,
    start at once and copy nothing.

    Args:
        paths: of the files; no more than ``ahead`` of them are taken before they are asked for.
        transform: from an image to a tensor.
        threads: that decode; with 0 it is done when asked for.
        ahead: images, decoded or being decoded, that wait.
    """
    if threads == 0:
        yield from (_decoded(path, transform) for path in paths)
        return
    waiting: deque[Future[Decoded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for path in paths:
            waiting.append(pool.submit(_decoded, path, transform))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(path: Path, transform: Transform) -> Decoded:
    try:
        image = read_image(path)
    except DataError as error:
        return path, error
    try:
        return path, transform(image)
    except DataError as error:
        return path, DataError(f"{shown(path)}: {error}")
