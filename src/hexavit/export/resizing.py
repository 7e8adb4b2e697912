"""Preprocessing inside an exported graph: resize, centre crop and normalise bytes of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec

_REACH = {"bilinear": 1, "bicubic": 2}  # of the filters, in pixels of the smaller image


class GraphPreprocessing(nn.Module):
    """`InputSpec.transform` for decoded images of 8 bits, made of integer arithmetic and two matrix products.

    Each output pixel is a weighted sum of a row of the image, rounded to a byte, then of a column, rounded again, as
    in Pillow's resize with its antialiasing filters. Only pixels that the crop keeps are computed. Sizes stay
    integers of any value, so one graph takes images of all sizes.

    Pillow's weights are fixed-point numbers: single values differ from its by 1/255, fewer than 0.5 % in a photograph
    and up to 8 % where a small image is resized by a ratio of small numbers, as sums then lie between two bytes.

    Shapes: bytes (N, H, W, C) to float32 (N, C, size[0], size[1]).

    Args:
        spec: of the model's input.

    Raises:
        HexavitError: an input that is neither grey nor RGB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        if not spec.of_pictures:
            raise HexavitError(
                f"preprocessing in the graph is for grey or RGB images, not for {spec.channels} channels"
            )
        self.spec = spec
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(-1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """The normalised image of the model's size."""
        height, width = (torch.scalar_tensor(n, dtype=torch.int64) for n in image.shape[1:3])
        new_height, new_width = self._resized(height, width)
        rows = self._weights(image.shape[1], height, new_height, self.spec.size[0])  # (h, H)
        columns = self._weights(image.shape[2], width, new_width, self.spec.size[1])  # (w, W)
        pixels = image.permute(0, 3, 1, 2).float()
        pixels = _as_bytes(pixels @ columns.mT)
        pixels = _as_bytes(rows @ pixels)
        return (pixels - self.mean) / self.std

    def _resized(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Height and width after the resize."""
        rows, columns = (math.floor(side / self.spec.crop_pct) for side in self.spec.size)
        if self.spec.crop_mode == "squash":
            return torch.full_like(height, rows), torch.full_like(width, columns)
        # The side that is shorter in proportion fits; the aspect ratio stays.
        high = height * columns >= width * rows
        if rows == columns:  # torchvision's Resize rounds down
            long, wide = _divided(height * columns, width), _divided(width * rows, height)
        else:  # timm's ResizeKeepRatio rounds to the nearest
            long, wide = _rounded(height * columns, width), _rounded(width * rows, height)
        return torch.where(high, long, rows), torch.where(high, columns, wide)

    def _weights(self, count: int, length: Tensor, resized: Tensor, kept: int) -> Tensor:
        """Weights (kept, count) of the pixels of a side in the pixels that the crop keeps of it."""
        over = resized - kept
        half = _divided(over, 2)
        first = half + (over % 2) * (half % 2)  # Python's round(over / 2), which rounds halves to even numbers
        out = (first + torch.arange(kept))[:, None]
        into = torch.arange(count)
        # Distance of the pixels' centres in pixels of the smaller image.
        distance = (2 * into + 1) * resized - (2 * out + 1) * length
        x = distance.float().abs() / (2 * torch.maximum(length, resized)).float()
        weights = (1 - x).clamp(min=0) if self.spec.interpolation == "bilinear" else _cubic(x)
        return weights / weights.sum(dim=1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _as_bytes(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _divided(a: Tensor, b: Tensor | int) -> Tensor:
    """The quotient of numbers that are not negative, rounded down."""
    return torch.div(a, b, rounding_mode="trunc")


def _rounded(a: Tensor, b: Tensor) -> Tensor:
    """The quotient of positive numbers, rounded to the nearest, halves to even numbers."""
    up = _divided(2 * a + b, 2 * b)
    return up - ((2 * a + b) % (2 * b) == 0).long() * (up % 2)
