"""What a model's outputs mean, and how an image becomes its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hexavit.images.preprocess import InputSpec


@dataclass(frozen=True)
class ModelInfo:
    """The classes and the preprocessing of a model, whatever computes it.

    Attributes:
        classes: names in the order of the logits; empty for a model without a head.
        input_spec: preprocessing of images.
        weights: ``best`` or ``last`` of a run, a published name, or a file.
        synonyms: other names of the classes, such as WordNet numbers, with their indices.
        split: ``split.json`` of the run; None if the model is not from a run.
        notes: sentences that the user should read.
        source: what the model was loaded from; empty if unknown.
        thresholds: for each class the probability from which it is predicted, for a model that predicts several classes
            per image or none; None for one class per image.
        architecture_name: name of the architecture; empty if unknown.
    """

    classes: tuple[str, ...]
    input_spec: InputSpec
    weights: str
    synonyms: Mapping[str, int] = field(default_factory=dict)
    split: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    source: str = ""
    thresholds: tuple[float, ...] | None = None
    architecture_name: str = ""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the classes, from logits (B, K) to float32 (B, K): by softmax, or by sigmoid where there are several."""
        return logits.float().softmax(dim=-1) if self.thresholds is None else logits.float().sigmoid()
