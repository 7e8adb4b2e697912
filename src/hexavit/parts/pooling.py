"""Adaptive average pooling that keeps its meaning in a graph whose sizes are not known yet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts.contract import Size


def adaptive_average(image: Tensor, size: Size) -> Tensor:
    """Means over size[0] x size[1] bins that cover the map, uneven where it does not divide: (B, C, H, W) to
    (B, C, h, w), as `torch.nn.functional.adaptive_avg_pool2d`.

    Bin i of n covers rows floor(i H / n) to ceil((i + 1) H / n). Where sizes are symbols (an export with dynamic
    sizes), the bins become two averaging matrices, as exporters write the bins of the traced size into the graph.
    """
    height, width = image.shape[2:]
    if all(isinstance(n, int) for n in (height, width, *size)):
        return F.adaptive_avg_pool2d(image, size)
    rows, columns = averaging(size[0], height, image), averaging(size[1], width, image)
    return rows @ image @ columns.mT


def averaging(bins: int, length: int, like: Tensor) -> Tensor:
    """The matrix (bins, length) that averages `length` values into adaptive bins."""
    at = torch.arange(length, device=like.device)
    number = torch.arange(bins, device=like.device)[:, None]
    inside = ((at + 1) * bins > number * length) & (at * bins < (number + 1) * length)
    weight = inside.to(like.dtype)
    return weight / weight.sum(dim=1, keepdim=True)


def half_even(length: int, ratio: int) -> int:
    """round(length / ratio), halves to the even number, and at least 1; in whole numbers without a branch, so that it
    holds for symbols too."""
    rounded = (2 * length + ratio) // (2 * ratio)  # halves go up
    rest = (2 * length + ratio) % (2 * ratio)
    is_half = 1 - (rest + 2 * ratio - 1) // (2 * ratio)
    rounded = rounded - is_half * (rounded % 2)
    return rounded + 1 // (rounded + 1)
