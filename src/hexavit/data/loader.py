"""Training and validation batches: the same for any number of workers, and after an interruption."""

from __future__ import annotations

import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, WeightedRandomSampler

from hexavit.data.seeding import derive, seeded
from hexavit.data.source import Source
from hexavit.errors import DataError
from hexavit.images.decode import printable
from hexavit.images.prefetch import check_workers, cores
from hexavit.images.preprocess import Transform
from hexavit.processes import Processes

UNCOUNTED = -1
"""The label of an image that a process reads because its share of a batch is empty; no loss or metric counts it."""


def is_counted(target: Tensor) -> Tensor:
    """Which of the labels (B,), or rows of classes (B, K), are not :data:`UNCOUNTED`; booleans (B,)."""
    return target.flatten(1).ne(UNCOUNTED).all(dim=1) if target.ndim > 1 else target.ne(UNCOUNTED)


class Draw(NamedTuple):
    """A request for one image.

    Attributes:
        epoch: on which the augmentation depends.
        position: of the image in the dataset.
        counts: whether its label counts.
        copy: which of the repeated draws of an image in an epoch this is; each is augmented anew.
    """

    epoch: int
    position: int
    counts: bool = True
    copy: int = 0

    def purpose(self, number: int) -> tuple[str | int, ...]:
        """What the random numbers of the augmentation depend on, besides the seed; ``number`` is of the image."""
        return ("sample", self.epoch, number, *([self.copy] if self.copy else []))


class Images(Dataset[tuple[Tensor, Any]]):
    """The numbered images of a source, transformed; randomness is a function of (seed, epoch, number).

    The target is the label, or for data with several classes per image a row (K,) with 1.0 for each of its classes.

    Args:
        source: the images.
        numbers: of the images that belong to the dataset.
        transform: from an image to a tensor (C, H, W); it may use the generators of Python, NumPy and torch.
        seed: of the run.
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

    def target(self, draw: Draw) -> Any:
        """The target of a requested image."""
        number = self.numbers[draw.position]
        if self.source.label_sets is None:
            return self.labels[self.source.labels[number]] if draw.counts else UNCOUNTED
        row = torch.full((len(self.labels),), 0.0 if draw.counts else float(UNCOUNTED))
        if draw.counts:
            row[[self.labels[label] for label in self.source.label_sets[number]]] = 1.0
        return row

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Any]:
        number = self.numbers[draw.position]
        image = self.source.load(number)
        try:
            with seeded(self.seed, *draw.purpose(number)):
                return self.transform(image), self.target(draw)
        except DataError as error:  # of channels that the model does not take
            raise DataError(f"{printable(self.source.names[number])}: {error}") from error


class EpochSampler(Sampler[Draw]):
    """Every position once in an epoch; when shuffled, the order is a function of (seed, epoch).

    With ``repeats`` above 1 (repeated augmentation: Hoffer et al., CVPR 2020) an epoch is as long, to a multiple of 256
    that timm's ``RepeatAugSampler`` rounds to, and draws each image of a random part that often in a row.

    Args:
        dataset: whose length counts.
        seed: of the run.
        shuffle: whether the order is random.
        repeats: draws of an image in an epoch.
        weights: of each position: as many are drawn, with replacement, in proportion to them; None draws each once.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int,
        *,
        shuffle: bool,
        repeats: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.length = len(dataset)
        self.seed = seed
        self.shuffle = shuffle
        self.repeats = repeats
        self.weights = weights
        self.epoch = 0
        self.repeated: Any = None
        if repeats > 1:
            from timm.data.distributed_sampler import RepeatAugSampler

            repeated: Any = RepeatAugSampler
            self.repeated = repeated(dataset, num_replicas=1, rank=0, shuffle=shuffle, num_repeats=repeats)
            self.length = len(self.repeated)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        seed = derive(self.seed, "order", self.epoch)
        if self.repeated is not None:
            self.repeated.set_epoch(seed)  # timm's sampler seeds its generator with this number
            return (
                Draw(self.epoch, position, copy=number % self.repeats) for number, position in enumerate(self.repeated)
            )
        if self.shuffle:
            generator = torch.Generator().manual_seed(seed)
            if self.weights is None:
                order = torch.randperm(self.length, generator=generator).tolist()
            else:
                order = list(WeightedRandomSampler(self.weights, self.length, generator=generator))
        else:
            order = list(range(self.length))
        return (Draw(self.epoch, position) for position in order)


