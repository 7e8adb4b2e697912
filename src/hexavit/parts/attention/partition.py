"""Cutting a map into windows of any height and width, of neighbours or spread apart, and joining them again."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts.contract import Size
from hexavit.parts.layers import known
from hexavit.parts.reshaping import reshaped


def ceil_div(n: int, side: int) -> int:
    """How many windows of a side cover n tokens."""
    return (n + side - 1) // side  # not -(-n // side): ONNX rounds a negative quotient towards 0


def strided(size: Size, stride: int) -> Size:
    """The grid behind a padded convolution of odd kernel: ceil(H / stride)."""
    return ceil_div(size[0], stride), ceil_div(size[1], stride)


def cut_windows(grid: Tensor, counts: Size, window: Size, spread: bool = False) -> Tensor:
    """Cut a map that whole windows cover.

    Args:
        grid: (B, H, W, ...) with H = down x h and W = across x w.
        counts: number of windows down and across.
        window: (h, w), tokens of a window.
        spread: put tokens that are H / h rows and W / w columns apart into one window, instead of neighbours.

    Returns:
        (B x down x across, h w, ...), the tokens of a window row by row.
    """
    (down, across), (h, w) = counts, window
    batch, rest = grid.shape[0], grid.shape[3:]
    if spread:
        windows = reshaped(grid, (batch, h), down, w, across, *rest).movedim((2, 4), (1, 2))
    else:  # few axes, as each costs a compiler time
        windows = reshaped(grid, (batch * down,), h, across, w * math.prod(rest)).transpose(1, 2)
    return reshaped(windows, (batch * down * across,), h * w, *rest)


def join_windows(windows: Tensor, batch: int, counts: Size, window: Size, spread: bool = False) -> Tensor:
    """The inverse of `cut_windows`: (B x down x across, h w, ...) to (B, H, W, ...)."""
    (down, across), (h, w) = counts, window
    rest = windows.shape[2:]
    if spread:
        grid = reshaped(windows, (batch, down), across, h, w, *rest).movedim((1, 2), (2, 4))
    else:
        grid = reshaped(windows, (batch * down,), across, h, w * math.prod(rest)).transpose(1, 2)
    return reshaped(grid, (batch, down * h), across * w, *rest)


def pad_map(grid: Tensor, before: Size, after: Size) -> Tensor:
    """Zeros around (B, H, W, ...): `before` at the top and at the left, `after` at the bottom and at the right."""
    if known(*before, *after) and not any((*before, *after)):
        return grid
    return F.pad(grid, (*(0, 0) * (grid.ndim - 3), before[1], after[1], before[0], after[0]))


def crop_map(grid: Tensor, size: Size, before: Size = (0, 0)) -> Tensor:
    """The tokens (B, H W, C) of a map (B, H', W', C) behind the padding `before`."""
    if known(*size, *before):
        top, left = before
        if tuple(grid.shape[1:3]) != tuple(size):  # padding by less than 0 costs a compiler less than a slice
            below, right = size[0] - grid.shape[1] + top, size[1] - grid.shape[2] + left
            grid = F.pad(grid, (0, 0, -left, right, -top, below))
        # A compiler then goes on with `size`, the shorter expressions.
        return reshaped(grid, (grid.shape[0], size[0] * size[1]), grid.shape[3])
    # Whether there is anything to cut off differs from size to size, and a slice would ask it of a traced one.
    rows, columns = (torch.arange(n, device=grid.device) + start for n, start in zip(size, before, strict=True))
    return grid.flatten(1, 2).index_select(1, (rows[:, None] * grid.shape[2] + columns).flatten())
