"""CBAM's spatial attention as a gate on the tokens."""

from __future__ import annotations

import torch
from torch import nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


@register_part("position", "spatial_gate")
class SpatialGate(PartModule):
    """x sigmoid(conv([max, mean] of the channels)), at a stage's entry (CBAM: Woo et al., ECCV 2018, section 3, eq. 3).

    New in it, against `pixel_attention`: all channels of a token share one factor, computed from two numbers of each
    token by one convolution. ResT's paper names its gate "any spatial attention" (Zhang & Yang, NeurIPS 2021, section
    3.3). Extra tokens are unchanged.

    Shapes: (B, P + H W, C) to the same. Cost with kernel k: parameters 2 k^2, and 2 with a norm; multiply-adds
    2 k^2 H W.
    Same as Jongchan/attention-module, whose order is maximum, mean; timm's `SpatialModule` has mean, maximum.

    Args:
        kernel: side of the convolution, odd.
        norm: whether a batch norm follows the convolution, as in the authors' code (the paper names none).

    Raises:
        ValueError: an even kernel, which shifts the tokens.
    """

    acts = "tokens"
    needs = "raster"
    reads_grid = True

    def __init__(self, *, kernel: int = 7, norm: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        self.kernel = kernel
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        image = tokens.map
        read = torch.cat((image.amax(dim=1, keepdim=True), image.mean(dim=1, keepdim=True)), dim=1)
        gate = self.norm(self.conv(read)).sigmoid()  # (B, 1, H, W)
        return tokens.with_image(tokens.image * gate.flatten(2).transpose(1, 2))

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 k^2 H W."""
        return 2 * self.kernel**2 * size[0] * size[1]
