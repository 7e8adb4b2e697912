"""A look at every image before anything is built upon them: what can be read, and which images are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from hexavit.data.loader import choose_workers, worker_errors
from hexavit.data.source import Source
from hexavit.errors import DataError

_FEW = 256  # below it, starting processes takes longer than reading


@dataclass(frozen=True)
class Seen:
    """What a scan found of one image.

    Attributes:
        number: of the image in its source.
        size: height and width in pixels; nothing where it cannot be read.
        mode: Pillow's name of its channels, such as ``RGB``; empty where it cannot be read.
        digest: of its pixels: equal for two files of the same picture, however they are packed.
        fault: the sentence of refusal, where it cannot be read.
    """

    number: int
    size: tuple[int, int] | None = None
    mode: str = ""
    digest: str = ""
    fault: str | None = None


class _Scan(Dataset[Seen]):
    def __init__(self, source: Source, numbers: Sequence[int]) -> None:
        self.source = source
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> Seen:
        number = self.numbers[position]
        try:
            image = self.source.load(number)
        except DataError as error:
            return Seen(number, fault=str(error))
        digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
        digest.update(image.tobytes())
        return Seen(number, (image.height, image.width), image.mode, digest.hexdigest())


def scan(source: Source, numbers: Sequence[int] | None = None, workers: int | None = None) -> list[Seen]:
    """Decode images, each once, in parallel; one that cannot be read is reported, not raised.

    Args:
        source: the images.
        numbers: those to look at; by default all.
        workers: processes that read; by default as many as training would use, and none for a few images.

    Returns:
        One entry an image, in the order asked.
    """
    wanted = range(len(source.names)) if numbers is None else numbers
    processes = 0 if workers is None and len(wanted) < _FEW else choose_workers(workers, source)
    own = torch.Generator()  # else the loader draws from the global one
    loader = DataLoader(_Scan(source, wanted), batch_size=32, num_workers=processes, collate_fn=list, generator=own)
    with worker_errors():
        return cast("list[Seen]", [seen for batch in loader for seen in batch])
