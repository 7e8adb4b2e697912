"""Class attention: queries from the extra tokens alone."""

from __future__ import annotations

import math

from torch import Tensor, nn

from hexavit.parts.attention.base import Attention, split_heads
from hexavit.parts.attention.places import Places, every
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.registry import register_part


@register_part("attention", "class_attention")
class ClassAttention(Attention):
    """Class attention (CaiT: Touvron et al., ICCV 2021, eq. 6 and 7): queries from the extra tokens, keys and values
    from all.

    New in it: image tokens are unchanged, so that the class token enters for the last two blocks only. Needs the
    residual `extra_only` and extra tokens (`head=class_token`).

    Shapes: (B, P + N, C) to the same, image tokens unchanged. Cost with M = P + N and A = heads x head_dim: parameters
    4 C A + 3 A + C; multiply-adds 2 (P + M) C A + 2 P M A.
    Same as facebookresearch/deit's and timm's CaiT, and as CeiT's layer-wise class-token attention over class tokens.

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.
    """

    reads_grid = True  # extra and image tokens are read apart
    needs_extra = True

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        inner = self._set_heads(dim, heads, head_dim)
        self.scale = self.head_dim**-0.5
        self.q = nn.Linear(dim, inner, bias=qkv_bias)
        self.k = nn.Linear(dim, inner, bias=qkv_bias)
        self.v = nn.Linear(dim, inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same, image tokens unchanged."""
        extra, every = tokens.extra, tokens.sequence
        assert extra is not None  # `needs_extra`
        q, k, v = (split_heads(x, self.heads) for x in (self.q(extra), self.k(every), self.v(every)))
        out: Tensor = self.output(self.attend(q, k, v, scale=self.scale))  # (B, P, C)
        return tokens.replace_extra(out)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """Extra tokens to all."""
        return (Places(every(extra), every(extra + math.prod(size))[None]),)

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 (P + M) C A + 2 P M A."""
        m, inner = rows(size, extra), self.heads * self.head_dim
        return 2 * (extra + m) * self.dim * inner + 2 * extra * m * inner
