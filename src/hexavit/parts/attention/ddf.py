"""Decoupled dynamic filters: one part of each place, one of each image and channel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention
from hexavit.parts.attention.filters import (
    GAIN,
    by_offset,
    check_kernel,
    filter_norm,
    filtered,
    with_image_mean,
)
from hexavit.parts.attention.partition import strided
from hexavit.parts.attention.places import Places, every, neighbours_of
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.registry import register_part

Combine = Literal["mul", "add"]


@register_part("attention", "ddf")
class DecoupledDynamicFilter(Attention):
    """Decoupled dynamic filter (DDF: Zhou et al., CVPR 2021), a depth-wise filter with two predicted parts.

    New in it: F = f_c S_p (`mul`, the authors' default) or f_c + S_p (`add`), with S_p of each place p, by a 1x1
    convolution, and f_c of each image and channel c, by two linears of the mean with a ReLU between them. Both are
    normed over their k^2 values; the deviation of S_p is then sqrt(2) / k, that of f_c a learned factor of each value.

    The map is 0 outside, and any H x W is taken. Extra tokens, which no published model has, get the mean of what image
    tokens get. `record_attention` gives the filters (B, C, H' W', k^2).

    Args:
        combine: `mul` or `add`.
        kernel: side k of the filters, odd and above 1.
        heads: number of groups of channels that share S_p.
        se_ratio: width between the two linears, as a multiple of C, rounded down.
        stride: distance of the places; above 1 the map shrinks, and the residual pools its skip.
        dilation: distance of the neighbours.
        attn_drop: dropout rate of the filters.
        proj_drop: dropout rate of the output.

    Shapes: (B, P + H W, C) to (B, P + H' W', C), H' = ceil(H / stride). Cost with R = se_ratio C and N' = H' W':
    parameters (C + 1) k^2 heads + (C + 1) R + (R + 2) k^2 C; multiply-adds N' k^2 C (heads + 1) + (1 + k^2) C R.
    Same as `DDFPack` of theFoxofSky/ddfnet; differs: its stride must divide the sides.

    Raises:
        ValueError: an unknown way to combine, a kernel that is even or 1, heads that do not divide C, a stride or a
            dilation below 1, or an se_ratio that leaves no width.
    """

    needs = "raster"
    reads_grid = True
    extra_mean = True
    fused = "never"
    fused_reason = "filters are convolved with the values; there are no queries and keys"
    maps_are = "mixed"
    last = "expand"

    def __init__(
        self,
        dim: int,
        *,
        combine: Combine = "mul",
        kernel: int = 3,
        heads: int = 1,
        se_ratio: float = 0.2,
        stride: int = 1,
        dilation: int = 1,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if combine not in get_args(Combine):
            raise ValueError(f"there is no combine {combine!r}: {nearest(combine, get_args(Combine))}")
        check_kernel(kernel, dilation)
        if kernel == 1:
            raise ValueError("a kernel of 1 has one value, which the norm makes 0: use 3 or more")
        if stride < 1:
            raise ValueError(f"stride is at least 1, not {stride}")
        inner = int(dim * se_ratio)
        if inner < 1:
            raise ValueError(f"se_ratio={se_ratio} leaves no width of {dim} channels")
        self._set_heads(dim, heads, None)
        self.combine, self.kernel, self.stride, self.dilation = combine, kernel, stride, dilation
        self.spatial = nn.Conv2d(dim, heads * kernel**2, 1, stride=stride)
        self.squeeze, self.expand = nn.Conv2d(dim, inner, 1), nn.Conv2d(inner, dim * kernel**2, 1)
        self.std = nn.Parameter(torch.randn(dim * kernel**2) * (GAIN / kernel))

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to (B, P + H' W', C)."""
        x = tokens.map
        spatial = self.spatial(x).permute(0, 2, 3, 1).unflatten(3, (self.heads, -1))  # (B, H', W', h, k^2)
        spatial = filter_norm(spatial) * (GAIN / self.kernel)
        channel = self.expand(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))).permute(0, 2, 3, 1)
        channel = filter_norm(channel.unflatten(3, (self.heads, self.head_dim, -1)))
        channel = channel * self.std.view(self.heads, self.head_dim, -1)  # (B, 1, 1, h, d, k^2)
        if self.maps is not None or self.reader is not None:
            every = torch.stack(list(self._combined(spatial, channel)), dim=-1)
            self.show_filters(every.flatten(3, 4), every.shape[:3])
        grid = x.permute(0, 2, 3, 1).unflatten(3, (self.heads, -1))  # (B, H, W, h, d)
        filters = (F.dropout(each, self.attn_drop, self.training) for each in self._combined(spatial, channel))
        out = filtered(grid, filters, self.kernel, self.stride, self.dilation)
        image = self.dropped(out.flatten(3).flatten(1, 2))
        return with_image_mean(tokens, image, self.out_size(tokens.size))

    def _combined(self, spatial: Tensor, channel: Tensor) -> Iterator[Tensor]:
        """The filter (B, H', W', h, d) of each offset."""
        for place, image in zip(by_offset(spatial[..., None, :]), by_offset(channel), strict=True):
            yield place * image if self.combine == "mul" else place + image

    def out_size(self, size: Size) -> Size:
        """ceil(H / stride)."""
        return strided(size, self.stride)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The neighbours of each place."""
        count = math.prod(self.out_size(size))
        return (Places(every(count) + extra, neighbours_of(size, extra, self.kernel, self.stride, self.dilation)),)

    def macs(self, size: Size, extra: int = 0) -> int:
        """N' k^2 C (heads + 1) + (1 + k^2) C R."""
        height, width = self.out_size(size)
        of_image = self.squeeze.weight.numel() + self.expand.weight.numel()
        return height * width * self.kernel**2 * self.dim * (self.heads + 1) + of_image
