"""Attention over pooled queries, keys and values: MViT's and MViTv2's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention, head_width
from hexavit.parts.attention.partition import ceil_div, crop_map, cut_windows, join_windows, pad_map, strided
from hexavit.parts.attention.places import KeyGrid, Places, every, kernel_shares, windows_of
from hexavit.parts.contract import Scope, Size, Tokens, rows
from hexavit.parts.registry import register_part


@register_part("attention", "pooling")
class PoolingAttention(Attention):
    """Pooling attention (MViT: Fan et al., ICCV 2021, section 3.1; MViTv2: Li et al., CVPR 2022, section 3).

    New in it: queries, keys and values are pooled behind their linear, each by a depth-wise convolution whose weights
    the heads share, and a LayerNorm over the channels of a head. The stride of the queries shrinks the grid that comes
    out; that of keys and values only the cost. out = (softmax(q k^T / sqrt(d) + position) v + q) W + b.

    Extra tokens are not convolved; they pass the norms with the others.

    Args:
        in_dim: width of the tokens that come in.
        dim: C, the width that comes out.
        norm_eps: epsilon of the norms.
        heads: number of heads.
        kernel: side of the convolutions, odd.
        stride_q: stride of the queries.
        stride_kv: stride of the keys and values.
        pool_q: False leaves the queries without a convolution and a norm (MViT, in blocks without a stride).
        residual_q: add the pooled queries to the attended values (MViTv2, section 3.1).
        window: 0, or the side of windows inside which queries and keys meet, counted in tokens that come in (Hwin:
            MViTv2, section 3.2). The map is pooled first, then padded to whole windows with zeros at the bottom and at
            the right, which take part. Extra tokens read all tokens, and windows do not read them.
        head_dim: width d of one head; None for C / heads.
        qkv_bias: whether the linear of q, k and v has a bias.
        attn_drop: dropout of the attention maps.
        proj_drop: dropout behind the last linear.

    Shapes: (B, P + H W, in_dim) to (B, P + H' W', C), H' = ceil(H / stride_q). Cost with Q = P + H' W', M keys (extra
    ones counted), T = P + H W, A = heads x head_dim: parameters 3 (in_dim + 1) A + (A + 1) C + 3 (kernel^2 + 2) d;
    multiply-adds 3 T in_dim A + Q A C + 2 Q M A + kernel^2 A (Q + 2 M - 3 P).
    In windows of q^2 queries and k^2 keys 2 A q^2 k^2 a window and 2 P M A instead of 2 Q M A.
    Same as facebookresearch/mvit (`POOL_FIRST` off, `MODE` conv), SlowFast and timm, windows as in
    detectron2, which knows no extra tokens.

    Raises:
        ValueError: a width that the heads do not divide, an even kernel, a stride below 1, a `stride_q` without
            `pool_q`, or a window that a stride does not divide.
    """

    needs = "raster"
    offers = frozenset({"logits"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        heads: int,
        kernel: int = 3,
        stride_q: int = 1,
        stride_kv: int = 1,
        pool_q: bool = True,
        residual_q: bool = True,
        window: int = 0,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        if min(stride_q, stride_kv) < 1:
            raise ValueError(f"stride_q and stride_kv are at least 1, not {stride_q} and {stride_kv}")
        if stride_q > 1 and not pool_q:
            raise ValueError(f"pool_q=false does not convolve the queries: stride_q={stride_q} needs pool_q=true")
        if window < 0 or window % math.lcm(stride_q, stride_kv):
            raise ValueError(
                f"window is 0 or a multiple of stride_q={stride_q} and stride_kv={stride_kv}, not {window}"
            )
        self.in_dim, self.dim, self.heads = in_dim, dim, heads
        self.head_dim = head_width(dim, heads, head_dim)
        self.kernel, self.stride, self.stride_kv = kernel, stride_q, stride_kv
        self.residual_q, self.window = residual_q, window
        inner = heads * self.head_dim
        self.qkv = nn.Linear(in_dim, 3 * inner, bias=qkv_bias)
        self.pool_q = self._pool(stride_q) if pool_q else None
        self.pool_k, self.pool_v = self._pool(stride_kv), self._pool(stride_kv)
        self.norm_q = nn.LayerNorm(self.head_dim, eps=norm_eps) if pool_q else None
        self.norm_k, self.norm_v = (nn.LayerNorm(self.head_dim, eps=norm_eps) for _ in range(2))
        self.proj = nn.Linear(inner, dim)

    def _pool(self, stride: int) -> nn.Conv2d:
        d, k = self.head_dim, self.kernel
        return nn.Conv2d(d, d, k, stride=stride, padding=k // 2, groups=d, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, in_dim) to (B, P + H' W', C)."""
        qkv = self.qkv(tokens.sequence).unflatten(2, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, h, P + H W, d) each
        prefix, size, keys = tokens.prefix, self.out_size(tokens.size), self.kv_size(tokens.size)
        if self.pool_q is not None and self.norm_q is not None:
            q = self.norm_q(self._pooled(q, self.pool_q, tokens.size, size, prefix))
        k = self.norm_k(self._pooled(k, self.pool_k, tokens.size, keys, prefix))
        v = self.norm_v(self._pooled(v, self.pool_v, tokens.size, keys, prefix))
        over = self._over_windows if self.window else self._over_map
        mixed = over(q, k, v, size, keys)
        if self.residual_q:
            mixed = mixed + q.transpose(1, 2).flatten(2)
        out = self.output(mixed)
        return Tokens(out, size, prefix=prefix, layout=tokens.layout, carry=tokens.carry)

    def _pooled(self, x: Tensor, pool: nn.Module, size: Size, after: Size, prefix: int) -> Tensor:
        """(B, h, P + H W, d) to (B, h, P + H' W', d): heads are convolved as images."""
        batch = x.shape[0]
        grid = x[:, :, prefix:].reshape(batch * self.heads, *size, self.head_dim)
        out: Tensor = pool(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out = out.reshape(batch, self.heads, after[0] * after[1], self.head_dim)
        return torch.cat((x[:, :, :prefix], out), dim=2) if prefix else out

    def _over_map(self, q: Tensor, k: Tensor, v: Tensor, size: Size, keys: Size) -> Tensor:
        """q (B, h, Q, d), k and v (B, h, M, d) to (B, Q, h d)."""
        bias = None
        if self.position is not None:
            prefix = q.shape[2] - size[0] * size[1]
            bias = self._bias(q[:, :, prefix:], size, keys)
            if prefix:  # extra tokens have no place, hence no bias
                bias = F.pad(bias, (prefix, 0, prefix, 0))
        return self.attend(q, k, v, scale=self.head_dim**-0.5, bias=bias)

    def _over_windows(self, q: Tensor, k: Tensor, v: Tensor, size: Size, keys: Size) -> Tensor:
        """As `_over_map`, in windows; extra tokens over the map."""
        counts, (of_queries, of_keys) = self._counts(size), self._windows()
        extra = q.shape[2] - size[0] * size[1]
        asked = self._cut(q[:, :, extra:], size, counts, of_queries)
        held = [self._cut(x[:, :, extra:], keys, counts, of_keys) for x in (k, v)]
        bias = None if self.position is None else self._bias(asked, of_queries, of_keys)
        mixed = self.attend(asked, *held, scale=self.head_dim**-0.5, bias=bias)
        mixed = crop_map(join_windows(mixed, q.shape[0], counts, of_queries), size)
        if not extra:
            return mixed
        read = self.attend(q[:, :, :extra], k, v, scale=self.head_dim**-0.5, record=False)
        return torch.cat((read, mixed), dim=1)

    def _cut(self, x: Tensor, size: Size, counts: Size, window: Size) -> Tensor:
        """(B, h, H W, d) to (B x windows, h, tokens of a window, d)."""
        grid = x.transpose(1, 2).unflatten(1, size)  # (B, H, W, h, d)
        behind = counts[0] * window[0] - size[0], counts[1] * window[1] - size[1]
        return cut_windows(pad_map(grid, (0, 0), behind).contiguous(), counts, window).transpose(1, 2)

    def _windows(self) -> tuple[Size, Size]:
        """The windows of the queries and of the keys."""
        q, k = self.window // self.stride, self.window // self.stride_kv
        return (q, q), (k, k)

    def _counts(self, size: Size) -> Size:
        """How many windows cover the queries' grid, down and across, and with them the keys'."""
        side = self.window // self.stride
        return ceil_div(size[0], side), ceil_div(size[1], side)

    def _bias(self, q: Tensor, scope: Size, key_scope: Size) -> Tensor:
        assert self.position is not None
        bias: Tensor = self.position(scope, q, key_scope).to(q.dtype)
        return bias[None] if bias.ndim == 3 else bias  # the fused kernel takes no three axes

    def out_size(self, size: Size) -> Size:
        """The queries' grid: ceil(H / stride_q)."""
        return strided(size, self.stride)

    def kv_size(self, size: Size) -> Size:
        """The keys' grid."""
        return strided(size, self.stride_kv)

    def scope(self, size: Size) -> Size:
        """The queries' grid, or their window."""
        return self.scopes(size)[0].queries

    def scopes(self, size: Size) -> tuple[Scope, ...]:
        """The grids of the queries and of the keys, or their windows."""
        if self.window:
            return (Scope(*self._windows(), self.heads, math.prod(self._counts(self.out_size(size)))),)
        return (Scope(self.out_size(size), self.kv_size(size), self.heads),)

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells that the convolution of the keys reads."""
        stride = self.stride_kv
        shares = kernel_shares(self.kernel, stride, self.kernel // 2, lambda n: ceil_div(n, stride))
        return (KeyGrid.pooled(size, shares),)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """All tokens, or windows of image tokens and then extra tokens to all."""
        if not self.window:
            return super().places(size, extra)
        queries, keys = self.out_size(size), self.kv_size(size)
        counts, (of_queries, of_keys) = self._counts(queries), self._windows()
        inside = Places(
            windows_of(queries, extra, counts, of_queries), windows_of(keys, extra, counts, of_keys)[:, None]
        )
        return (inside, Places(every(extra), every(extra + math.prod(keys))[None]))[: 1 + (extra > 0)]

    def macs(self, size: Size, extra: int = 0) -> int:
        """3 T in_dim A + Q A C + 2 Q M A + kernel^2 A (Q + 2 M - 3 P); pairs of windows instead of Q M."""
        inner = self.heads * self.head_dim
        q, m = rows(self.out_size(size), extra), rows(self.kv_size(size), extra)
        convolved = 2 * (m - extra) + (q - extra if self.pool_q is not None else 0)
        linears = 3 * rows(size, extra) * self.in_dim * inner + q * inner * self.dim
        pairs = q * m
        if self.window:
            (scope,) = self.scopes(size)
            pairs = scope.windows * math.prod(scope.queries) * math.prod(scope.keys) + extra * m
        return linears + 2 * pairs * inner + self.kernel**2 * inner * convolved
