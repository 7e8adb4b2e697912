"""Images in batches, the same ones whatever the number of workers and wherever the training was interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hexavit.errors import DataError
from hexavit.inference.ahead import cores
from hexavit.inference.images import shown
from hexavit.inference.preprocess import Transform
from hexavit.training.data.source import Source
from hexavit.training.randomness import derive, seeded


class Draw(NamedTuple):
    """One image asked for: its position in the dataset, and the epoch, on which its augmentation depends."""

    epoch: int
    position: int


class Images(Dataset[tuple[Tensor, int]]):
    """The numbered images of a source, transformed; any randomness is a function of (seed, epoch, number).

    Args:
        source: the images.
        numbers: those of them that belong here.
        transform: from an image to a tensor (C, H, W); it may use Python's, NumPy's and torch's generators.
        seed: of the training.
        labels: for each label of the source its index among the logits; by default the label itself.
    """

    def __init__(
        self,
        source: Source,
        numbers: Sequence[int],
        transform: Transform,
        seed: int,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.source = source
        self.numbers = numbers
        self.transform = transform
        self.seed = seed
        self.labels = range(len(source.classes)) if labels is None else labels

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        number = self.numbers[draw.position]
        image, label = self.source.load(number), self.labels[self.source.labels[number]]
        try:
            with seeded(self.seed, "sample", draw.epoch, number):
                return self.transform(image), label
        except DataError as error:  # of channels that the model does not take
            raise DataError(f"{shown(self.source.names[number])}: {error}") from error


class EpochSampler(Sampler[Draw]):
    """Every position once an epoch; shuffled, the order is a function of (seed, epoch). Lightning sets the epoch."""

    def __init__(self, dataset: Sized, seed: int, *, shuffle: bool) -> None:
        self.length = len(dataset)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
        else:
            order = list(range(self.length))
        return (Draw(self.epoch, position) for position in order)


def make_loader(
    images: Images, *, batch_size: int, workers: int, training: bool, pin_memory: bool = False
) -> DataLoader[tuple[Tensor, int]]:
    """Batches of (images (B, C, H, W), labels (B,)).

    For training they are shuffled, and a last batch that is not full is left for another epoch's order: batch norm
    would learn from too few images.
    """
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=EpochSampler(images, images.seed, shuffle=training),
        num_workers=workers,
        drop_last=training and len(images) >= batch_size,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def choose_workers(asked: int | None, source: Source) -> int:
    """As many reading processes as asked for; by default none for images in memory, else one a core up to eight."""
    if asked is not None:
        return asked
    return 0 if source.hints.in_memory else min(cores(), 8)
