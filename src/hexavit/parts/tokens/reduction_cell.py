"""ViTAE's reduction cell: a pyramid of dilated convolutions, a Performer layer and convolutions in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import known
from hexavit.parts.registry import register_part
from hexavit.parts.tokens.tokens_to_token import T2TLayer

_STRIDES = {1: (1, 1, 1), 2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}
"""Strides of the parallel convolutions, by the stride of the cell."""


@register_part("tokens", "reduction_cell")
class ReductionCell(PartModule):
    """Reduction cell (ViTAE: Xu et al., NeurIPS 2021): convolutions of several dilations side
    by side, concatenated; one head of Performer attention over them, with its values as the skip; three convolutions of
    the input in parallel; a feedforward of ratio 1.

    New in it, against patches: a token has seen its surroundings at several scales, and locality comes from the
    parallel convolutions.

    p = concat_d GELU(conv_d(x)); y = v + W_o attend(norm(p)) + PCM(x); out = y + mlp(norm(y)). PCM is conv 3x3, act,
    conv 3x3, batch norm, act, conv 3x3, act. Without `attend` the output is p.

    Shapes: (B, H, W, C_in) to (B, ceil(H / s), ceil(W / s), C) for a stride s; a map that s does not divide is padded
    with zeros at the bottom and at the right. Cost at N tokens with D dilations and width E: parameters
    D (k^2 C_in + 1) E for p, those of `T2TLayer` from D E to C, and 9 (C_in E + E^2 + E C) + 4 E + C for PCM;
    multiply-adds N D k^2 C_in E, those of the layer, and those of PCM.
    Same as ViTAE-Transformer/ViTAE-Transformer, where sides must be multiples of 16. Its third cell is the pyramid
    alone. Dropout of rate 0.1 follows W_o and the feedforward in training.

    Args:
        kernel: side k of the pyramid's convolutions, odd.
        stride: 1, 2, 4 or 8.
        dilations: one convolution for each.
        attend: whether the attention, the parallel convolutions and the feedforward follow the pyramid.
        embed_dim: width E of each convolution; None for C / D.
        eps: epsilon of the norms, None for the model's.

    Raises:
        ValueError: an even kernel, another stride, no dilation or one below 1, or, without `attend`, a width D E that
            is not C.
    """

    needs = "raster"
    reads_grid = True
    keeps_extra = False
    first_conv = "pyramid.0"

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """The attention and the feedforward."""
        return (("attention", "performer"), ("feedforward", "mlp")) if chosen["attend"] else ()

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        kernel: int = 3,
        stride: int = 2,
        dilations: tuple[int, ...] = (1, 2),
        attend: bool = True,
        embed_dim: int | None = None,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        if stride not in _STRIDES:
            raise ValueError(f"stride must be 1, 2, 4 or 8, not {stride}")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations must be one or more numbers of at least 1, not {dilations}")
        width = max(1, dim // len(dilations)) if embed_dim is None else embed_dim
        if width < 1 or (not attend and width * len(dilations) != dim):
            raise ValueError(
                f"{len(dilations)} convolutions of width {width} give {width * len(dilations)} channels: without "
                f"`attend` they must give dim={dim}"
            )
        self.kernel, self.stride, self.dim = kernel, stride, dim
        self.pyramid = nn.ModuleList(
            nn.Conv2d(in_dim, width, kernel, stride=stride, padding=_padding(kernel, stride, d), dilation=d)
            for d in dilations
        )
        self.act = nn.GELU()
        self.layer: T2TLayer | None = None
        if attend:
            eps = norm_eps if eps is None else eps
            self.layer = T2TLayer(width * len(dilations), dim, eps, "performer", drop=0.1)
            first, second, third = _STRIDES[stride]
            self.parallel = nn.Sequential(
                nn.Conv2d(in_dim, width, 3, stride=first, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, stride=second, padding=1),
                nn.BatchNorm2d(width),
                nn.SiLU(),
                nn.Conv2d(width, dim, 3, stride=third, padding=1),
                nn.SiLU(),
            )

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H', W', C)."""
        (h, w), image = tokens.size, tokens.map
        if not known(h, w) or h % self.stride or w % self.stride:
            image = F.pad(image, (0, -w % self.stride, 0, -h % self.stride))
        maps = torch.cat([self.act(conv(image)) for conv in self.pyramid], dim=1)
        pyramid = Tokens.of_map(maps).with_carry(**tokens.carry)
        if self.layer is None:
            return pyramid
        beside = Tokens.of_map(self.parallel(image)).image
        out: Tokens = self.layer(pyramid, beside)
        return out.with_carry(**tokens.carry)

    def out_size(self, size: Size) -> Size:
        """ceil(H / s), ceil(W / s)."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def macs(self, size: Size, extra: int = 0) -> int:
        """The pyramid's, the layer's and the parallel convolutions'."""
        h, w = self.out_size(size)
        total = h * w * sum(m.weight.numel() for m in self.pyramid.children() if isinstance(m, nn.Conv2d))
        if self.layer is None:
            return total
        total += self.layer.macs((h, w))
        h, w = h * self.stride, w * self.stride
        for conv in self.parallel:
            if isinstance(conv, nn.Conv2d):
                h, w = h // conv.stride[0], w // conv.stride[0]
                total += h * w * conv.weight.numel()
        return total


def _padding(kernel: int, stride: int, dilation: int) -> int:
    """The padding with which a grid that the stride divides is divided by it."""
    return max(0, -(-((kernel - 1) * dilation + 1 - stride) // 2))
