"""Attention with reduced keys and values: PVT's, PVT v2's, Twins', ResT's and P2T's."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, split_heads, split_joint
from hexavit.parts.attention.places import KeyGrid
from hexavit.parts.attention.reductions import PooledConv, PyramidPool, Reduction, StridedConv
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.registry import register_part

Method = Literal["conv", "depthwise", "pool", "pyramid"]


@register_part("attention", "spatial_reduction")
class SpatialReduction(Attention):
    """Spatial-reduction attention (PVT: Wang et al., ICCV 2021, section 3.3, eq. 2 and 3).

    New in it: queries come from every token, keys and values from a reduced map, so the attention map has M instead of
    N columns: k, v = LayerNorm(reduce(x)) W + b. Extra tokens are not reduced: they are concatenated with the reduced
    tokens before the norm.

    Methods of reduction:

    - `conv`: a convolution of kernel and stride `sr_ratio` (PVT; PVT v2; Twins' global sub-sampled attention, GSA: Chu
      et al., NeurIPS 2021, eq. 5).
    - `depthwise`: a depth-wise convolution of kernel `sr_ratio` + 1 (ResT's EMSA: Zhang & Yang, NeurIPS 2021,
      section 3.1).
    - `pool`: average pooling to `side` x `side`, a 1x1 convolution, and GELU after the norm (PVT v2's linear attention:
      Wang et al., CVM 2022, section 3.2).
    - `pyramid`: average pooling at every ratio of `pool_ratios`, with depth-wise convolutions that the blocks of a
      stage share (P2T: Wu et al., TPAMI 2022, section 3.2).

    Shapes: (B, P + H W, C) to the same. Cost with Q = P + H W, M keys (extra ones counted), A = heads x head_dim,
    R = `sr_ratio`: parameters 4 C A + 3 A + C, with a reduction 2 C, and R^2 C^2 + C (`conv`), (R + 1)^2 C + C
    (`depthwise`), C^2 + C (`pool`), 10 C a ratio and a stage (`pyramid`), with mixing h^2 + h; multiply-adds
    2 (Q + M) C A + 2 Q M A, the reduction's weights at every place of it, and h^2 Q M.
    Same as whai362/PVT, Meituan-AutoML/Twins, wofmanaf/ResT and yuhuan-wu/P2T. Differs: a map smaller than its
    reduction is padded, or pooled to one token, where theirs fails.

    Args:
        heads: number of heads.
        method: `conv`, `depthwise`, `pool` or `pyramid`.
        sr_ratio: stride of `conv` and `depthwise`; 1 for no reduction and no norm.
        side: side of the pooled map of `pool`.
        pool_ratios: ratios of `pyramid`.
        mix_heads: whether a 1x1 convolution mixes the logits over the heads, and an instance norm follows the softmax
            (ResT, eq. 4). A single head is not mixed.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        eps: epsilon of the norm; None for the model's.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an unknown method, a width that the heads do not divide, a ratio or a side below 1.
    """

    needs = "raster"
    reads_grid = True

    def __init__(
        self,
        dim: int,
        norm_eps: float,
        shared: nn.ModuleDict,
        *,
        heads: int,
        method: Method = "conv",
        sr_ratio: int = 1,
        side: int = 7,
        pool_ratios: tuple[int, ...] = (1, 2, 3, 4),
        mix_heads: bool = False,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        eps: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if method not in get_args(Method):
            raise ValueError(f"there is no method {method!r}: {nearest(method, get_args(Method))}")
        if min(sr_ratio, side, *pool_ratios) < 1 or not pool_ratios:
            raise ValueError(
                f"sr_ratio, side and pool_ratios are at least 1, not {sr_ratio}, {side} and {(*pool_ratios,)}"
            )
        inner = self._set_heads(dim, heads, head_dim)
        self.q = nn.Linear(dim, inner, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)
        self.reduction: Reduction | None = None
        if method == "pool":
            self.reduction = PooledConv(dim, side)
        elif method == "pyramid":
            self.reduction = PyramidPool(dim, tuple(pool_ratios), shared)
        elif sr_ratio > 1:
            self.reduction = StridedConv(dim, sr_ratio, method == "depthwise")
        if self.reduction is not None:
            self.norm = nn.LayerNorm(dim, eps=norm_eps if eps is None else eps)
        self.reads_grid = self.reduction is not None
        self.pooled = method == "pool"
        self.mix = nn.Conv2d(heads, heads, 1) if mix_heads and heads > 1 else None
        if self.mix is not None:
            self.fused, self.maps_are, self.rows_apart = "never", "mixed", False
            self.fused_reason = "heads are mixed before the softmax, and the maps normed after it"

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        sequence = tokens.sequence
        q = split_heads(self.q(sequence), self.heads)  # (B, h, Q, d)
        k, v = split_joint(self.kv(self._reduced(tokens, sequence)), 2, self.heads)
        out = self.output(self.attend(q, k, v, scale=self.head_dim**-0.5))
        return Tokens(out, tokens.size, prefix=tokens.prefix, layout=tokens.layout, carry=tokens.carry)

    def _reduced(self, tokens: Tokens, sequence: Tensor) -> Tensor:
        """What keys and values are made of (B, M, C)."""
        if self.reduction is None:
            return sequence
        reduced, extra = self.reduction(tokens.map), tokens.extra
        reduced = self.norm(reduced if extra is None else torch.cat((extra, reduced), dim=1))
        return F.gelu(reduced) if self.pooled else reduced

    def before_softmax(self, logits: Tensor) -> Tensor:
        """Logits (B, h, Q, M), mixed over h."""
        if self.mix is None:
            return logits
        mixed: Tensor = self.mix(logits)
        return mixed.float() if mixed.dtype.itemsize < 4 else mixed  # what the norm behind the softmax magnifies

    def after_softmax(self, attention: Tensor) -> Tensor:
        """Maps (B, h, Q, M), each of mean 0 and variance 1 over Q and M, where heads are mixed."""
        if self.mix is None:
            return attention
        variance, mean = torch.var_mean(attention, dim=(2, 3), correction=0, keepdim=True)
        return (attention - mean) * (variance + 1e-5).rsqrt()

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells that the reduction reads."""
        return (KeyGrid(size),) if self.reduction is None else self.reduction.key_grids(size)

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 (Q + M) C A + 2 Q M A, the reduction's, and h^2 Q M with mixing."""
        q, inner = rows(size, extra), self.heads * self.head_dim
        m = q if self.reduction is None else extra + self.reduction.tokens(size)
        total = 2 * (q + m) * self.dim * inner + 2 * q * m * inner
        total += 0 if self.reduction is None else self.reduction.macs(size)
        return total if self.mix is None else total + self.heads**2 * q * m
