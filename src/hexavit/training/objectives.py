"""What a training makes small: objectives take the model's output and the target, and give one loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hexavit.errors import ArchitectureError


class CrossEntropy(nn.Module):
    """Softmax cross-entropy against a class, or against a mixture of classes as Mixup and CutMix give.

    Args:
        label_smoothing: share of the target that is spread evenly over all classes.

    Shapes:
        logits (B, K); target (B,) of class indices or (B, K) of probabilities; loss ().
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not isinstance(logits, Tensor):
            raise ArchitectureError(
                f"cross-entropy needs one answer, and this model gives several, as a {type(logits).__name__}"
            )
        return F.cross_entropy(logits.float(), target, label_smoothing=self.label_smoothing)
