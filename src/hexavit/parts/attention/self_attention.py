"""Global multi-head self-attention over all tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention, Scale, attention_scale, split_joint
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.registry import register_part


@register_part("attention", "global")
class GlobalAttention(Attention):
    """Multi-head self-attention over all tokens, extra ones included (Vaswani et al., 2017, section 3.2; ViT, eq. 6).

    out = concat_i softmax(s q_i k_i^T) v_i W_o + b_o, with q, k, v = x W + b from one joint linear.

    Shapes: (B, P + N, C) to the same. Cost with M = P + N and A = heads x head_dim: parameters 4 C A + 3 A + C;
    multiply-adds 4 M C A + 2 M^2 A.
    Same as timm's `Attention` of ViT and as flax's `MultiHeadDotProductAttention` with q, k, v stacked.

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        scale: the factor s: `head_dim` for d^-0.5, `dim` for C^-0.5 (T2T-ViT built with `pretrained`), or a number.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.
    """

    offers = frozenset({"logits", "values"})

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        scale: Scale | float = "head_dim",
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        inner = self._set_heads(dim, heads, head_dim)
        self.scale = attention_scale(scale, dim, self.head_dim)
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        return tokens.join().each(lambda x: self._mix(x, tokens.size, tokens.prefix))

    def _mix(self, x: Tensor, size: Size, prefix: int) -> Tensor:
        q, k, v = split_joint(self.qkv(x), 3, self.heads)  # (B, h, M, d) each
        mixed = self.attend(q, k, v, scale=self.scale, bias=position_bias(self.position, q, size, prefix))
        return self._projected(mixed, v, size, prefix)

    def _projected(self, mixed: Tensor, v: Tensor, size: Size, prefix: int) -> Tensor:
        """The output of attended values (B, M, A), for the values (B, h, M, d)."""
        if self.value_position is not None:
            values = v[:, :, prefix:].transpose(1, 2).flatten(2)
            mixed = mixed + F.pad(self.value_position(size, values), (0, 0, prefix, 0))
        return self.output(mixed)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 2 M^2 A."""
        m, inner = rows(size, extra), self.heads * self.head_dim
        return 4 * m * self.dim * inner + 2 * m * m * inner


def position_bias(position: nn.Module | None, q: Tensor, size: Size, prefix: int) -> Tensor | None:
    """What a position adds to the logits of queries (B, h, P + N, d): (1 or B, h, P + N, P + N), 0 for extra tokens."""
    if position is None:
        return None
    bias = F.pad(position(size, q[:, :, prefix:]), (prefix, 0, prefix, 0)).to(q.dtype)
    return bias[None] if bias.ndim == 3 else bias  # the fused kernel takes no three axes
