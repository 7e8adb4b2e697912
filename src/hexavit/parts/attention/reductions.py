"""Ways to reduce a map to fewer keys and values: strided, depth-wise, pooled, and pooled at several ratios."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.places import KeyGrid, bin_shares, kernel_shares
from hexavit.parts.contract import Size
from hexavit.parts.layers import known
from hexavit.parts.pooling import adaptive_average, bordered_average, half_even, without_borders


class Reduction(Protocol):
    """A module from a map (B, C, H, W) to tokens (B, M, C)."""

    def __call__(self, image: Tensor) -> Tensor: ...

    def tokens(self, size: Size) -> int:
        """M for a grid."""

    def macs(self, size: Size) -> int:
        """Multiply-adds for a grid."""

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The tokens as grids, and the cells of a map for which they stand."""


class StridedConv(nn.Module):
    """One convolution of stride R: of kernel R over all channels (PVT), or depth-wise of kernel R + 1 (ResT).

    A map smaller than the kernel is padded with zeros; the authors' code raises an error for it.
    """

    def __init__(self, dim: int, ratio: int, depthwise: bool) -> None:
        super().__init__()
        self.ratio, self.kernel = ratio, ratio + depthwise
        self.padding = ratio // 2 if depthwise else 0
        groups = dim if depthwise else 1
        self.conv = nn.Conv2d(dim, dim, self.kernel, stride=ratio, padding=self.padding, groups=groups)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, M, C)."""
        wanting = [self._wanting(n) for n in image.shape[2:]]
        if any(wanting):
            image = F.pad(image, (0, wanting[1], 0, wanting[0]))
        return as_tokens(self.conv(image))

    def _wanting(self, length: int) -> int:
        # A traced size has no value to compare; it is taken to be large enough.
        return max(0, self.kernel - 2 * self.padding - length) if isinstance(length, int) else 0

    def tokens(self, size: Size) -> int:
        """The places of the kernel."""
        return self._side(size[0]) * self._side(size[1])

    def _side(self, n: int) -> int:
        return (n + self._wanting(n) + 2 * self.padding - self.kernel) // self.ratio + 1

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells that the kernel reads."""
        return (KeyGrid.pooled(size, kernel_shares(self.kernel, self.ratio, self.padding, self._side)),)

    def macs(self, size: Size) -> int:
        """kernel^2 C^2 M, depth-wise kernel^2 C M."""
        return self.conv.weight.numel() * self.tokens(size)


class PooledConv(nn.Module):
    """Adaptive average pooling to a fixed grid, then a 1x1 convolution (PVT v2's linear attention)."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, side^2, C)."""
        return as_tokens(self.conv(adaptive_average(image, (self.side, self.side))))

    def tokens(self, size: Size) -> int:
        """side^2."""
        return self.side**2

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The bins."""
        return (KeyGrid.pooled(size, partial(bin_shares, self.side)),)

    def macs(self, size: Size) -> int:
        """C^2 side^2."""
        return self.conv.weight.numel() * self.side**2


class PyramidPool(nn.Module):
    """Adaptive average pooling at several ratios, each p + depth-wise convolution of p, one behind the other (P2T).

    A stage's blocks share the convolutions: they stand in `shared`, under `level0`, `level1`, ... A map is pooled to
    round(H / ratio) rows, halves to the even number, and at least 1 (the authors' code fails at 0).
    """

    def __init__(self, dim: int, ratios: tuple[int, ...], shared: nn.ModuleDict) -> None:
        super().__init__()
        self.dim, self.ratios = dim, ratios
        for i in range(len(ratios)):
            if f"level{i}" not in shared:
                shared[f"level{i}"] = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        # In a tuple, as the stage owns them.
        self.convs = tuple(shared[f"level{i}"] for i in range(len(ratios)))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, M, C)."""
        sizes = [_pooled(image.shape[2:], ratio) for ratio in self.ratios]
        if known(*(side for size in sizes for side in size)):
            return torch.cat([self._level(i, adaptive_average(image, size)) for i, size in enumerate(sizes)], dim=1)
        bordered = [self._level(i, bordered_average(image, size)) for i, size in enumerate(sizes)]
        return torch.cat(bordered, dim=1).index_select(1, without_borders(sizes, image.device))

    def _level(self, i: int, pooled: Tensor) -> Tensor:
        return as_tokens(pooled + self.convs[i](pooled))

    def tokens(self, size: Size) -> int:
        """The sum over the ratios."""
        return sum(h * w for h, w in (_pooled(size, ratio) for ratio in self.ratios))

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The bins of each ratio; what the convolution adds of neighbouring bins is left out."""
        return tuple(
            KeyGrid((h, w), bin_shares(h, size[0]), bin_shares(w, size[1]))
            for h, w in (_pooled(size, ratio) for ratio in self.ratios)
        )

    def macs(self, size: Size) -> int:
        """9 C M."""
        return 9 * self.dim * self.tokens(size)


def _pooled(size: torch.Size | Size, ratio: int) -> Size:
    return half_even(size[0], ratio), half_even(size[1], ratio)


def as_tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C); a view where the memory is channels-last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)
