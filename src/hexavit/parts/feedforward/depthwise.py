"""A depth-wise convolution over the map, for a branch between an attention and a feedforward."""

from __future__ import annotations

import torch
from torch import nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


@register_part("feedforward", "depthwise_conv")
class DepthwiseConv(PartModule):
    """A depth-wise convolution alone: the neighbour-window connection (Shuffle Transformer: Huang et al., 2021,
    section 3.3).

    New in it: with a kernel as wide as the windows of the attention before it, each window reads its neighbours. It
    stands as a third branch between attention and feedforward.

    Args:
        kernel: side k of the convolution, odd.
        bias: whether the convolution has a bias.

    Shapes: (B, P + H W, C) to the same; 0 for extra tokens, which have no place. Cost: parameters k^2 C, with `bias`
    C more; multiply-adds k^2 C H W.

    Raises:
        ValueError: an even kernel.
    """

    needs = "raster"
    reads_grid = True
    last = "conv"
    weights_in_a_row = 1

    def __init__(self, dim: int, *, kernel: int = 7, bias: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        out = tokens.with_image(self.conv(tokens.map).permute(0, 2, 3, 1).flatten(1, 2))
        held = tokens.extra
        return out if held is None else out.replace_extra(torch.zeros_like(held))

    def macs(self, size: Size, extra: int = 0) -> int:
        """k^2 C H W."""
        return self.conv.weight.numel() * size[0] * size[1]
