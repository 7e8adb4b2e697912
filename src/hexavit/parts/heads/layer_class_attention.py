"""CeiT's head: attention over the class tokens of all blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hexavit.parts.attention.class_attention import ClassAttention
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.feedforward.mlp import MLP
from hexavit.parts.heads.heads import Head
from hexavit.parts.registry import register_part


@register_part("head", "layer_class_attention")
class LayerClassAttention(Head):
    """Layer-wise class-token attention (LCA: CeiT, Yuan et al., ICCV 2021, section 3.3).

    New in it: the class tokens after each of the L blocks, plus a learned table, pass one more pre-norm block whose
    only query is the last class token; then the final norm and one linear.

    Shapes: (B, L, C) of class tokens to (B, K). Cost: parameters 12 C^2 + 13 C (ratio 4), L C of the table, 4 C + 2 C
    of norms, C K + K; multiply-adds 2 (1 + L) C^2 + 2 L C + 8 C^2 + C K.
    Same as coeusguo/ceit, where q, k and v are one matrix.

    Args:
        heads: number of heads of the last block.
        ratio: hidden width of its feedforward, as a multiple of C.
        enter: stage at which the token enters; negative numbers count from the last stage.
        norm: whether a LayerNorm precedes the classifier.
        drop: dropout rate before the classifier.
    """

    extra_tokens = 1
    takes = ("class_tokens",)

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Its last block's attention and feedforward."""
        return ("attention", "class_attention"), ("feedforward", "mlp")

    def __init__(
        self,
        dim: int,
        norm_eps: float,
        num_classes: int,
        blocks: int,
        *,
        heads: int,
        ratio: float = 4.0,
        enter: int = -1,
        norm: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__(dim, norm_eps, num_classes, norm, drop)
        self.enter, self.blocks = enter, blocks
        self.table = nn.Parameter(torch.zeros(1, blocks, dim))
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = ClassAttention(dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.feedforward = MLP(dim, ratio=ratio)

    def features(self, tokens: Tokens) -> Tensor:
        """(B, 1 + N, C): the attended class token and the image tokens, after the final norm."""
        attended = tokens.replace_extra(self.attended(tokens.carry["class_tokens"]))
        out: Tensor = self.norm(attended.sequence)
        return out

    def attended(self, class_tokens: Tensor) -> Tensor:
        """Class tokens of all blocks (B, L, C) to the last one, attended (B, 1, C)."""
        every = class_tokens + self.table
        normed = self.norm1(every)
        asked = Tokens(normed[:, :-1], (self.blocks - 1, 1), extra=normed[:, -1:], layout="set")
        extra = self.attention(asked).extra
        last: Tensor = every[:, -1:] + extra
        out: Tensor = last + self.feedforward(Tokens(self.norm2(last), (1, 1), layout="set")).image
        return out

    def pooled(self, features: Tensor, prefix: int) -> Tensor:
        """The class token's row: the first."""
        return features[:, 0]

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 (1 + L) C^2 + 2 L C + 8 C^2 + C K."""
        attended = self.attention.macs((self.blocks - 1, 1), 1) + self.feedforward.macs((1, 1))
        return attended + super().macs(size, extra)
