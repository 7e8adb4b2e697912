"""Metrics of a classifier, shared by training and ``evaluate``."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


def accuracies(num_classes: int) -> MetricCollection:
    """``accuracy`` (top-1) and, where there are more than five classes, ``top5``; fractions of 1."""
    top = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        top["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(dict(top), compute_groups=False)


class MeanLoss(Metric):
    """The mean loss over samples, summed in float64 and over all processes.

    torchmetrics' `MeanMetric` ignores its weights under `nan_strategy="disable"` and skips NaN otherwise (1.9).
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, samples: int) -> None:
        """Add a batch.

        Args:
            loss: mean loss of the batch, a scalar.
            samples: images in the batch.
        """
        self.total += loss.detach().double() * samples
        self.count += samples

    def compute(self) -> Tensor:
        """The mean, a float32 scalar; NaN without samples."""
        return (self.total / self.count).float()


def figure(value: Tensor) -> float:
    """A scalar rounded to the shortest decimal that identifies it: 0.9583333 instead of 0.9583333134651184."""
    return float(str(value.detach().cpu().numpy()[()]))
