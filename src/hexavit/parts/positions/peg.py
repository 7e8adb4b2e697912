"""Conditional position encoding: a depth-wise convolution over neighbouring tokens."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


class NeighbourhoodPosition(PartModule):
    """Base of position parts that are a depth-wise convolution with an odd kernel k.

    Raises:
        ValueError: an even kernel, which shifts the tokens.
    """

    needs = "raster"
    reads_grid = True

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
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

    New in it: the position comes from neighbouring tokens and from the zero padding at the border, after a block. It
    works for any size. Extra tokens are unchanged.

    Shapes: (B, P + H W, C) to the same. Cost with kernel k: parameters (k^2 + 1) C; multiply-adds k^2 C H W.
    Same as the generator of Meituan-AutoML/Twins, which is placed after the first block of every stage and has no
    weight decay.

    Raises:
        ValueError: an even kernel, which shifts the tokens.
    """

    acts = "block"
    no_decay = ("conv.weight",)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        return tokens.with_image(tokens.image + self.neighbourhood(tokens))
