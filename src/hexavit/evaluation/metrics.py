"""The figures by which a classifier is judged, the same in training and in ``evaluate``."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


def accuracies(num_classes: int) -> MetricCollection:
    """``accuracy`` (top-1) and, where there are more than five classes, ``top5``; fractions of 1."""
    top = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        top["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    return MetricCollection(dict(top), compute_groups=False)


def mean_loss() -> MeanMetric:
    """The mean over samples; give it each batch's mean with the batch's size as weight."""
    return MeanMetric(nan_strategy="disable")  # its default passes over what is not a number


def figure(value: Tensor) -> float:
    """A scalar as the shortest decimal number that stands for it: 0.9583333, not the 0.9583333134651184 of its bits."""
    return float(str(value.detach().cpu().numpy()[()]))
