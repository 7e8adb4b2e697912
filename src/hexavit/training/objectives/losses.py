"""What a training makes small: objectives take the model's output and the target, and give one loss."""

from __future__ import annotations

import torch
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


class EveryAnswer(nn.Module):
    """The mean of cross-entropies of all answers against one target: DeiT's control, a second class token that learns
    from the labels as the first does (Touvron et al., ICML 2021, table 3); LV-ViT's tokens without label maps.

    Args:
        label_smoothing: as in :class:`CrossEntropy`.

    Shapes:
        answers (B, K) or (B, N, K) each, where every token has the image's target; target as in :class:`CrossEntropy`.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.one = CrossEntropy(label_smoothing)

    def forward(self, answers: tuple[Tensor, ...] | Tensor, target: Tensor) -> Tensor:
        each = (answers,) if isinstance(answers, Tensor) else answers
        return torch.stack([self._loss(answer, target) for answer in each]).mean()

    def _loss(self, answer: Tensor, target: Tensor) -> Tensor:
        if answer.ndim == 3:
            target = target.repeat_interleave(answer.shape[1], dim=0)
            answer = answer.flatten(0, 1)
        loss: Tensor = self.one(answer, target)
        return loss
