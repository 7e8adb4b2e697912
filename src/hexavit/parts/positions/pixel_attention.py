"""Pixel attention: a gate that a depth-wise convolution computes from a token's neighbourhood."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


@register_part("position", "pixel_attention")
class PixelAttention(PartModule):
    """x sigmoid(depth-wise convolution of x as a map), at a stage's entry (ResT: Zhang & Yang, NeurIPS 2021, section
    3.3, eq. 6, "PA").

    New in it, against PEG: the neighbourhood scales a token instead of being added to it, once a stage. Extra tokens go
    round it.

    Shapes: (B, P + H W, C) to the same. Cost with kernel k: parameters (k^2 + 1) C; multiply-adds k^2 C H W.
    Same as wofmanaf/ResT.

    Raises:
        ValueError: an even kernel, which would move the tokens.
    """

    needs = "raster"
    reads_grid = True
    acts = "tokens"

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} moves the tokens: use an odd one")
        self.kernel, self.dim = kernel, dim
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        gate: Tensor = self.conv(tokens.map).sigmoid()
        return tokens.with_image(tokens.image * gate.permute(0, 2, 3, 1).flatten(1, 2))

    def macs(self, size: Size, extra: int = 0) -> int:
        """k^2 C H W."""
        return self.kernel**2 * self.dim * size[0] * size[1]
