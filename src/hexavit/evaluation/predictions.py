"""Predictions of a classifier, one per image, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from hexavit.data.seeding import derive

BINS = 15
"""Bins of confidence in the calibration error and the reliability diagram."""


@dataclass(frozen=True)
class ClassResult:
    """Metrics of one class.

    Attributes:
        name: name of the class.
        count: number of its images.
        precision: fraction of the predictions of this class that are right; None if it was never predicted.
        recall: fraction of its images that were predicted right.
        f1: harmonic mean of the two; 0 if no image was predicted right.
        average_precision: area under the precision-recall curve; None for data with one class per image.
        threshold: the probability from which the class is predicted; None for data with one class per image.
    """

    name: str
    count: int
    precision: float | None
    recall: float
    f1: float
    average_precision: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Confused:
    """Number of images of the class ``truth`` for which the class ``predicted`` was predicted."""

    truth: str
    predicted: str
    count: int


def bootstrap_interval(right: NDArray[np.bool_], share: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
    """The bootstrap confidence interval, at level ``share``, of the share of right predictions; deterministic."""
    # The number of right predictions in a bootstrap sample is binomial.
    generator = np.random.default_rng(derive(0, "bootstrap"))
    accuracies = generator.binomial(len(right), right.mean(), size=draws) / len(right)
    low, high = np.quantile(accuracies, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Predictions:
    """Arrays with one entry per image.

    Attributes:
        numbers: numbers of the images in their source.
        truth: index of the true class.
        predicted: index of the most probable class.
        confidence: probability of the predicted class.
        truth_probability: probability of the true class.
    """

    numbers: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    truth_probability: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is right."""
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
        """The bootstrap confidence interval of the accuracy at level ``share``; deterministic."""
        return bootstrap_interval(self.right, share, draws)

    def confusion(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Classes that occur or were predicted, and the confusion matrix (truth, predicted) of them."""
        labels = np.union1d(self.truth, self.predicted)
        return labels, confusion_matrix(self.truth, self.predicted, labels=labels)

    def confused(self, classes: Sequence[str]) -> tuple[Confused, ...]:
        """Every pair of confused classes, the most frequent first."""
        labels, counts = self.confusion()
        pairs = [(int(counts[i, j]), labels[i], labels[j]) for i, j in np.argwhere(counts) if i != j]
        pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
        return tuple(Confused(classes[truth], classes[predicted], count) for count, truth, predicted in pairs)

    def worst(self, count: int) -> NDArray[np.int64]:
        """Indices of the wrong predictions, the least probable true class first."""
        places = np.flatnonzero(~self.right)
        return places[np.argsort(self.truth_probability[places], kind="stable")][:count]
