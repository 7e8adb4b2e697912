"""Metrics of images with several classes or none: each class is a binary decision of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_calibration_error,
    binary_precision_recall_curve,
)
from torchmetrics.utilities import dim_zero_cat

from hexavit.evaluation.predictions import BINS, ClassResult, bootstrap_interval

THRESHOLD = 0.5
"""The probability from which a class is predicted, where validation images have not shown a better one."""


@dataclass(frozen=True)
class MultilabelPredictions:
    """Arrays with one row per image and one column per class.

    Attributes:
        numbers: (N,) numbers of the images in their source.
        truths: (N, K) whether the image has the class.
        probabilities: (N, K) of the class.
        thresholds: (K,) the probability from which a class is predicted.
    """

    numbers: NDArray[np.int64]
    truths: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """(N, K) whether the class is predicted."""
        predicted: NDArray[np.bool_] = self.probabilities >= self.thresholds
        return predicted

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(N K,) the probability of every class of every image, for the reliability diagram."""
        return self.probabilities.ravel()

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N K,) whether the image has the class."""
        return self.truths.ravel()

    def average_precisions(self) -> list[float | None]:
        """The area under the precision-recall curve of each class; None without an image of the class."""
        found: list[float | None] = []
        for truth, probability in zip(torch.tensor(self.truths.T), torch.tensor(self.probabilities.T), strict=True):
            found.append(float(binary_average_precision(probability, truth.long())) if truth.any() else None)
        return found

    def per_class(self, classes: Sequence[str]) -> tuple[ClassResult, ...]:
        """The classes that occur, in the order of the logits."""
        predicted, found = self.predicted, []
        for label, area in enumerate(self.average_precisions()):
            if area is None:
                continue
            right = int((predicted[:, label] & self.truths[:, label]).sum())
            given, there = int(predicted[:, label].sum()), int(self.truths[:, label].sum())
            precision = right / given if given else None
            f1 = 2 * right / (given + there)
            threshold = float(self.thresholds[label])
            found.append(ClassResult(classes[label], there, precision, right / there, f1, area, threshold))
        return tuple(found)

    def values(self, classes: Sequence[str]) -> dict[str, Any]:
        """Metrics by their names in :class:`~.evaluate.Evaluation`."""
        per_class, predicted = self.per_class(classes), self.predicted
        exact = (predicted == self.truths).all(axis=1)
        truths, probabilities = torch.tensor(self.truths.ravel()).long(), torch.tensor(self.confidence)
        return {
            "accuracy": float(exact.mean()),
            "top5": None,
            "loss": float(F.binary_cross_entropy(probabilities, truths.double())),
            "interval": bootstrap_interval(exact),
            "ece": float(binary_calibration_error(probabilities, truths, n_bins=BINS)),
            "macro_f1": _mean([each.f1 for each in per_class]),
            "micro_f1": float(2 * (predicted & self.truths).sum() / max(1, predicted.sum() + self.truths.sum())),
            "mean_average_precision": _mean([each.average_precision or 0.0 for each in per_class]),
            "per_class": per_class,
            "confused": (),
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


class MultilabelMetrics(Metric):
    """``accuracy`` (every class of an image right), ``map`` and ``f1`` (means over the classes that occur), at 0.5.

    It collects all probabilities (N, K), over all processes.
    """

    probabilities: list[Tensor]
    truths: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("truths", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch of logits (B, K) and targets (B, K) of 0 and 1."""
        self.probabilities.append(logits.detach().float().sigmoid())
        self.truths.append(target > 0.5)

    def compute(self) -> dict[str, Tensor]:
        """The metrics, and the ``thresholds`` (K,) that would give each class its best F1."""
        probabilities, truths = (dim_zero_cat(each).cpu() for each in (self.probabilities, self.truths))
        count = truths.shape[1]
        found = MultilabelPredictions(
            np.arange(len(truths)), truths.numpy(), probabilities.double().numpy(), np.full(count, THRESHOLD)
        )
        values = found.values([str(label) for label in range(count)])
        names = {"accuracy": "accuracy", "map": "mean_average_precision", "f1": "macro_f1"}
        thresholds = torch.tensor(best_thresholds(probabilities, truths), dtype=torch.float64)
        return {**{ours: torch.tensor(values[name]) for ours, name in names.items()}, "thresholds": thresholds}


def best_thresholds(probabilities: Tensor, truths: Tensor) -> list[float]:
    """For each class the threshold with the highest F1, halfway to the next lower probability; 0.5 without an image.

    Args:
        probabilities: (N, K).
        truths: (N, K), whether the image has the class.
    """
    found = []
    for probability, truth in zip(probabilities.double().T, truths.T, strict=True):
        if not truth.any():
            found.append(THRESHOLD)
            continue
        precision, recall, steps = binary_precision_recall_curve(probability, truth.long())
        f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
        best = int(f1[:-1].argmax())  # the last point of the curve has no threshold
        below = probability[probability < steps[best]]
        found.append(float(steps[best] + (below.max() if len(below) else 0.0)) / 2)
    return found
