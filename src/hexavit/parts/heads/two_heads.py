"""Heads with two outputs: DeiT's for distillation, LV-ViT's for token labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hexavit.parts.contract import Size
from hexavit.parts.heads.heads import Head
from hexavit.parts.layers import dropped
from hexavit.parts.registry import register_part

Pair = tuple[Tensor, Tensor]


class TwoClassifiers(Head):
    """Base of heads with a second classifier, `fc2`, which give a pair of outputs in training."""

    classifiers = ("fc", "fc2")

    def reset_classifier(self, num_classes: int) -> None:
        """Two new last linears for `num_classes`; none at all for 0."""
        super().reset_classifier(num_classes)
        self.fc2: nn.Module = nn.Linear(self.dim, num_classes) if num_classes else nn.Identity()


@register_part("head", "two_heads")
class TwoHeads(TwoClassifiers):
    """A class token and a distillation token, each with its own linear (DeiT: Touvron et al., ICML 2021, section 4).

    New in it: the second token learns from a teacher. The output is the pair (class, distillation) in training, and
    its mean in evaluation.

    Shapes: (B, 2 + N, C) to (B, K), in training twice. Cost with K classes: parameters 2 C + 2 (C K + K) (and 2 C of
    the tokens in their stage); multiply-adds 2 C K.
    Same as facebookresearch/deit, where the code averages logits and the paper adds softmaxes. Its control, a second
    class token without a teacher, is this head trained with the labels for both. Differs: both tokens are left
    without weight decay (there the second one decays).

    Args:
        enter: stage at which the tokens enter; negative numbers count from the last stage.
        norm: whether a LayerNorm precedes the classifiers.
        drop: dropout rate before the classifiers.
    """

    extra_tokens = 2

    def __init__(
        self, dim: int, norm_eps: float, num_classes: int, *, enter: int = -1, norm: bool = True, drop: float = 0.0
    ) -> None:
        super().__init__(dim, norm_eps, num_classes, norm, drop)
        self.enter = enter

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """The two tokens' rows (B, 2, C)."""
        return features[:, :2]

    def embedding(self, pooled: Tensor) -> Tensor:
        """(B, 2, C) to their mean (B, C)."""
        return pooled.mean(dim=1)

    def classify(self, pooled: Tensor) -> Tensor | Pair:  # type: ignore[override]  # a pair in training
        """(B, 2, C) to (B, K), in training twice."""
        if isinstance(self.fc, nn.Identity):  # num_classes=0: the output is the features
            return self.embedding(pooled)
        pooled = dropped(pooled, self.drop)
        logits: Pair = self.fc(pooled[:, 0]), self.fc2(pooled[:, 1])
        return logits if self.training and self.pair_in_training else (logits[0] + logits[1]) / 2

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 C K."""
        return 2 * super().macs(size, extra)


@register_part("head", "token_labels")
class TokenLabelHead(TwoClassifiers):
    """Logits of the class token and of every image token (LV-ViT: Jiang et al., NeurIPS 2021, section 3.1).

    New in it: each patch is classified too. The output is the pair (class (B, K), tokens (B, N, K)) in training, and
    class + `weight` x (maximum over tokens) in evaluation.

    Shapes: (B, 1 + N, C) to (B, K), in training also (B, N, K). Cost with K classes: parameters 2 C + 2 (C K + K);
    multiply-adds (1 + N) C K.
    Same as zihangJiang/TokenLabeling, whose weight is 0.5.

    Args:
        enter: stage at which the token enters; negative numbers count from the last stage.
        weight: factor of the token logits in evaluation.
        norm: whether a LayerNorm precedes the classifiers.
        drop: dropout rate before the classifiers.
    """

    extra_tokens = 1

    def __init__(
        self,
        dim: int,
        norm_eps: float,
        num_classes: int,
        *,
        enter: int = -1,
        weight: float = 0.5,
        norm: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__(dim, norm_eps, num_classes, norm, drop)
        self.enter, self.weight = enter, weight

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """All rows, as each token is classified."""
        return torch.cat((features[:, :1], features[:, prefix:]), dim=1)

    def embedding(self, pooled: Tensor) -> Tensor:
        """(B, 1 + N, C) to the class token's row (B, C)."""
        return pooled[:, 0]

    def classify(self, pooled: Tensor) -> Tensor | Pair:  # type: ignore[override]  # a pair in training
        """(B, 1 + N, C) to (B, K), in training also (B, N, K)."""
        if isinstance(self.fc, nn.Identity):  # num_classes=0: the output is the features
            return self.embedding(pooled)
        pooled = dropped(pooled, self.drop)
        logits: Pair = self.fc(pooled[:, 0]), self.fc2(pooled[:, 1:])
        return logits if self.training and self.pair_in_training else logits[0] + self.weight * logits[1].amax(dim=1)

    def macs(self, size: Size, extra: int = 0) -> int:
        """(1 + N) C K."""
        return (1 + size[0] * size[1]) * super().macs(size, extra)
