"""Attention whose maps are mixed across the heads: talking heads, and Re-attention."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.attention.self_attention import GlobalAttention
from hexavit.parts.contract import Size, rows
from hexavit.parts.layers import HeadMixing
from hexavit.parts.registry import register_part


@register_part("attention", "talking_heads")
class TalkingHeads(GlobalAttention):
    """Talking-heads attention (Shazeer et al., 2020), as CaiT's trunk has it (Touvron et al., ICCV 2021).

    New in it: a linear over the heads, with bias, on the logits before the softmax, and a second one on the maps
    after it, whose rows then no longer sum to 1.

    Shapes: (B, P + N, C) to the same. Cost with M = P + N, h heads and A = heads x head_dim: parameters
    4 C A + 3 A + C + 2 h^2 + 2 h; multiply-adds 4 M C A + 2 M^2 A + 2 h^2 M^2.
    Same as facebookresearch/deit's and timm's CaiT.

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.
    """

    fused = "never"
    fused_reason = "heads are mixed between the product and the softmax, and after it"
    maps_are = "mixed"

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
        super().__init__(
            dim, heads=heads, head_dim=head_dim, qkv_bias=qkv_bias, attn_drop=attn_drop, proj_drop=proj_drop
        )
        self.mix_before = HeadMixing(heads)
        self.mix_after = HeadMixing(heads)

    def before_softmax(self, logits: Tensor) -> Tensor:
        """Logits (B, h, N, M), mixed over h."""
        mixed: Tensor = self.mix_before(logits)
        return mixed

    def after_softmax(self, attention: Tensor) -> Tensor:
        """Maps (B, h, N, M), mixed over h."""
        mixed: Tensor = self.mix_after(attention)
        return mixed

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 2 M^2 A + 2 h^2 M^2."""
        return super().macs(size, extra) + 2 * (self.heads * rows(size, extra)) ** 2


@register_part("attention", "re_attention")
class ReAttention(GlobalAttention):
    """Re-attention (DeepViT: Zhou et al., 2021, eq. 3): maps are mixed across heads, so that deep blocks differ.

    New in it: A' = t BatchNorm(Theta A) after the softmax, Theta a learned h x h matrix with bias over the heads, the
    batch norm over the h maps.

    Shapes: (B, P + N, C) to the same. Cost with M = P + N, h heads and A = heads x head_dim: parameters
    4 C A + 3 A + C + h^2 + 3 h; multiply-adds 4 M C A + 2 M^2 A + h^2 M^2.
    Same as zhoudaquan/dvit_repo, whose bias on Theta the paper does not mention.

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        transform_scale: whether t = d^-0.5 (DeepViT-S), else t = 1.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.
    """

    fused = "never"
    fused_reason = "the maps are mixed across heads and normed after the softmax"
    maps_are = "mixed"

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        transform_scale: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(
            dim, heads=heads, head_dim=head_dim, qkv_bias=qkv_bias, attn_drop=attn_drop, proj_drop=proj_drop
        )
        self.theta = nn.Conv2d(heads, heads, 1)
        self.norm = nn.BatchNorm2d(heads)
        self.transform = self.head_dim**-0.5 if transform_scale else 1.0

    def after_softmax(self, attention: Tensor) -> Tensor:
        """Maps (B, h, N, M), mixed over h and normed."""
        mixed: Tensor = self.norm(self.theta(attention))
        return mixed if self.transform == 1 else mixed * self.transform

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 2 M^2 A + h^2 M^2."""
        return super().macs(size, extra) + (self.heads * rows(size, extra)) ** 2
