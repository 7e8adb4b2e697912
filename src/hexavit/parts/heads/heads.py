"""Head parts: from the last tokens to class logits."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import dropout, dropped
from hexavit.parts.registry import register_part


class Head(PartModule):
    """Base of heads: `features` applies the final norm, `pooled` gives one vector per image, `classify` the logits.

    `extra_tokens` extra tokens enter at stage `enter` (negative counts from the last stage).
    """

    extra_tokens: ClassVar[int] = 0
    classifiers: ClassVar[tuple[str, ...]] = ("fc",)
    """Names of the last linears; a head with two gives two outputs in training."""
    enter: int = 0
    pair_in_training: bool = True
    """Whether a head with two classifiers gives both outputs in training."""
    decay: bool = False
    """Whether the class token has weight decay."""
    unpooled: bool = False
    """Whether the model gives the features of every token (timm's `global_pool=""`)."""

    def __init__(self, dim: int, norm_eps: float, num_classes: int, norm: bool, drop: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(dim, eps=norm_eps) if norm else nn.Identity()
        self.drop = dropout(drop)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A new last linear for `num_classes`; none at all for 0."""
        self.fc: nn.Module = nn.Linear(self.dim, num_classes) if num_classes else nn.Identity()

    def forward(self, tokens: Tokens) -> Tensor:
        """Compute the logits of a model's last tokens; a head with two classifiers gives a pair in training."""
        features = self.features(tokens)
        return features if self.unpooled else self.classify(self.pooled(features, tokens.prefix))

    def features(self, tokens: Tokens) -> Tensor:
        """Tokens to (B, P + N, C), after the final norm."""
        out: Tensor = self.norm(tokens.sequence)
        return out

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """(B, P + N, C), of which the first `prefix` are extra, to (B, C)."""
        raise NotImplementedError

    def embedding(self, pooled: Tensor) -> Tensor:
        """What `pooled` gives to the one vector (B, C) of an image."""
        return pooled

    def classify(self, pooled: Tensor) -> Tensor:
        """(B, C) to (B, classes)."""
        out: Tensor = self.fc(dropped(pooled, self.drop))
        return out

    def macs(self, size: Size, extra: int = 0) -> int:
        """C K."""
        return self.fc.in_features * self.fc.out_features if isinstance(self.fc, nn.Linear) else 0


@register_part("head", "class_token")
class ClassTokenHead(Head):
    """A learned token enters at stage `enter` and is classified
    (ViT: Dosovitskiy et al., ICLR 2021, eq. 4; CvT, section 3: it enters in the last stage).

    Final LayerNorm, the class token's row, one linear. With `mean` the blocks have the class token, but the classifier
    reads the mean of the image tokens, and the norm follows the mean (fine-tuning of MAE: He et al., CVPR 2022).

    Shapes: (B, P + N, C) to (B, classes), P being `extra_tokens`. Cost with K classes: parameters 2 C + C K + K (and
    P C of the tokens in their stage, C^2 + C with `pre_logits`); multiply-adds C K (and C^2).

    Args:
        enter: stage at which the token enters; negative numbers count from the last stage.
        norm: whether a LayerNorm precedes the classifier.
        pre_logits: whether a linear of the same width and tanh precede the classifier (ViT trained on ImageNet-21k).
        drop: dropout rate before the classifier.
        mean: whether the mean of the image tokens is classified.
        decay: whether the token has weight decay, as MViT's has.
        extra_tokens: number of tokens that enter, of which the first is classified; 2 in transformers'
            DeiTForImageClassification, whose distillation token has no classifier.

    Raises:
        ValueError: no extra token.
    """

    extra_tokens = 1

    def __init__(
        self,
        dim: int,
        norm_eps: float,
        num_classes: int,
        *,
        enter: int = -1,
        norm: bool = True,
        pre_logits: bool = False,
        drop: float = 0.0,
        mean: bool = False,
        decay: bool = False,
        extra_tokens: int = 1,
    ) -> None:
        super().__init__(dim, norm_eps, num_classes, norm and not mean, drop)
        if extra_tokens < 1:
            raise ValueError(f"class_token brings at least 1 token, not {extra_tokens}: use pool")
        self.enter, self.mean, self.decay = enter, mean, decay
        self.fc_norm = nn.LayerNorm(dim, eps=norm_eps) if norm and mean else nn.Identity()
        self.pre_logits = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if pre_logits else nn.Identity()

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """The class token's row: the first; with `mean` the mean of the others, normed."""
        row = self.fc_norm(features[:, prefix:].mean(dim=1)) if self.mean else features[:, 0]
        out: Tensor = self.pre_logits(row)
        return out

    def macs(self, size: Size, extra: int = 0) -> int:
        """C K, and C^2 with `pre_logits`."""
        return super().macs(size, extra) + (self.dim**2 if isinstance(self.pre_logits, nn.Sequential) else 0)


@register_part("head", "pool")
class PoolHead(Head):
    """The mean over the image tokens, after the final LayerNorm (unless `norm=False`), then one linear
    (global average pooling: Lin et al., "Network In Network", ICLR 2014, section 3.2).

    Shapes: (B, P + N, C) to (B, classes). Cost with K classes: parameters 2 C + C K + K; multiply-adds C K.
    Same as CvT's and ViT's own ("gap"): norm, then mean; timm's ViT with average pooling norms after the mean.
    """

    def __init__(self, dim: int, norm_eps: float, num_classes: int, *, norm: bool = True, drop: float = 0.0) -> None:
        super().__init__(dim, norm_eps, num_classes, norm, drop)

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """The mean of the rows behind the extra ones."""
        return features[:, prefix:].mean(dim=1)


@register_part("head", "messengers")
class MessengerHead(PoolHead):
    """The mean over the extra tokens that tokens parts bring, after the final LayerNorm (unless `norm=False`), then one
    linear (MSG-Transformer: Fang et al., CVPR 2022, where one messenger token is left).

    Shapes: (B, P + N, C) to (B, classes). Cost with K classes: parameters 2 C + C K + K; multiply-adds C K.
    Same as hustvl/MSG-Transformer's where the last map is one window; its code gives logits for each window of others.
    """

    needs_messengers = True

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """The mean of the extra rows."""
        return features[:, :prefix].mean(dim=1)
