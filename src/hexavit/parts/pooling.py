"""Adaptive average pooling that exports correctly with dynamic sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts.contract import Size
from hexavit.parts.layers import is_tracing, known


def adaptive_average(image: Tensor, size: Size) -> Tensor:
    """Means over size[0] x size[1] bins that cover the map, uneven where it does not divide: (B, C, H, W) to
    (B, C, h, w), as `torch.nn.functional.adaptive_avg_pool2d`.

    Bin i of n covers rows floor(i H / n) to ceil((i + 1) H / n). Where sizes are symbols (an export with dynamic
    sizes), the bins become two averaging matrices, as exporters write the bins of the traced size into the graph.
    """
    if known(*image.shape[2:], *size):
        return F.adaptive_avg_pool2d(image, size)
    return _by_matrices(image, size, 0)


def bordered_average(image: Tensor, size: Size) -> Tensor:
    """`adaptive_average` with a row and a column of zeros behind the last: (B, C, h + 1, w + 1).

    For symbolic sizes: with the border no side is 1, which the exporter would specialise.
    """
    return _by_matrices(image, size, 1)


def without_borders(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """Indices of the h x w entries in concatenated grids of (h + 1) x (w + 1)."""
    number = torch.arange(sum(h * w for h, w in sizes), device=device)
    place, start, bordered = torch.zeros_like(number), 0, 0
    for h, w in sizes:
        here = number - start
        inside = (here >= 0) & (here < h * w)
        place = place + inside * (here + here // w + bordered)  # a border a row before it
        start, bordered = start + h * w, bordered + (h + 1) * (w + 1)
    return place


def _by_matrices(image: Tensor, size: Size, border: int) -> Tensor:
    rows, columns = (averaging(n, length, border, image) for n, length in zip(size, image.shape[2:], strict=True))
    return rows @ image @ columns.transpose(-2, -1)


def averaging(bins: int, length: int, border: int, like: Tensor) -> Tensor:
    """The matrix (bins + border, length) that averages `length` values into adaptive bins, and zeros behind."""
    at = torch.arange(length, device=like.device)
    number = torch.arange(bins + border, device=like.device)[:, None]
    inside = ((at + 1) * bins > number * length) & (at * bins < (number + 1) * length) & (number < bins)
    weight = inside.to(like.dtype)
    return weight / weight.sum(dim=1, keepdim=True).clamp(min=1)


def half_even(length: int, ratio: int) -> int:
    """round(length / ratio), halves to the even number, and at least 1; without a branch, so that it holds for symbols
    too: every 2 ratio of length give two, one of them beyond ratio / 2, the other from 3 ratio / 2 on."""
    rounded = (2 * length + 3 * ratio - 1) // (4 * ratio) + (2 * length + ratio) // (4 * ratio)
    if known(rounded):  # torch 2.11 captures no `sym_max` of numbers
        return max(rounded, 1)
    if is_tracing():
        return torch.as_tensor(rounded).clamp(min=1)  # type: ignore[return-value]  # a script's sizes are tensors
    at_least: int = torch.sym_max(rounded, 1)  # type: ignore[assignment]  # a symbol stands for a whole number
    return at_least
