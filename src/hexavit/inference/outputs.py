"""From the outputs of a model to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hexavit.inference.model_info import ModelInfo


class Outputs(NamedTuple):
    """What a model computes for a batch; None for what was not requested.

    Attributes:
        logits: (B, K).
        features: the input of the classifier, (B, D).
    """

    logits: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        image: the file; of an image in memory, its number in the batch.
        top: class names with probabilities (fractions of 1), most probable first.
        features: the input of the classifier, (D,) in float32, if requested.
        classes: names of the classes that reach their thresholds, most probable first, if the model predicts several
            classes per image or none; None for one class per image.
        logits: of all classes in the model's order, (K,) in float32; None without a classifier.
    """

    image: Path
    top: tuple[tuple[str, float], ...]
    features: NDArray[np.float32] | None = None
    classes: tuple[str, ...] | None = None
    logits: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without the features and the logits."""
        top = [{"class": name, "probability": round(probability, 6)} for name, probability in self.top]
        several = {} if self.classes is None else {"classes": list(self.classes)}
        return {"image": str(self.image), **several, "top": top}


def predictions(outputs: Outputs, info: ModelInfo, images: Sequence[Path], top: int) -> list[Prediction]:
    """The predictions for a batch.

    Args:
        outputs: of the model.
        info: of the model.
        images: the file of each row.
        top: number of classes per image, at most all.
    """
    features = [None] * len(images) if outputs.features is None else list(_numpy(outputs.features))
    if outputs.logits is None:
        return [Prediction(image, (), vector) for image, vector in zip(images, features, strict=True)]
    probabilities = info.probabilities(outputs.logits).cpu()
    logits = _numpy(outputs.logits)
    tops, several = (
        _top_classes(probabilities, info.classes, min(top, len(info.classes))),
        _several(probabilities, info),
    )
    return [Prediction(*row) for row in zip(images, tops, features, several, logits, strict=True)]


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array


def _several(probabilities: Tensor, info: ModelInfo) -> list[tuple[str, ...] | None]:
    """For each image the classes that reach their thresholds, most probable first; None for one class per image."""
    if info.thresholds is None:
        return [None] * len(probabilities)
    reached = probabilities.double() >= torch.tensor(info.thresholds, dtype=torch.float64)
    order = probabilities.argsort(dim=-1, descending=True, stable=True)
    return [
        tuple(info.classes[i] for i in by_probability if row[i])
        for row, by_probability in zip(reached.tolist(), order.tolist(), strict=True)
    ]


def _top_classes(probabilities: Tensor, classes: Sequence[str], top: int) -> list[tuple[tuple[str, float], ...]]:
    """The most probable classes of each image from probabilities (B, K)."""
    found = probabilities.topk(top, dim=-1)  # (B, top) twice
    return [
        tuple((classes[i], value) for i, value in zip(indices, values, strict=True))
        for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]
