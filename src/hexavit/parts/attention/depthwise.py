"""DWNet's attention: a depth-wise convolution whose filters are learned, or predicted for each image or each place."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, head_width
from hexavit.parts.attention.filters import by_offset, check_kernel, filtered, with_image_mean
from hexavit.parts.attention.places import Places, every, neighbours_of
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.registry import register_part

Filters = Literal["static", "dynamic", "inhomogeneous"]


class FilterNetwork(nn.Module):
    """1x1 convolution, batch norm, ReLU, 1x1 convolution: a map (B, C, H, W) to filters (B, H, W, G, k^2)."""

    def __init__(self, dim: int, hidden: int, heads: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.shape = (heads, kernel**2)
        self.fc1, self.norm = nn.Conv2d(dim, hidden, 1, bias=bias), nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, heads * kernel**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H, W, G, k^2)."""
        mapped = self.fc2(F.relu(self.norm(self.fc1(x))))
        filters: Tensor = mapped.permute(0, 2, 3, 1).unflatten(3, self.shape)
        return filters

    @property
    def weights(self) -> int:
        """Number of multiply-adds at one place."""
        return self.fc1.weight.numel() + self.fc2.weight.numel()


class DynamicConv(nn.Module):
    """Depth-wise convolution with predicted filters: one for each image and channel, or, with `heads`, one for each
    place and head, whose channels are contiguous."""

    def __init__(self, dim: int, kernel: int, hidden: int, heads: int | None) -> None:
        super().__init__()
        self.kernel = kernel
        network = FilterNetwork(dim, hidden, heads or dim, kernel, bias=heads is not None)
        # Names of their own: authors' keys differ between the two.
        self.image_filters = network if heads is None else None
        self.place_filters = None if heads is None else network
        self.bias = nn.Parameter(torch.zeros(dim)) if heads is None else None

    def filters(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the filters (B, 1, 1, C, k^2), or (B, H, W, G, k^2)."""
        if self.place_filters is not None:
            found: Tensor = self.place_filters(x)
        else:
            assert self.image_filters is not None
            found = self.image_filters(x.mean(dim=(2, 3), keepdim=True))
        return found

    def forward(self, x: Tensor, filters: Tensor) -> Tensor:
        """(B, C, H, W) and its filters to (B, C, H, W)."""
        heads = x.permute(0, 2, 3, 1).unflatten(3, (filters.shape[3], -1))  # (B, H, W, G, d)
        out = filtered(heads, (each[..., None] for each in by_offset(filters)), self.kernel).flatten(3)
        return (out if self.bias is None else out + self.bias).permute(0, 3, 1, 2)


@register_part("attention", "depthwise")
class DepthwiseAttention(Attention):
    """Depth-wise convolution in place of attention (DWNet: Han et al., ICLR 2022).

    New in it: 1x1 convolution, batch norm, ReLU; depth-wise convolution, batch norm, ReLU; 1x1 convolution, batch norm.
    Seen as local attention, its weights are those of the offsets, and do not depend on queries and keys. `dynamic`
    filters are predicted from the mean of the map, `inhomogeneous` ones at each place from its token; no softmax
    follows.

    The map is 0 outside, and any H x W is taken. Extra tokens, which no published model has, get the mean of what image
    tokens get. `record_attention` gives the filters (B, G, H W, k^2), G = C but for `inhomogeneous`, over the
    neighbours of each token row by row.

    Args:
        kernel: side k of the convolution, odd.
        filters: `static` for learned ones, `dynamic` for filters of each image and channel, `inhomogeneous` for filters
            of each place and head.
        heads: number G of inhomogeneous filters at a place; none for one a channel.
        reduction: divisor r of the width inside the network that predicts filters.
        attn_drop: dropout rate of the predicted filters.
        proj_drop: dropout rate of the output.

    Shapes: (B, P + H W, C) to the same. Cost: parameters 2 C^2 + 6 C and (k^2 + 1) C for `static`;
    (C + 2) C / r + (C / r + 1) k^2 C + C for `dynamic`; (C + 3) C / r + (C / r + 1) k^2 G for `inhomogeneous`;
    multiply-adds (2 C^2 + k^2 C) H W and (1 + k^2) C^2 / r for `dynamic`, (C + k^2 G) C H W / r for `inhomogeneous`.
    Same as Atten4Vis/DemystifyLocalViT. Differs: as released, its constructor replaces the dynamic convolution by a
    static one. In training `dynamic` needs at least two images, for its batch norm.

    Raises:
        ValueError: an even kernel, unknown filters, heads that do not divide C or with other filters than
            inhomogeneous, or a reduction that leaves no width.
    """

    needs = "raster"
    reads_grid = True
    extra_mean = True
    fused = "never"
    fused_reason = "filters are convolved with the values; there are no queries and keys"
    maps_are = "mixed"
    weights_in_a_row = 3

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 7,
        filters: Filters = "static",
        heads: int | None = None,
        reduction: int = 4,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        check_kernel(kernel)
        if filters not in get_args(Filters):
            raise ValueError(f"there are no filters {filters!r}: {nearest(filters, get_args(Filters))}")
        if heads is not None and filters != "inhomogeneous":
            raise ValueError(f"heads={heads} is of filters='inhomogeneous'; {filters} ones are of each channel")
        if filters != "static" and not 1 <= reduction <= dim:
            raise ValueError(f"reduction is from 1 to the width of {dim}, not {reduction}")
        self.heads = heads or dim
        head_width(dim, self.heads, None)
        self.kernel = kernel
        self.proj_in, self.norm_in = nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.conv: nn.Module = (
            nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
            if filters == "static"
            else DynamicConv(dim, kernel, dim // reduction, self.heads if filters == "inhomogeneous" else None)
        )
        self.norm, self.norm_out = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.proj = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        x = F.relu(self.norm_in(self.proj_in(tokens.map)))
        x = F.relu(self.norm(self._convolved(x)))
        x = self.dropped(self.norm_out(self.proj(x)))
        return with_image_mean(tokens, x.permute(0, 2, 3, 1).flatten(1, 2))

    def _convolved(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if isinstance(self.conv, DynamicConv):
            filters = self.conv.filters(x)
            self.show_filters(filters, (x.shape[0], *x.shape[2:]))
            out: Tensor = self.conv(x, F.dropout(filters, self.attn_drop, self.training))
            return out
        of_all = self.conv.weight.flatten(1)[None, None, None]  # type: ignore[operator]  # of an untyped module
        self.show_filters(of_all, (x.shape[0], *x.shape[2:]))
        convolved: Tensor = self.conv(x)
        return convolved

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The neighbours of each place."""
        return (Places(every(size[0] * size[1]) + extra, neighbours_of(size, extra, self.kernel)),)

    def macs(self, size: Size, extra: int = 0) -> int:
        """(2 C^2 + k^2 C) H W, and those of the network that predicts filters."""
        dim: int = self.proj.in_channels
        places = size[0] * size[1]
        total = (2 * dim * dim + self.kernel**2 * dim) * places
        if isinstance(self.conv, DynamicConv):
            network = self.conv.image_filters or self.conv.place_filters
            assert network is not None
            total += network.weights * (1 if self.conv.place_filters is None else places)
        return total
