"""What a classifier answered, image by image, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from hexavit.data.seeding import derive

BINS = 15
"""Of confidence, in the calibration error and its picture."""


@dataclass(frozen=True)
class ClassResult:
    """Of one class.

    Attributes:
        name: of the class.
        count: its images.
        precision: share of the images given this class that belong to it; nothing where none was given it.
        recall: share of its images that were recognised.
        f1: harmonic mean of the two; 0 where no image was recognised.
    """

    name: str
    count: int
    precision: float | None
    recall: float
    f1: float


@dataclass(frozen=True)
class Confused:
    """How many images of the class ``truth`` were taken for the class ``predicted``."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Answers:
    """One entry an image in each array.

    Attributes:
        numbers: of the images in their source.
        truth: the right class.
        predicted: the most probable class.
        confidence: its probability.
        truth_probability: that of the right class.
    """

    numbers: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    truth_probability: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the answer is right."""
        right: NDArray[np.bool_] = self.truth == self.predicted
        return right

    def per_class(self, classes: Sequence[str]) -> tuple[ClassResult, ...]:
        """The classes that occur, in the order of the logits."""
        labels = np.unique(self.truth)
        given = np.bincount(self.predicted, minlength=len(classes))
        figures = precision_recall_fscore_support(self.truth, self.predicted, labels=labels, zero_division=0.0)
        return tuple(
            ClassResult(
                classes[label], int(count), float(precision) if given[label] else None, float(recall), float(f1)
            )
            for label, precision, recall, f1, count in zip(labels, *figures, strict=True)
        )

    def interval(self, share: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
        """Between what the accuracy lies in ``share`` of the bootstrap's draws; the same at every call."""
        # To draw n answers anew and count the right ones is a binomial draw.
        generator = np.random.default_rng(derive(0, "bootstrap"))
        accuracies = generator.binomial(len(self.truth), self.right.mean(), size=draws) / len(self.truth)
        low, high = np.quantile(accuracies, [(1 - share) / 2, (1 + share) / 2])
        return float(low), float(high)

    def confusion(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Classes that occur or were answered, and the counts (truth, predicted) of them."""
        labels = np.union1d(self.truth, self.predicted)
        return labels, confusion_matrix(self.truth, self.predicted, labels=labels)

    def confused(self, classes: Sequence[str]) -> tuple[Confused, ...]:
        """Every confusion that happened, the most frequent first."""
        labels, counts = self.confusion()
        pairs = [(int(counts[i, j]), labels[i], labels[j]) for i, j in np.argwhere(counts) if i != j]
        pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
        return tuple(Confused(classes[truth], classes[predicted], count) for count, truth, predicted in pairs)

    def worst(self, count: int) -> NDArray[np.int64]:
        """Places of the wrong answers, the least probable truth first."""
        places = np.flatnonzero(~self.right)
        return places[np.argsort(self.truth_probability[places], kind="stable")][:count]
