"""Filters over the neighbours of each token: their sum, their normalisation, and what extra tokens get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from hexavit.parts.attention.partition import pad_map, strided
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.layers import without_autocast

GAIN = 2**0.5
"""Standard deviation of a normed filter of k^2 values, times k: the gain of a ReLU."""
_CONSTANT = 1e-20
"""Variance up to which a filter is constant."""


def check_kernel(kernel: int, dilation: int = 1) -> None:
    """Raise for a kernel that has no middle, and for a dilation below 1."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
    if dilation < 1:
        raise ValueError(f"dilation is at least 1, not {dilation}")


def neighbours(grid: Tensor, kernel: int, stride: int = 1, dilation: int = 1) -> Iterator[Tensor]:
    """A map seen from each offset of a kernel, row by row.

    Args:
        grid: (B, H, W, ...), 0 outside.
        kernel: side k of the kernel, odd.
        stride: distance of the places.
        dilation: distance d of the offsets: d (i - k // 2) rows down for the row i of the kernel.

    Yields:
        k^2 views (B, H', W', ...) of the padded map, H' = ceil(H / stride).
    """
    side = dilation * (kernel // 2)
    padded = pad_map(grid, (side, side), (side, side))
    rows, columns = (stride * (n - 1) + 1 for n in strided((grid.shape[1], grid.shape[2]), stride))
    for i in range(0, dilation * kernel, dilation):
        for j in range(0, dilation * kernel, dilation):
            yield padded[:, i : i + rows : stride, j : j + columns : stride]


def filtered(grid: Tensor, filters: Iterable[Tensor], kernel: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """sum over o of F_o x_{i + o}: the sum of neighbours, each times its filter.

    Computed offset by offset, in float32 at least: no tensor of k^2 maps is made.

    Args:
        grid: values x (B, H, W, ...), 0 outside.
        filters: for each of the k^2 offsets, row by row, factors that broadcast to (B, H', W', ...).
        kernel: side k.
        stride: distance of the places.
        dilation: distance of the offsets.

    Returns:
        (B, H', W', ...), H' = ceil(H / stride).
    """
    with without_autocast(grid):
        wide = grid.float() if grid.dtype.itemsize < 4 else grid
        total: Tensor | None = None
        for seen, factor in zip(neighbours(wide, kernel, stride, dilation), filters, strict=True):
            total = torch.zeros_like(seen) if total is None else total
            total = torch.addcmul(total, seen, factor.to(wide.dtype))
    assert total is not None  # a kernel has an offset
    return total.to(grid.dtype)


def by_offset(filters: Tensor) -> tuple[Tensor, ...]:
    """(..., k^2) as k^2 contiguous tensors (...)."""
    return filters.movedim(-1, 0).contiguous().unbind(0)


def filter_norm(filters: Tensor) -> Tensor:
    """Filters (..., M) minus their mean, by their standard deviation with M - 1 (DDF: Zhou et al., CVPR 2021). Constant
    filters become 0 and get no gradient."""
    with without_autocast(filters):
        wide = filters.float() if filters.dtype.itemsize < 4 else filters
        variance, mean = torch.var_mean(wide, dim=-1, keepdim=True)
        normed = (wide - mean) * variance.clamp_min(_CONSTANT).rsqrt()
        return torch.where(variance > _CONSTANT, normed, 0.0)


def with_image_mean(tokens: Tokens, image: Tensor, size: Size | None = None) -> Tokens:
    """Tokens with these image tokens (B, N, C). Each extra token gets the mean of them: it has no neighbours, and reads
    the whole map."""
    out = tokens.with_image(image, size)
    held = tokens.extra
    return out if held is None else out.replace_extra(image.mean(dim=1, keepdim=True).expand(-1, held.shape[1], -1))
