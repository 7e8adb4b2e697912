"""The local relation layer: a neighbourhood averaged by how well its places compose, and by a prior of the offset."""

from __future__ import annotations

import math
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention
from hexavit.parts.attention.partition import ceil_div
from hexavit.parts.attention.places import Places, Weights, every, neighbours_of
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.registry import register_part

Compose = Literal["product", "absolute", "squared"]
OUTSIDE = -100.0
"""The composability of a neighbour outside of the map, as the authors' kernels have it."""


@register_part("attention", "local_relation")
class LocalRelation(Attention):
    """Local relation layer (LR-Net: Hu et al., ICCV 2019, eq. 2 to 4): k x k neighbours, one scalar q and key a group.

    New in it: weights are a softmax over the k^2 neighbours of Phi(q, key) + P(offset), with P a small network of the
    offset (columns, rows; neighbour minus centre), and they average the input itself, m channels alike; then a linear.
    Neighbours outside of the map are masked. Extra tokens, which no published model has, read all tokens, without P;
    neighbourhoods do not read them. `record_attention` gives (B, G, H' W', k^2).

    Shapes: (B, P + H W, C) to (B, P + H' W', C), H' = ceil(H / stride), N = H W, N' = H' W'. Cost with G = C / m
    groups and a hidden width g: parameters C^2 + 2 C G + C + 3 G + 3 g + g G; multiply-adds (N + N') C G + k^2 N' C +
    N' C^2 + k^2 g (2 + G), and for extra tokens P (2 C G + C^2 + (P + N) C). Phi is computed on scalars, and
    not counted.
    Same as the kernels of microsoft/Swin-Transformer's branch LR-Net; the network around them is not published, so its
    linears have biases and its offsets are whole numbers by choice.

    Args:
        kernel: side k of the neighbourhood, odd.
        channels: m, the number of channels that share weights; C if it is larger.
        compose: Phi: `product` q key, `absolute` -|q - key|, or `squared` -(q - key)^2.
        stride: stride of the centres. The output grid shrinks by it, and the residual pools its skip.
        dilation: distance of two neighbours.
        hidden: g; None for G / 2, at least 1.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an even kernel, an unknown composability, or a width that `channels` does not divide.
    """

    needs = "raster"
    reads_grid = True
    fused = "never"
    fused_reason = "a query and its keys are scalars, and each query has keys of its own"

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 7,
        channels: int = 8,
        compose: Compose = "product",
        stride: int = 1,
        dilation: int = 1,
        hidden: int | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(0.0, proj_drop)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel has no centre")
        if compose not in get_args(Compose):
            raise ValueError(f"there is no composability {compose!r}: {nearest(compose, get_args(Compose))}")
        if min(channels, stride, dilation) < 1:
            raise ValueError(f"channels, stride and dilation are at least 1, not {channels}, {stride}, {dilation}")
        channels = min(channels, dim)
        if dim % channels:
            raise ValueError(f"a width of {dim} does not divide into groups of {channels} channels: change channels")
        groups = dim // channels
        self._set_heads(dim, groups, channels)
        self.kernel, self.compose, self.stride, self.dilation = kernel, compose, stride, dilation
        hidden = max(1, groups // 2) if hidden is None else hidden
        self.query, self.key = nn.Linear(dim, groups), nn.Linear(dim, groups)
        self.prior1, self.prior2 = nn.Linear(2, hidden), nn.Linear(hidden, groups)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to (B, P + H' W', C)."""
        grid = tokens.grid
        keys = self.key(grid)
        weights = self._weights(self.query(grid[:, :: self.stride, :: self.stride]), keys)  # (B, H', W', G, k^2)
        self.show_filters(weights, weights.shape[:3])
        image = self.output(self._aggregated(grid, weights).flatten(1, 2))
        out = tokens.with_image(image, self.out_size(tokens.size))
        return out if tokens.extra is None else out.replace_extra(self._extra(tokens.extra, grid, keys))

    def _weights(self, q: Tensor, keys: Tensor) -> Tensor:
        """The weights of the neighbours of each centre: (B, H', W', G) and (B, H, W, G) to (B, H', W', G, k^2)."""
        near = self._near(keys).flatten(4)
        inside = self._near(torch.ones_like(keys[:1, :, :, :1])).flatten(4)
        logits = self._composed(q[..., None], near).masked_fill(inside == 0, OUTSIDE) + self.prior().to(q.dtype)
        return logits.softmax(dim=-1)

    def prior(self) -> Tensor:
        """P (G, k^2), row by row."""
        at = torch.arange(self.kernel, device=self.prior1.weight.device) - self.kernel // 2
        offsets = torch.stack(torch.broadcast_tensors(at[None], at[:, None]), dim=-1).flatten(0, 1)  # (column, row)
        found: Tensor = self.prior2(F.relu(self.prior1(offsets.to(self.prior1.weight.dtype))))
        return found.t()

    def _composed(self, q: Tensor, key: Tensor) -> Tensor:
        if self.compose == "product":
            return q * key
        return -(q - key).abs() if self.compose == "absolute" else -(q - key).square()

    def _near(self, grid: Tensor) -> Tensor:
        """The neighbours of each centre, 0 outside of the map: (B, H, W, C) to a view (B, H', W', C, k, k)."""
        reach = self.kernel // 2 * self.dilation
        padded = F.pad(grid, (0, 0, reach, reach, reach, reach))
        near = padded.unfold(1, 2 * reach + 1, self.stride).unfold(2, 2 * reach + 1, self.stride)
        dilated: Tensor = near[..., :: self.dilation, :: self.dilation]
        return dilated

    def _aggregated(self, grid: Tensor, weights: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C): one row of the kernel at a time, which copies the map k times, not k^2."""
        by_row = weights.unflatten(4, (self.kernel, self.kernel)).unbind(4)  # (B, H', W', G, k) each
        near = self._near(grid).unflatten(3, (self.heads, self.head_dim)).unbind(5)  # (B, H', W', G, m, k) each
        rows = (values @ row[..., None] for values, row in zip(near, by_row, strict=True))
        total: Tensor = reduce(torch.add, rows)
        return total.flatten(3)

    def _extra(self, extra: Tensor, grid: Tensor, keys: Tensor) -> Tensor:
        """Extra tokens (B, P, C) read themselves and all image tokens (B, H, W, C), whose keys are (B, H, W, G)."""
        read = torch.cat((extra, grid.flatten(1, 2)), dim=1)
        keys = torch.cat((self.key(extra), keys.flatten(1, 2)), dim=1).transpose(1, 2)  # (B, G, P + N)
        q = self.query(extra).transpose(1, 2)  # (B, G, P)
        weights = self._composed(q[..., None], keys[:, :, None]).softmax(dim=-1)
        if self.reader is not None:
            self.reader(Weights.of(weights.detach()))
        values = read.unflatten(2, (self.heads, self.head_dim)).transpose(1, 2)
        return self.output((weights @ values).transpose(1, 2).flatten(2))

    def out_size(self, size: Size) -> Size:
        """ceil(H / stride)."""
        return ceil_div(size[0], self.stride), ceil_div(size[1], self.stride)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The neighbours of each centre, then extra tokens to all."""
        count = math.prod(self.out_size(size))
        near = neighbours_of(size, extra, self.kernel, self.stride, self.dilation)
        to_all = Places(every(extra), every(extra + math.prod(size))[None])
        return (Places(every(count) + extra, near), to_all)[: 1 + (extra > 0)]

    def macs(self, size: Size, extra: int = 0) -> int:
        """(N + N') C G + k^2 N' C + N' C^2 + k^2 g (2 + G), and P (2 C G + C^2 + (P + N) C)."""
        h, w = self.out_size(size)
        n, centres, c, g = size[0] * size[1], h * w, self.dim, self.heads
        prior = self.kernel**2 * self.prior1.out_features * (2 + g)
        image = (n + centres) * c * g + self.kernel**2 * centres * c + centres * c * c + prior
        return image + extra * (2 * c * g + c * c + (extra + n) * c)
