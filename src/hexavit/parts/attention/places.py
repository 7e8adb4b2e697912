"""Where the queries and the keys of attention weights stand, for tools that show maps on the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hexavit.parts.attention.filters import neighbours
from hexavit.parts.attention.partition import cut_windows, pad_map
from hexavit.parts.contract import Size

NOWHERE = -1
"""The number of padding."""


class Weights(NamedTuple):
    """The attention weights of one call of `Attention.attend`, or of what stands for it, of which any piece can be
    computed.

    Attributes:
        shape: (B W, h, N, M) of all of them.
        rows: computes those of a slice of the windows and a slice of the queries: (w, h, n, M).
        values: (B W, h, M, d), where keys are those of a window; None for filters.
        out: (B W, h, N, d), the weighed values; None for filters.
    """

    shape: tuple[int, ...]
    rows: Callable[[slice, slice], Tensor]
    values: Tensor | None = None
    out: Tensor | None = None

    @classmethod
    def of(cls, maps: Tensor) -> Weights:
        """Those of maps that exist."""
        return cls(tuple(maps.shape), lambda windows, queries: maps[windows][:, :, queries])


class Places(NamedTuple):
    """The tokens of one call's weights.

    Tokens are numbered: extra tokens first, then the cells of the grid row by row; padding is -1. Queries are numbered
    on the grid `Attention.query_grid`, keys on those of `Attention.key_grids`, one behind the other.

    Attributes:
        queries: (W, N).
        keys: (W, 1, M), or (W, N, M) where each query has keys of its own.
        heads: which heads of the part the call has; those of several calls add up.
    """

    queries: Tensor
    keys: Tensor
    heads: slice = slice(None)


@dataclass(frozen=True)
class KeyGrid:
    """A grid of keys, and the cells of the map for which each stands.

    Attributes:
        rows: (h, H): the shares of the map's rows in a row of keys; None for one each.
        columns: (w, W): those of the columns.
        size: (h, w).
    """

    size: Size
    rows: Tensor | None = None
    columns: Tensor | None = None

    def on_cells(self, weights: Tensor) -> Tensor:
        """Spread weights of keys (..., h, w) over the cells (..., H, W). The sum stays."""
        if self.rows is not None:
            weights = self.rows.to(weights).T @ weights
        return weights if self.columns is None else weights @ self.columns.to(weights)

    @classmethod
    def pooled(cls, size: Size, share: Callable[[int], Tensor]) -> KeyGrid:
        """A grid whose keys stand for cells of a map by a matrix (h, H) for each side H."""
        rows, columns = share(size[0]), share(size[1])
        return cls((rows.shape[0], columns.shape[0]), rows, columns)


def kernel_shares(kernel: int, stride: int, padding: int, count: Callable[[int], int]) -> Callable[[int], Tensor]:
    """For a side of n cells the shares (count(n), n) of what a kernel reads inside of the map (`shares_of`)."""

    def shares(n: int) -> Tensor:
        first = torch.arange(count(n))[:, None] * stride - padding
        at = torch.arange(n)
        return shares_of((at >= first) & (at < first + kernel))

    return shares


def bin_shares(bins: int, n: int) -> Tensor:
    """The shares (bins, n) of adaptive average pooling."""
    number, at = torch.arange(bins)[:, None], torch.arange(n)
    return shares_of(((at + 1) * bins > number * n) & (at * bins < (number + 1) * n))


def shares_of(inside: Tensor) -> Tensor:
    """Whether each key reads each cell, (h, H), as shares in inverse proportion to the number of keys that read a cell:
    keys of equal weight then give cells of equal weight. Rows sum to 1, or to 0 where nothing is inside."""
    shares = inside / inside.sum(dim=0).clamp(min=1)
    return shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-12)


def every(count: int) -> Tensor:
    """The numbers of tokens as one window: (1, N)."""
    return torch.arange(count)[None]


def numbered(size: Size, first: int = 0) -> Tensor:
    """The numbers of the cells of a grid, 1 too high so that padding with 0 stays apart: (1, H, W, 1)."""
    return torch.arange(first + 1, first + math.prod(size) + 1).view(1, *size, 1)


def windows_of(
    size: Size,
    first: int,
    counts: Size,
    window: Size,
    *,
    before: Size = (0, 0),
    shift: Sequence[int] = (0, 0),
    spread: bool = False,
) -> Tensor:
    """The numbers of the cells in each window: (W, N), with as much padding behind the map as the windows reach.

    Args:
        size: grid of the cells.
        first: number of extra tokens.
        counts: windows down and across.
        window: (h, w).
        before: padding at the top and at the left.
        shift: by how much the map is rolled upwards and to the left.
        spread: as `cut_windows` has it.
    """
    after = tuple(count * side - start - n for count, side, start, n in zip(counts, window, before, size, strict=True))
    grid = pad_map(numbered(size, first), before, (after[0], after[1])).roll((-shift[0], -shift[1]), (1, 2))
    return cut_windows(grid, counts, window, spread)[:, :, 0] - 1


def neighbours_of(size: Size, first: int, kernel: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """The numbers of the neighbours of each place: (1, N, k^2)."""
    seen = neighbours(numbered(size, first), kernel, stride, dilation)
    return torch.stack([each.flatten() for each in seen], dim=-1)[None] - 1