class BatchShares(Sampler[list[Draw]]):
    """The share of each batch that belongs to this process. The whole batch is a function of (seed, epoch, step).

    Args:
        sampler: the order of an epoch.
        batch_size: images in a batch, over all processes.
        drop_last: leave out a last batch that is not full.
        processes: among which each batch is split.
        begin: epoch and batch with which the first pass begins.
        halo: put the image that precedes the share in the batch (for the first share, the last image) before it. The
            first image of the share needs it where images are mixed (Mixup, CutMix).
    """

    def __init__(
        self,
        sampler: EpochSampler,
        batch_size: int,
        *,
        drop_last: bool,
        processes: Processes,
        begin: tuple[int, int] = (0, 0),
        halo: bool = False,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.processes = processes
        self.begin = begin
        self.halo = halo and processes.world > 1
        sampler.set_epoch(begin[0])

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = list(self.sampler)
        epoch, batch = self.begin
        for number in range(batch if self.sampler.epoch == epoch else 0, len(self)):
            yield self._share(order[number * self.batch_size : (number + 1) * self.batch_size])

    def _share(self, batch: list[Draw]) -> list[Draw]:
        repeats = (
            self.sampler.repeats
        )  # the copies of an image stand apart: Mixup and CutMix mix an image with the next
        batch = [draw for first in range(repeats) for draw in batch[first::repeats]]
        share = self.processes.share(len(batch))
        if not share:
            return [batch[0]._replace(counts=False)]
        return [batch[place] for place in (range(share.start - 1, share.stop) if self.halo else share)]


def make_loader(
    images: Images,
    *,
    batch_size: int,
    workers: int,
    training: bool,
    pin_memory: bool = False,
    processes: Processes | None = None,
    begin: tuple[int, int] = (0, 0),
    halo: bool = False,
    repeats: int = 1,
    weights: Sequence[float] | None = None,
) -> DataLoader[tuple[Tensor, Any]]:
    """A loader of (images (B, C, H, W), targets (B, ...)): whole batches, or this process's shares (`BatchShares`).

    For training, images are shuffled and a last batch that is not full is left out, as batch norm would compute its
    statistics from too few images. ``repeats`` and ``weights`` are of :class:`EpochSampler`.
    """
    batches = BatchShares(
        EpochSampler(images, images.seed, shuffle=training, repeats=repeats, weights=weights),
        batch_size,
        drop_last=training and len(images) >= batch_size,
        processes=processes or Processes(),
        begin=begin,
        halo=halo,
    )
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def stop_workers(loader: DataLoader[tuple[Tensor, Any]]) -> None:
    """End the worker processes of a loader that is not needed any more, without waiting for garbage collection."""
    iterator: Any = getattr(loader, "_iterator", None)
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
    loader._iterator = None


@contextmanager
def worker_errors() -> Iterator[None]:
    """Around the use of a loader: no warning of forked workers, and a worker's errors in their own words.

    Raises:
        DataError: of a worker, without the traceback that torch adds to its message.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of forking while other threads run; torch's workers are made for it.
        warnings.filterwarnings("ignore", ".*use of fork.*", DeprecationWarning)
        try:
            yield
        except DataError as error:
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error


def _ignore_signals(_: int) -> None:
    """Let the main process handle a signal that was sent to the whole process group; it ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_later)


def _exit_later(*_: object) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(15)


def sampling_weights(source: Source, numbers: Sequence[int]) -> list[float]:
    """For each numbered image, one over the number of images of its class, of its rarest class if it has several.

    Classes are then drawn equally often. Images without a class are treated as a class of their own.
    """
    counts = Counter(source.labels[number] for number in numbers)
    return [1 / counts[source.labels[number]] for number in numbers]


def choose_workers(given: int | None, source: Source, *, free: bool = True) -> int:
    """The number of worker processes.

    Args:
        given: by the user, or None.
        source: the images; those in memory need no worker.
        free: whether the processors do nothing else. On the CPU the model computes on them too, and gets half: with
            as many workers as processors it would wait.
    """
    if given is not None:
        return check_workers(given)
    return 0 if source.hints.in_memory else min(cores() if free else max(1, cores() // 2), 8)
