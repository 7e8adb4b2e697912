"""Cross-entropy for models with one output and with several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hexavit._deprecated import renamed
from hexavit.errors import ArchitectureError

__getattr__ = renamed(__name__, {"EveryAnswer": f"{__name__}.MeanCrossEntropy"})


class CrossEntropy(nn.Module):
    """Softmax cross-entropy with class indices, or with class probabilities as Mixup and CutMix make them.

    Args:
        label_smoothing: share of the target spread evenly over the classes.
        weight: (K,), factor of each class's term. The loss is the mean over images and is not divided by their weights,
            so that it does not depend on which images are in a batch together.

    Shapes:
        logits (B, K); target (B,) of class indices or (B, K) of probabilities; loss ().
    """

    weight: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not isinstance(logits, Tensor):
            raise ArchitectureError(
                f"cross-entropy needs one tensor of logits; this model returns several, as a {type(logits).__name__}"
            )
        if self.weight is not None and target.ndim == 1:  # with indices, PyTorch divides by the sum of the weights
            target = F.one_hot(target, logits.shape[1]).float()
        return F.cross_entropy(logits.float(), target, self.weight, label_smoothing=self.label_smoothing)


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of the sigmoid of each logit, for images with several classes or none; the mean over all.

    Args:
        label_smoothing: s moves the targets from 0 and 1 to s / 2 and 1 - s / 2.
        weight: (K,), factor of the term of each class where the target is 1.

    Shapes:
        logits (B, K); target (B, K) in [0, 1]; loss ().
    """

    weight: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = target.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=self.weight)


class MeanCrossEntropy(nn.Module):
    """Mean over all outputs of the cross-entropy with one target.

    It trains models with several outputs on labels alone: DeiT's control, whose second class token learns from the
    labels (Touvron et al., ICML 2021, table 3), and LV-ViT without label maps.

    Args:
        label_smoothing: as in :class:`CrossEntropy`.
        base: the loss of one output; by default that cross-entropy.

    Shapes:
        outputs (B, K) or (B, N, K) each: every token has the target of its image; target as in :class:`CrossEntropy`.
    """

    def __init__(self, label_smoothing: float = 0.0, base: nn.Module | None = None) -> None:
        super().__init__()
        self.cross_entropy = base or CrossEntropy(label_smoothing)

    def forward(self, outputs: tuple[Tensor, ...] | Tensor, target: Tensor) -> Tensor:
        each = (outputs,) if isinstance(outputs, Tensor) else outputs
        return torch.stack([self._loss(logits, target) for logits in each]).mean()

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.ndim == 3:
            target = target.repeat_interleave(logits.shape[1], dim=0)
            logits = logits.flatten(0, 1)
        loss: Tensor = self.cross_entropy(logits, target)
        return loss
