"""CvT's attention: convolutional projections of q, k and v, with fewer keys and values."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, Scale, attention_scale, split_heads
from hexavit.parts.attention.places import KeyGrid, kernel_shares
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.registry import register_part

Method = Literal["dw_bn", "avg", "linear"]


class DepthwiseProjection(nn.Module):
    """Depth-wise convolution without bias, then batch norm: the front of CvT's convolutional projection.

    (B, H, W, C) to (B, H', W', C), with H' = (H + 2 padding - kernel) // stride + 1.
    """

    def __init__(self, dim: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel, stride=stride, padding=padding, groups=dim, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in channels-last memory to the same kind."""
        out: Tensor = self.bn(self.conv(image))
        return out


@register_part("attention", "conv_projection")
class ConvProjection(Attention):
    """Attention with convolutional projection (CvT: Wu et al., ICCV 2021, section 3.2, eq. 2).

    New in it: a depth-wise convolution and a batch norm on the image tokens precede each linear, for keys and values
    with stride `stride_kv`, which makes the attention map stride_kv^2 times smaller. Extra tokens skip the convolution
    and are joined to q, k and v before the linears.

    Shapes: (B, P + H W, C) to (B, P + H' W', C), H' = ceil(H / stride_q). Cost with Q and M the tokens of the queries
    and of the keys (extra ones counted), A = heads x head_dim, k the kernel: parameters 4 C A + 3 A + C and with
    `dw_bn` 3 (k^2 + 2) C; multiply-adds 2 (Q + M) C A + 2 Q M A and with `dw_bn` k^2 C per convolved token.

    Same as microsoft/CvT at f851e681. Differs: `linear`, which fails there because q, k and v are never assigned, and
    `stride_q` above 1.

    Args:
        heads: number of heads.
        method: `dw_bn` for the convolution and batch norm above; `avg` for average pooling of k and v (ceil mode,
            padding counted) and no convolution of q; `linear` for three linears on all tokens, without kernel,
            strides and paddings.
        kernel: side of the kernel.
        stride_q: stride of the queries. Above 1 the output grid shrinks, and the residual pools its skip.
        stride_kv: stride of keys and values.
        padding_q: padding of the queries.
        padding_kv: padding of keys and values.
        share_kv: whether keys and values share one convolution.
        head_dim: width d of a head; None for dim / heads.
        scale: factor on q k^T: `dim` for C^-0.5, as in the authors' code; `head_dim` for d^-0.5.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an unknown method or scale, a width that the heads do not divide, or a kernel and padding that
            leave the queries on another grid than their tokens.
    """

    needs = "raster"
    reads_grid = True
    methods: ClassVar[tuple[str, ...]] = get_args(Method)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        method: Method = "dw_bn",
        kernel: int = 3,
        stride_q: int = 1,
        stride_kv: int = 2,
        padding_q: int = 1,
        padding_kv: int = 1,
        share_kv: bool = False,
        head_dim: int | None = None,
        scale: Scale = "dim",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if method not in self.methods:
            raise ValueError(f"there is no method {method!r}: {nearest(method, self.methods)}")
        if min(kernel, stride_q, stride_kv) < 1 or min(padding_q, padding_kv) < 0:
            raise ValueError("kernel and strides are at least 1, paddings at least 0")
        if method == "dw_bn" and 2 * padding_q != kernel - 1:
            fits = f"padding_q={kernel // 2}" if kernel % 2 else "an odd kernel"
            raise ValueError(
                f"kernel={kernel} with padding_q={padding_q} shifts the queries against their tokens: use {fits}"
            )
        if method == "avg" and 2 * padding_kv > kernel:
            raise ValueError(
                f"average pooling takes a padding_kv of at most half its kernel={kernel}, not {padding_kv}"
            )
        if method != "dw_bn" and stride_q != 1:
            raise ValueError(f"method={method!r} does not convolve the queries: stride_q={stride_q} needs 'dw_bn'")
        if method != "dw_bn" and share_kv:
            raise ValueError(f"method={method!r} has no convolution to share: share_kv=True needs 'dw_bn'")
        inner = self._set_heads(dim, heads, head_dim)
        self.method, self.kernel = method, kernel
        self.stride, self.stride_kv, self.padding_kv = stride_q, stride_kv, padding_kv
        self.scale = attention_scale(scale, dim, self.head_dim)
        self.share_kv = share_kv
        if method == "dw_bn":
            self.conv_q = DepthwiseProjection(dim, kernel, stride_q, padding_q)
            self.conv_k = DepthwiseProjection(dim, kernel, stride_kv, padding_kv)
            if not share_kv:
                self.conv_v = DepthwiseProjection(dim, kernel, stride_kv, padding_kv)
        elif method == "avg":
            self.pool = nn.AvgPool2d(kernel, stride_kv, padding_kv, ceil_mode=True)
        self.proj_q = nn.Linear(dim, inner, bias=qkv_bias)
        self.proj_k = nn.Linear(dim, inner, bias=qkv_bias)
        self.proj_v = nn.Linear(dim, inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to (B, P + H' W', C)."""
        k, v = self.keys_and_values(tokens)
        if self.method == "dw_bn":
            q = self._convolved(self.conv_q, tokens.map, tokens.extra)
        else:
            q = k if self.method == "linear" else tokens.sequence
        out = self.mix(q, k, v)
        size = self.out_size(tokens.size)
        return Tokens(out, size, prefix=tokens.prefix, layout=tokens.layout, carry=tokens.carry)

    def keys_and_values(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the linears make keys and values of: (B, P + M, C) twice, M the tokens of the keys' grid."""
        if self.method == "linear":
            k = v = tokens.sequence
        elif self.method == "avg":
            k = v = self._convolved(self.pool, tokens.map, tokens.extra)
        else:
            image, extra = tokens.map, tokens.extra
            k = self._convolved(self.conv_k, image, extra)
            v = k if self.share_kv else self._convolved(self.conv_v, image, extra)
        return k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The linears, the attention, and the linear behind it: rows (B, Q, C) of queries to (B, Q, C)."""
        mixed = self.attend(
            split_heads(self.proj_q(q), self.heads),  # (B, h, Q, d)
            split_heads(self.proj_k(k), self.heads),  # (B, h, M, d)
            split_heads(self.proj_v(v), self.heads),
            scale=self.scale,
        )
        return self.output(mixed)

    @staticmethod
    def _convolved(front: nn.Module, image: Tensor, extra: Tensor | None) -> Tensor:
        """(B, C, H, W) and (B, P, C) to (B, P + H' W', C)."""
        sequence: Tensor = front(image).permute(0, 2, 3, 1).flatten(1, 2)
        return sequence if extra is None else torch.cat((extra, sequence), dim=1)

    def out_size(self, size: Size) -> Size:
        """The queries' grid: ceil(H / stride_q)."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def kv_size(self, size: Size) -> Size:
        """The keys' grid."""
        if self.method == "linear":
            return size
        return self._kv_side(size[0]), self._kv_side(size[1])

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells that the kernel reads."""
        if self.method == "linear":
            return (KeyGrid(size),)
        return (KeyGrid.pooled(size, kernel_shares(self.kernel, self.stride_kv, self.padding_kv, self._kv_side)),)

    def _kv_side(self, n: int) -> int:
        span = n + 2 * self.padding_kv - self.kernel
        if self.method == "dw_bn":
            return span // self.stride_kv + 1
        side = -(-span // self.stride_kv) + 1  # ceil mode; a window may not start in the far padding
        return side - int((side - 1) * self.stride_kv >= n + self.padding_kv)

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 (Q + M) C A + 2 Q M A, and k^2 C per convolved token."""
        q, m, inner = rows(self.out_size(size), extra), rows(self.kv_size(size), extra), self.heads * self.head_dim
        total = 2 * (q + m) * self.dim * inner + 2 * q * m * inner
        if self.method == "dw_bn":
            convolved = (q - extra) + (m - extra) * (1 if self.share_kv else 2)
            total += self.kernel**2 * self.dim * convolved
        return total
