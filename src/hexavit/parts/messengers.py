"""Messenger tokens: extra tokens of which one belongs to each window of a map, row by row (MSG-Transformer)."""

from __future__ import annotations

import torch
from torch import Tensor

from hexavit.errors import ArchitectureError
from hexavit.parts.attention.partition import ceil_div, crop_map, cut_windows, join_windows, pad_map
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.layers import known


def window_grid(size: Size, window: int) -> Size:
    """The number of windows of a side that cover a map, down and across."""
    return ceil_div(size[0], window), ceil_div(size[1], window)


def split_messengers(tokens: Tokens, grid: Size) -> tuple[Tensor, Tensor]:
    """Extra tokens apart: those before the messengers, as a class token (B, P - W, C), and the messengers (B, W, C).

    Raises:
        ArchitectureError: there are fewer than W extra tokens.
    """
    count, extra = grid[0] * grid[1], tokens.extra
    if not torch.compiler.is_compiling() and tokens.prefix < count:
        raise ArchitectureError(f"there are {tokens.prefix} extra tokens for {count} windows")
    assert extra is not None  # there is at least one window
    return extra[:, : tokens.prefix - count], extra[:, tokens.prefix - count :]


def exchanged(messengers: Tensor, grid: Size, region: int) -> Tensor:
    """Exchange channels between the messengers of each region of S x S windows.

    With channels in S^2 groups, group k of messenger g becomes group g of messenger k. Where a region at the border of
    the map has fewer windows, groups that would come from a missing one stay.

    Args:
        messengers: (B, W, C), row by row over `grid`.
        grid: number of windows down and across.
        region: side S of a region in windows; S^2 must divide C.
    """
    batch, _, dim = messengers.shape
    counts, square, group = window_grid(grid, region), (region, region), region**2
    after = counts[0] * region - grid[0], counts[1] * region - grid[1]

    def cut(x: Tensor) -> Tensor:
        regions = cut_windows(pad_map(x.unflatten(1, grid), (0, 0), after), counts, square)
        return regions.view(x.shape[0], counts[0] * counts[1], group, -1)

    groups = cut(messengers).unflatten(3, (group, dim // group))  # (B, R, S^2 messengers, S^2 groups, c)
    swapped = groups.transpose(2, 3)
    if not known(*after) or any(after):
        there = cut(torch.ones_like(messengers[:1, :, :1]))[:, :, None] != 0  # (1, R, 1, S^2, 1)
        swapped = torch.where(there, swapped, groups)
    joined = join_windows(swapped.reshape(batch * counts[0] * counts[1], group, dim), batch, counts, square)
    return crop_map(joined, grid)
