"""Conditional position encoding: a depth-wise convolution that reads a token's neighbourhood."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


class NeighbourhoodPosition(PartModule):
    """Base of the positions that a depth-wise convolution of odd kernel k reads from a token's neighbourhood.

    Raises:
        ValueError: an even kernel, which would move the tokens.
    """

    needs = "raster"
    reads_grid = True

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} moves the tokens: use an odd one")
        self.kernel, self.dim = kernel, dim
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def neighbourhood(self, tokens: Tokens) -> Tensor:
        """The convolution of the image tokens (B, H W, C)."""
        out: Tensor = self.conv(tokens.map)
        return out.permute(0, 2, 3, 1).flatten(1, 2)

    def macs(self, size: Size, extra: int = 0) -> int:
        """k^2 C H W."""
        return self.kernel**2 * self.dim * size[0] * size[1]


@register_part("position", "peg")
class PEG(NeighbourhoodPosition):
    """Position encoding generator (CPVT: Chu et al., ICLR 2023, section 3.2): x + depth-wise convolution of x as a map.

    New in it: position comes from the neighbours and from the zero padding at the border, after a block, so any size
    computes as at the built one. Extra tokens go round it.

    Shapes: (B, P + H W, C) to the same. Cost with kernel k: parameters (k^2 + 1) C; multiply-adds k^2 C H W.
    Same as the generator of Meituan-AutoML/Twins, where it is placed after the first block of every stage, and exempt
    from weight decay.

    Raises:
        ValueError: an even kernel, which would move the tokens.
    """

    acts = "block"
    no_decay = ("conv.weight",)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        return tokens.with_image(tokens.image + self.neighbourhood(tokens))
